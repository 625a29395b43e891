# Every target sets up what it needs in .venv; see `make help`.

VENV := .venv
BIN := $(VENV)/bin
# Errors only.
PIP_INSTALL := pip install -qq --disable-pip-version-check
# An interpreter to use instead of the one found: make PYTHON=/path/to/python3.13 run
PYTHON =

# What an active environment exports would otherwise reach into ours.
unexport CONDA_PREFIX VIRTUAL_ENV PIP_PREFIX PIP_TARGET PIP_USER PYTHONHOME PYTHONPATH

.NOTPARALLEL:
.PHONY: help run test test-slow test-all notebooks stress calibrate bench lab screens lint lock clean

help:
	@echo "make run    execute the notebooks of notebooks/plans/primary.yaml and write a report"
	@echo "make test   linters, types, fast tests, and the notebooks against their saved outputs"
	@echo "make test-slow  the tests that take long; make test-all is both"
	@echo "make stress kill a batch at 50 random moments, and workers of a cluster; compare results"
	@echo "make bench  time the engines; with BASE=REVISION beside an older revision, in the same run"
	@echo "make notebooks  make anew what is kept and made from data/: the notebooks' outputs, the"
	@echo "            README's figure, results; says what changed"
	@echo "make calibrate  make data/calibration.json anew even if nothing asks for it"
	@echo "make lab    open the notebooks in JupyterLab"
	@echo "make screens  every notebook in JupyterLab in a browser; screenshots in build/lab"
	@echo "make lint   linters and types only"
	@echo "make lock   resolve requirements.txt anew from pyproject.toml"
	@echo "make clean  remove the environment and caches (not runs/)"
	@echo "The first of them creates .venv, which takes some minutes; later ones start at once."

# The stamps are written last, so that an interrupted set-up is taken up again. Other versions mean
# a new environment, since pip would leave packages that are no longer wanted.
$(VENV)/packages.stamp: requirements.txt
	@python=$$(sh .ci/find-python $(if $(PYTHON),"$(PYTHON)")) && \
	echo "creating $(VENV) with $$("$$python" --version) ($$python)" && \
	"$$python" -m venv --clear $(VENV)
	@echo "installing the packages of requirements.txt (some minutes)"
	@$(BIN)/python -m $(PIP_INSTALL) -r requirements.txt
	@touch $@

$(VENV)/dfsp.stamp: $(VENV)/packages.stamp pyproject.toml
	@echo "installing dfsp, editable"
	@$(BIN)/python -m $(PIP_INSTALL) --no-deps --editable .
	@$(BIN)/python -m compileall -q dfsp
	@touch $@

run: $(VENV)/dfsp.stamp
	@$(BIN)/dfsp batch notebooks/plans/primary.yaml
	@$(BIN)/dfsp report runs
	@$(BIN)/python -c "import csv; runs = csv.DictReader(open('runs/results.csv', encoding='utf-8')); \
		print(*(r['headline'] for r in runs if r['notebook'] == '02_response.ipynb'), sep='\n')"
	@echo "Each folder under runs/ holds the executed notebook, its tables and figures, and record.json."

lint: $(VENV)/dfsp.stamp
	@.ci/timed lint sh -ec '$(BIN)/ruff check . && $(BIN)/ruff format --check . && \
		$(BIN)/lint-imports --no-logo --no-cache'
	@.ci/timed types $(BIN)/mypy -n auto

# Files go to two processes, in the order of tests/conftest.py: tests, the package's examples, and the
# notebooks against their outputs. Two processes fill two cores: more threads of linear algebra cost a fifth;
# and less optimised models of PyMC, which sample as fast here, are compiled in two thirds of the time.
PYTEST = env OMP_NUM_THREADS=1 NUMBA_OPT=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder
NBVAL = --nbval-lax --nbval-current-env --nbval-cell-timeout=600

test: lint
	@.ci/timed "fast tests and notebooks" $(PYTEST) -m "not slow" --doctest-modules $(NBVAL) \
		tests dfsp notebooks

test-slow: $(VENV)/dfsp.stamp
	@.ci/timed "slow tests" $(PYTEST) -m slow

test-all: test test-slow

stress: $(VENV)/dfsp.stamp
	DFSP_KILLS=50 $(BIN)/python -m pytest -k kill tests/test_batches.py tests/test_clusters.py

calibrate: $(VENV)/dfsp.stamp
	$(BIN)/python -c "from dfsp.analyses.calibration.store import remake, stored_checks; remake(); print(stored_checks())"

notebooks: $(VENV)/dfsp.stamp
	$(BIN)/python tests/remake.py

# An older revision to compare with, for example main or HEAD~3.
BASE =

bench: $(VENV)/dfsp.stamp
	@$(BIN)/python tests/benchmarks/run.py $(BASE)

lab: $(VENV)/dfsp.stamp
	$(BIN)/jupyter lab notebooks

# The tests do so with the quick notebooks only.
screens: $(VENV)/dfsp.stamp
	DFSP_LAB=all DFSP_SCREENSHOTS=build/lab $(BIN)/python -m pytest tests/test_lab.py

# For every supported system and Python; names and versions only, so that any index serves. With a uv
# of its own, since the environment cannot be made while requirements.txt is wrong.
lock:
	@python=$$(sh .ci/find-python $(if $(PYTHON),"$(PYTHON)")) && "$$python" -m venv --clear $(VENV)/uv
	@$(VENV)/uv/bin/python -m $(PIP_INSTALL) uv
	$(VENV)/uv/bin/uv pip compile --quiet --universal --python-version 3.12 --upgrade --extra dev \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links \
		--output-file requirements.txt pyproject.toml

clean:
	rm -rf $(VENV) build dist *.egg-info .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find dfsp tests notebooks -name __pycache__ -prune -exec rm -rf {} +
