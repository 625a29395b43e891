"""The files that describe the environment agree, and set-up finds a Python wherever it is."""

import ast
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
CONDA_NAMES = {
    "jupyter_client": "jupyter-client",
    "matplotlib-base": "matplotlib",
}
NOT_IMPORTED = {
    "h5netcdf": "xarray writes draws with it",
    "h5py": "h5netcdf writes with it",
    "import-linter": "make lint",
    "jupyterlab": "where people explore",
    "mypy": "make lint",
    "nbval": "pytest compares the notebooks with it",
    "pandas-stubs": "types",
    "pytest-benchmark": "make bench",
    "pytest-xdist": "make test",
    "ruff": "make lint",
    "scipy-stubs": "types",
    "types-jsonschema": "types",
    "types-pyyaml": "types",
    "types-seaborn": "types",
}
"""What each declared package is for that no file imports."""

# ---------------------------------------------------------------- names and bounds


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.fixture(scope="module")
def conda():
    return yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))


def bounds(lines):
    """Map each package to its bounds, both in the form that PyPI uses."""
    found = {}
    for requirement in map(Requirement, lines):
        name = CONDA_NAMES.get(requirement.name, requirement.name)
        assert name not in found, f"{name} is listed twice"
        found[name] = requirement.specifier
    return found


def wanted(project):
    return bounds(project["dependencies"] + project["optional-dependencies"]["dev"])


def test_conda_and_pip_have_the_same_packages_and_bounds(project, conda):
    *packages, pip = conda["dependencies"]
    *from_pypi, editable = pip["pip"]
    assert editable == "-e ."
    from_conda = bounds(packages + from_pypi)
    del from_conda["pip"]
    assert from_conda.pop("python") == Requirement(f"python{project['requires-python']}").specifier
    assert from_conda == wanted(project)


def test_conda_file_has_a_name_and_only_conda_forge(conda):
    assert conda["name"] == "dfsp"
    assert conda["channels"] == ["conda-forge", "nodefaults"]


def test_conda_names_are_used_where_they_differ(conda):
    names = {Requirement(line).name for line in conda["dependencies"][:-1]}
    assert set(CONDA_NAMES) <= names
    assert names.isdisjoint(CONDA_NAMES.values())


def test_lock_has_exact_versions_by_name_only():
    for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines():
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*( ; .+)?", line), line
        assert "://" not in line
        assert "--" not in line


def test_lock_satisfies_every_bound(project):
    lock = {}
    for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines():
        requirement = Requirement(line)
        (pin,) = requirement.specifier
        lock.setdefault(requirement.name, []).append(pin.version)
    assert "dfsp" not in lock
    for name, specifier in wanted(project).items():
        assert lock.get(canonicalize_name(name)), f"{name} is not locked"
        for pin in lock[canonicalize_name(name)]:
            assert specifier.contains(pin), f"{name} {pin} is outside {specifier}"


def test_no_file_names_an_index_or_a_machine_path():
    unwanted = re.compile(r"\w+://|(?<!--no-emit-)(index-url|find-links)|/(home|root|tmp|opt)/")
    files = ["pyproject.toml", "environment.yml", "requirements.txt", "Makefile"]
    for path in [*map(ROOT.joinpath, files), *(ROOT / ".ci").iterdir()]:
        assert not unwanted.search(path.read_text("utf-8")), path


def imports(tree):
    """Yield the modules that a file names in import statements or in pytest.importorskip."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=module):
                yield module
            case ast.Call(func=ast.Attribute(attr="importorskip"), args=[ast.Constant(module), *_]):
                yield module


def third_party(folder):
    """Return the distributions whose modules a folder's files and notebooks import."""
    sources = [path.read_text("utf-8") for path in (ROOT / folder).rglob("*.py")]
    for path in (ROOT / folder).rglob("*.ipynb"):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        sources += ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert sources, folder
    modules = {name.split(".")[0] for each in sources for name in imports(ast.parse(each))}
    ours = {"dfsp", *(path.stem for path in (ROOT / "tests").rglob("*.py"))}
    distributions = packages_distributions()
    return {
        canonicalize_name(distributions.get(name, [name])[0])
        for name in modules - ours - sys.stdlib_module_names
    }


