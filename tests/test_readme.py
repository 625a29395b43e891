"""The lines of Python in both READMEs: what they name exists, and they run as they are written."""

import ast
import re
import subprocess
import sys
from functools import reduce
from pathlib import Path

import pytest

import dfsp

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "notebooks/README.md")
TEXT = "\n".join((ROOT / page).read_text("utf-8") for page in PAGES)
BLOCKS = re.findall(r"(?ms)^```python\n(.*?)^```", TEXT)


def chains(tree):
    """Yield the names that a piece of code reaches through `dfsp`, such as `planning.plan`."""
    for node in ast.walk(tree):
        names = []
        while isinstance(node, ast.Attribute):
            names.insert(0, node.attr)
            node = node.value
        if names and isinstance(node, ast.Name) and node.id == "dfsp":
            yield names


def test_the_readme_is_short():
    """What is reference stands with the notebooks."""
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def test_every_name_exists():
    found = [names for block in BLOCKS for names in chains(ast.parse(block))]
    assert len(found) > 40
    for names in found:
        assert names[0] in dfsp.__all__, names
        assert reduce(getattr, names, dfsp)


@pytest.mark.slow
def test_the_lines_run_as_written(tmp_path):
    """In one session, in a folder with the project's data and the README's own table."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    (table,) = set(re.findall(r"(?ms)^```\n(study,events,total,dose_mg\n.*?)^```", TEXT))
    (tmp_path / "mine.csv").write_text(table + "Evans 2014,6,20,800\nFox 2017,5,16,400\n")
    lines = [block for block in BLOCKS if "run_batch" not in block]  # which takes many minutes
    assert len(lines) == len(BLOCKS) - 1
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(lines)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "prior.json").is_file()


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "data/README.md", "data/tables.md"])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text("utf-8")
    targets = re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", text)
    assert targets or page == "data/tables.md"
    for target in targets:
        assert (ROOT / page).parent.joinpath(target).exists(), target
