"""The examples of data/tables.md: each table is read, or refused, in the words that stand there."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from dfsp.cli import cli
from dfsp.errors import DfspError

PAGE = Path(__file__).parents[1] / "data" / "tables.md"
EXAMPLE = re.compile(
    r"### (?P<title>.+?)\n|(?:With `(?P<options>.+?)`:\n\n)?"
    r"```csv\n(?P<table>.*?)```\n\n```text\n(?P<says>.*?)```",
    re.DOTALL,
)


def examples():
    title, number = "", 0
    for found in EXAMPLE.finditer(PAGE.read_text("utf-8")):
        if found["title"]:
            title, number = found["title"], 0
        else:
            number += 1
            words = found["options"] or "", found["table"], found["says"]
            yield pytest.param(*words, id=f"{title} {number}")


def test_every_table_of_the_page_is_an_example():
    assert len(list(examples())) == PAGE.read_text("utf-8").count("```csv") > 20


@pytest.mark.parametrize(("options", "table", "says"), list(examples()))
def test_what_is_said_of_a_table(tmp_path, monkeypatch, options, table, says):
    monkeypatch.chdir(tmp_path)
    Path("table.csv").write_text(table, "utf-8")
    # Which rows are read is seen in the JSON, whatever the model makes of them.
    done = CliRunner().invoke(cli, ["fit", "table.csv", "--json", *options.split()])
    if isinstance(done.exception, DfspError):
        assert f"{done.exception}\n" == says
        return
    assert done.exit_code == 0, done.stderr
    studies = json.loads(done.stdout)["studies"]
    rows = [f"{study['study']}: {study['events']} of {study['total']}" for study in studies]
    assert "\n".join(rows) + "\n" + done.stderr == says