def test_what_is_imported_is_declared_and_what_is_declared_is_imported(project):
    needed = set(bounds(project["dependencies"]))
    extras = project["optional-dependencies"]
    optional = {name for extra in ("dask", "excel") for name in bounds(extras[extra])}
    package, tests = third_party("dfsp") | third_party("notebooks"), third_party("tests")
    assert package - needed == optional
    assert tests <= set(wanted(project))
    assert set(wanted(project)) - package - tests == set(NOT_IMPORTED)


def test_the_package_does_not_reach_its_modules_through_its_face():
    """Import-linter sees `import dfsp` and `from dfsp import fit`, but not `import dfsp.fitting`."""
    for path in (ROOT / "dfsp").rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        statements = [each for each in ast.walk(tree) if isinstance(each, ast.Import)]
        names = [name.name for each in statements for name in each.names]
        assert not [name for name in names if name.split(".")[0] == "dfsp"], path


def test_installed_version_is_that_of_pyproject(project):
    assert version("dfsp") == project["version"]


def test_licence_and_citation_say_what_pyproject_says(project):
    """CITATION.cff (citation-file-format 1.2.0) repeats name, version and licence."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    assert cited["title"].startswith(f"{project['name']}: ")
    assert (ROOT / "LICENSE").read_text("utf-8").startswith("BSD 3-Clause License")
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_hooks_run_what_is_in_the_environment():
    """Nothing is fetched: every hook is local, of the project's own environment."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    assert [each["repo"] for each in hooks["repos"]] == ["local"]
    for hook in hooks["repos"][0]["hooks"]:
        assert hook["language"] == "system" and hook["entry"].startswith(".venv/bin/")
        assert (ROOT / "Makefile").read_text("utf-8").count(hook["entry"].split()[0].split("/")[-1])


def test_results_of_runs_are_not_committed():
    assert "/runs/" in (ROOT / ".gitignore").read_text("utf-8").splitlines()


# ---------------------------------------------------------------- finding a Python

posix_only = pytest.mark.skipif(os.name != "posix", reason="the finder is a POSIX script")


def script(path, body):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n", "utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def python(path, answer):
    """Make a fake interpreter: it answers the finder's question and can do nothing else."""
    return script(path, f'[ "$2" = -c ] || exit 1\necho "{answer}"')


def real_python(path):
    return script(path, f'exec "{sys.executable}" "$@"')


