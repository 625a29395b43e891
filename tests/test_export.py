"""A run as a Word file and as a workbook: expected are the run's own record, tables and figures."""

import csv
import io

import docx
import openpyxl
import pytest
from nbformat import write as write_notebook
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dfsp.errors import DfspError
from dfsp.runs import export
from dfsp.runs.report import write_report
from dfsp.runs.run import run_notebook

CODE = """
import dfsp, pandas as pd
table = pd.DataFrame({"study": ["A & <B>", "C"], "events": [3, 4], "total": [9, 10]})
fit = dfsp.fit(table)
many = pd.DataFrame({"row": range(70)})
tables = {"many": many, "nobody": many.head(0)}
dfsp.record(fit=fit, figures={"forest": dfsp.plots.forest(fit)}, tables=tables, seed=3)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    cells = [new_markdown_cell("# What is the rate?\n\nText."), new_code_cell(CODE)]
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    write_notebook(new_notebook(cells=cells, metadata={"kernelspec": spec}), folder / "own.ipynb")
    return run_notebook(folder / "own.ipynb", {}, folder=folder / "runs", progress=False)


def test_a_word_file_holds_headline_tables_and_figures(run):
    found = docx.Document(io.BytesIO(export.word(run.folder, run.record)))
    texts = [paragraph.text for paragraph in found.paragraphs]
    assert texts[0] == "What is the rate?"
    assert run.record["headline"].splitlines()[0] in texts
    assert len(found.inline_shapes) == 1  # forest.png
    cells = [[cell.text for cell in row.cells] for table in found.tables for row in table.rows]
    assert "A & <B>" in [row[0] for row in cells]
    assert "The first 60 of 70 rows of many.csv." in texts
    assert texts[texts.index("Nobody") + 1] == "None."
    assert any("PRISMA 2020" in row for row in cells)
    # What says more has more room, and none is wider than its page
    widths = [cell.width.inches for cell in found.tables[-1].rows[1].cells]
    assert widths[3] > 2 * widths[1] and sum(widths) == pytest.approx(export.WIDE, abs=0.01)
    assert [column.width.inches for column in found.tables[-1].columns] == widths
    paper = found.sections[0]
    between = paper.page_width - paper.left_margin - paper.right_margin
    assert between / export.EMU == pytest.approx(export.WIDE, abs=0.01)
    assert found.inline_shapes[0].width <= between


def test_a_workbook_keeps_the_numbers(run):
    """To sixteen digits, as openpyxl writes them."""
    found = openpyxl.load_workbook(io.BytesIO(export.workbook(run.folder, run.record)))
    with (run.folder / "summary.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    sheet = [[cell.value for cell in row] for row in found["summary"].rows]
    assert sheet[0] == rows[0]
    for row, own in zip(rows[1:], sheet[1:], strict=True):
        assert own[0] == row[0]
        assert own[1:] == pytest.approx([float(cell) for cell in row[1:]], rel=1e-15)
    assert found.sheetnames[0] == "run" and len(list(found["many"].rows)) == 71


def test_a_report_has_the_formats_that_were_asked_for(run):
    where = run.folder.parent
    write_report(where, ["docx", "xlsx"])
    page = (where / "report" / f"{run.folder.name}.html").read_text("utf-8")
    for ending in ("docx", "xlsx"):
        assert f'href="{run.folder.name}.{ending}"' in page
        assert (where / "report" / f"{run.folder.name}.{ending}").stat().st_size > 1000
    assert f'href="../{run.folder.name}/summary.csv"' in page
    write_report(where)
    assert {path.suffix for path in (where / "report").iterdir()} == {".html", ".json"}
    assert ".docx" not in (where / "report" / f"{run.folder.name}.html").read_text("utf-8")


@pytest.mark.parametrize("ending", export.FORMATS)
def test_without_its_package_a_format_is_refused_in_words(run, monkeypatch, ending):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(export, "import_module", missing)
    with pytest.raises(DfspError, match=r'pip install "dfsp\[word\]"'):
        export.FORMATS[ending](run.folder, run.record)
