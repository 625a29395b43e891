import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from command import call

from dfsp.schemas import schema

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "02_response.ipynb"
TABLE = "study,events,total\nATLAS,23,107\nWyeth,19,51\nDavis,39,139\n"


def process(*words, text="", folder=None):
    """Run the command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from dfsp.cli import main; main()", *words],
        capture_output=True, text=True, input=text, cwd=folder, check=False,
    )  # fmt: skip


@pytest.fixture
def dfsp(tmp_path):
    """Run the command in an empty folder."""
    return lambda *words, text="": call(*words, text=text, folder=tmp_path)


def test_fit_prints_one_json_object_and_nothing_else(tmp_path):
    (tmp_path / "mine.csv").write_text(TABLE)
    done = process("fit", "mine.csv", "--json", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    jsonschema.validate(result, schema("fit"))
    assert [study["study"] for study in result["studies"]] == ["ATLAS", "Wyeth", "Davis"]


def test_fit_reads_standard_input_and_other_names(dfsp):
    table = TABLE.replace("study,events,total", "trial,r,n")
    words = ["fit", "-", "--json", "--study", "trial", "--events", "r", "--total", "n"]
    done = dfsp(*words, text=table)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n_studies"] == 3


def test_fit_prints_a_page(dfsp):
    done = dfsp("fit", "-", text=TABLE)
    assert done.returncode == 0
    for words in ("typical rate", "new-study rate", "ATLAS", "81 of 297 patients in 3 studies"):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("options", "tau"),
    [
        (["--tau-scale", "0.5"], {"family": "half-normal", "scale": 0.5}),
        (["--tau-family", "half-cauchy"], {"family": "half-cauchy", "scale": 1}),
        (
            ["--tau-family", "half-student-t", "--tau-df", "3"],
            {"family": "half-student-t", "df": 3, "scale": 1},
        ),
        (["--tau-family", "exponential"], {"family": "exponential", "scale": 1}),
        (["--tau-family", "uniform", "--tau-scale", "3"], {"family": "uniform", "scale": 3}),
        (
            ["--tau-family", "log-normal", "--tau-location", "-2"],
            {"family": "log-normal", "location": -2, "scale": 1},
        ),
        (["--tau-family", "fixed", "--tau-scale", "0.3"], {"family": "fixed", "scale": 0.3}),
    ],
)
def test_every_prior_of_tau(dfsp, options, tau):
    done = dfsp("fit", "-", "--json", *options, text=TABLE)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"]["tau"] == tau


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fit", "missing.csv"], "missing.csv"),
        (["fit", "-", "--tau-family", "no-such"], "no-such"),
        (["fit", "-", "--tau-df", "3"], "has no df"),
        (["fit", "-", "--tau-scale", "-1"], "above 0"),
        (["fit", "-", "--tau-scale", "nan"], "finite"),
        (["fit", "-", "--mu-sd", "0"], "above 0"),
        (["fit", "-", "--mu-sd", "wide"], "wide"),
        (["fit", "-", "--engine", "stan"], "stan"),
        (["fit", "-", "--events", "responders"], "responders"),
        (["run", "no.ipynb"], "no such notebook"),
        (["run", "notebooks/02_response.ipynb", "-p", "bogus", "1"], "unknown parameter"),
        (["run", "notebooks/02_response.ipynb", "-p", "draws", "many"], "give a whole number"),
        (["run", "notebooks/02_response.ipynb", "-p", "evidence_set", "mine"], "reconciled"),
        (["run", "notebooks/02_response.ipynb", "-p", "outcome", "cure"], "objective_response"),
        (["run", "notebooks/02_response.ipynb", "-p", "tau_family", "no-such"], "half-normal"),
        (["run", "notebooks/02_response.ipynb", "-p", "seed", "1", "-p", "seed", "2"], "twice"),
        (
            ["run", "notebooks/02_response.ipynb", "-p", "drop", "X, 1", "-p", "drop", "Y, 2"],
            "'X, 1' is not known; 'Y, 2' is not known",
        ),
    ],
)
def test_input_that_cannot_be_used(dfsp, tmp_path, words, says):
    done = dfsp(*words, text=TABLE)
    assert done.returncode == 2, done.stdout
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_faulty_table_names_every_row():
    done = process("fit", "-", text="study,events,total\nA,31,24\nB,-1,9\nA,1,2\n")
    assert done.returncode == 2
    for words in ("31", "exceeds", "-1", "twice"):
        assert words in done.stderr


def test_a_failed_check_is_exit_status_1(dfsp, monkeypatch, tmp_path):
    program = "import dfsp.fitting as f; f.GRID_ERROR = 0.0; from dfsp.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "fit", "-", "--json"],
        capture_output=True, text=True, input=TABLE, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert json.loads(done.stdout)["checks"][0]["passed"] is False


def test_version(dfsp):
    assert dfsp("--version").stdout.startswith("dfsp, version ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "does",
    [
        "import dfsp.runs.kernels",
        "from dfsp.runs.declared import read_notebook; read_notebook(Path(sys.argv[1]))",
        "from dfsp.runs.report import page; page(Path('none'), {'notebook': ''})",
    ],
)
def test_no_grammar_of_addresses_is_made(tmp_path, does):
    """As jsonschema would with a package that JupyterLab brings along; afterwards it can be had."""
    (tmp_path / "rfc3987_syntax.py").write_text("print('made')", "utf-8")
    program = (
        "import sys\nfrom contextlib import suppress\nfrom pathlib import Path\n"
        f"with suppress(KeyError): {does}\nprint('jsonschema' in sys.modules)\n"
        "import rfc3987_syntax"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(NOTEBOOK)],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout == "True\nmade\n"


@pytest.mark.parametrize("command", ["", "fit - --json", "fit - --by drug"])
def test_neither_importing_dfsp_nor_a_fit_loads_a_heavy_package(command):
    program = (
        "import dfsp, sys\n"
        "heavy = ['pymc', 'arviz', 'matplotlib', 'pydantic', 'scipy.optimize', 'scipy.stats']\n"
        "try:\n"
        "    from dfsp.cli import main\n"
        "    main() if sys.argv[1:] else None\n"
        "finally:\n"
        "    print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *command.split()],
        input="study,drug,events,total\nA,x,3,10\nB,x,8,20\nC,y,5,19\n",
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"