class Machine:
    """A PATH without any Python, and a pyenv without any version."""

    def __init__(self, folder):
        self.bin, self.pyenv, self.tmp = folder / "bin", folder / "pyenv", folder / "tmp"
        for each in (self.bin, self.pyenv, self.tmp):
            each.mkdir()
        for tool in ("cat", "grep", "ls", "mktemp", "rm", "sort"):
            (self.bin / tool).symlink_to(shutil.which(tool))

    def version(self, name):
        return self.pyenv / "versions" / name / "bin" / "python"

    def find(self, *arguments, **extra):
        env = {"PATH": self.bin, "PYENV_ROOT": self.pyenv, "HOME": self.tmp, "TMPDIR": self.tmp}
        return subprocess.run(
            [shutil.which("sh"), ROOT / ".ci" / "find-python", *arguments],
            env={name: str(value) for name, value in (env | extra).items()},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def assert_found(result, path):
    assert (result.stdout, result.returncode) == (f"{path}\n", 0), result.stderr


@posix_only
def test_passes_over_an_old_python_and_a_shim_that_refuses_to_start(machine):
    python(machine.bin / "python3", "3.11.7 too old")
    script(machine.bin / "python3.12", "echo 'pyenv: python3.12: command not found' >&2; exit 127")
    python(machine.version("3.11.7"), "3.11.7 too old")
    good = python(machine.version("3.12.1"), "3.12.1 suits")
    assert_found(machine.find(), good)


@posix_only
def test_a_shim_that_prints_and_then_fails_is_no_find(machine):
    script(machine.bin / "python3.13", "echo '3.13.0 suits'; exit 1")
    good = python(machine.bin / "python3", "3.12.1 suits")
    assert_found(machine.find(), good)


@posix_only
def test_path_comes_before_pyenv_and_3_13_before_other_versions(machine):
    for minor in (12, 13, 14):
        python(machine.version(f"3.{minor}.1"), f"3.{minor}.1 suits")
        python(machine.bin / f"python3.{minor}", f"3.{minor}.1 suits")
    for minor in (13, 12, 14):
        path = machine.bin / f"python3.{minor}"
        assert_found(machine.find(), path)
        path.unlink()
    for minor in (13, 12, 14):
        path = machine.version(f"3.{minor}.1")
        assert_found(machine.find(), path)
        path.unlink()


@posix_only
def test_newest_patch_is_chosen_by_number(machine):
    for patch in (2, 10, 9):
        python(machine.version(f"3.13.{patch}"), f"3.13.{patch} suits")
    assert_found(machine.find(), machine.version("3.13.10"))


@posix_only
def test_a_pyenv_version_with_another_name_is_found(machine):
    good = python(machine.version("my study"), "3.12.1 suits")
    assert_found(machine.find(), good)


@posix_only
def test_a_real_interpreter_is_judged_by_its_version(machine):
    good = real_python(machine.bin / "python3")
    assert_found(machine.find(), good)


@posix_only
@pytest.mark.parametrize("module", ["ensurepip", "venv"])
def test_a_real_interpreter_without_venv_is_refused(machine, tmp_path, module):
    crippled = f"import sys; sys.modules['{module}'] = None; exec(sys.argv[1])"
    script(machine.bin / "python3", f'exec "{sys.executable}" -c "{crippled}" "$3"')
    result = machine.find()
    assert result.returncode == 1
    assert "lacks the modules ensurepip and venv" in result.stderr


@posix_only
@pytest.mark.parametrize(
    ("version_info", "verdict"),
    [((2, 7), "too old"), ((3, 11), "too old"), ((3, 15), "too new")],
)
def test_versions_outside_the_bounds_are_refused(machine, project, version_info, verdict):
    supported = Requirement(f"python{project['requires-python']}").specifier
    assert not supported.contains("{}.{}".format(*version_info))
    pretend = f"import sys; sys.version_info = {version_info}; exec(sys.argv[1])"
    python3 = script(machine.bin / "python3", f'exec "{sys.executable}" -c "{pretend}" "$3"')
    result = machine.find()
    assert result.returncode == 1
    assert re.search(rf"{re.escape(str(python3))}: [\d.]+ {verdict}\n", result.stderr)


@posix_only
@pytest.mark.parametrize("version_info", [(3, 12), (3, 13), (3, 14)])
def test_versions_inside_the_bounds_are_taken(machine, project, version_info):
    supported = Requirement(f"python{project['requires-python']}").specifier
    assert supported.contains("{}.{}".format(*version_info))
    pretend = f"import sys; sys.version_info = {version_info}; exec(sys.argv[1])"
    python3 = script(machine.bin / "python3", f'exec "{sys.executable}" -c "{pretend}" "$3"')
    assert_found(machine.find(), python3)


@posix_only
@pytest.mark.parametrize("name", ["PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV"])
def test_an_active_environment_does_not_leak_in(machine, name):
    good = script(machine.bin / "python3", f'[ -z "${{{name}-}}" ] && echo "3.13.0 suits"')
    assert_found(machine.find(**{name: "elsewhere"}), good)


@posix_only
def test_a_named_python_is_taken_or_refused_without_a_search(machine, tmp_path):
    python(machine.bin / "python3", "3.13.0 suits")
    good = python(tmp_path / "else where" / "python", "3.12.1 suits")
    assert_found(machine.find(good), good)
    old = python(tmp_path / "old", "3.11.7 too old")
    result = machine.find(old)
    assert (result.stdout, result.returncode) == ("", 1)
    assert f"{old}: 3.11.7 too old" in result.stderr


@posix_only
def test_uv_is_asked_when_nothing_suits(machine):
    python(machine.bin / "python3", "3.11.7 too old")
    good = python(machine.tmp / "uv" / "python", "3.13.0 suits")
    answers = f'if [ "$2" = find ]; then echo "{good}"; else echo "installing"; fi'
    script(machine.bin / "uv", answers)
    result = machine.find()
    assert_found(result, good)
    assert "asking uv for Python 3.13" in result.stderr


@posix_only
def test_uv_is_fetched_by_an_old_python_and_thrown_away(machine):
    good = python(machine.tmp / "uv" / "python", "3.13.0 suits")
    answers = f'if [ "$2" = find ]; then echo "{good}"; else echo "installing"; fi'
    uv = script(machine.tmp / "uv" / "uv", answers)
    # `-m venv FOLDER` leaves an interpreter there whose `-m pip install uv` leaves uv beside it.
    for tool in ("ln", "mkdir"):
        (machine.bin / tool).symlink_to(shutil.which(tool))
    pip = script(machine.tmp / "uv" / "pip", f'ln -s "{uv}" "${{0%/*}}/uv"')
    script(
        machine.bin / "python3",
        'case "$1 $2" in\n'
        "'-E -c') echo '3.11.7 too old' ;;\n"
        f'\'-m venv\') mkdir "$3/bin" && ln -s "{pip}" "$3/bin/python" ;;\n'
        "esac",
    )
    assert_found(machine.find(), good)
    assert [each.name for each in machine.tmp.iterdir()] == ["uv"]


@posix_only
def test_message_when_nothing_can_be_had(machine):
    old = python(machine.bin / "python3", "3.11.7 too old")
    shim = script(machine.bin / "python3.13", "exit 127")
    uv = script(machine.bin / "uv", "exit 2")
    result = machine.find()
    assert (result.stdout, result.returncode) == ("", 1)
    assert "No Python that dfsp can use was found" in result.stderr
    for tried in (
        f"{old}: 3.11.7 too old",
        f"{shim}: does not start",
        "python3.12: not on the PATH",
        f"{machine.pyenv}/versions: no such folder",
        f"{uv}: could not provide Python 3.13",
    ):
        assert f"\n  {tried}\n" in result.stderr
    for advice in ("install Python 3.13", "make PYTHON=", "conda env create -f environment.yml"):
        assert advice in result.stderr


@posix_only
def test_message_when_there_is_neither_python_nor_uv(machine):
    result = machine.find()
    assert (result.stdout, result.returncode) == ("", 1)
    assert "\n  uv: not on the PATH\n" in result.stderr
    assert "python3 -m pip install uv: failed" in result.stderr
    assert list(machine.tmp.iterdir()) == []


@posix_only
def test_make_stops_with_the_message_and_leaves_nothing(machine, tmp_path):
    copy = tmp_path / "a checkout"
    (copy / ".ci").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "requirements.txt", ".ci/find-python"):
        shutil.copy(ROOT / name, copy / name)
    for tool in ("sh", "touch"):
        (machine.bin / tool).symlink_to(shutil.which(tool))
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    env = {"PATH": machine.bin, "PYENV_ROOT": machine.pyenv, "TMPDIR": machine.tmp}
    result = subprocess.run(
        [make, "test"],
        cwd=copy,
        env={name: str(value) for name, value in env.items()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode != 0
    assert "No Python that dfsp can use was found" in result.stderr
    assert "creating .venv" not in result.stdout
    assert not (copy / ".venv").exists()


def test_lowest_supported_python_is_the_one_the_tools_check(project):
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
    lowest = Version(settings["mypy"]["python_version"])
    assert Requirement(f"python{project['requires-python']}").specifier.contains(str(lowest))
    assert settings["ruff"]["target-version"] == f"py{lowest.major}{lowest.minor}"
