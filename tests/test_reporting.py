"""Reports: nothing of a notebook runs in them, nothing is fetched, everything is there."""

import base64
import json
import re
import shutil
import time
from functools import cache
from html import unescape
from html.parser import HTMLParser

import pandas as pd
import pytest
from chromium import browser, needs_chromium
from command import call
from nbformat import read as read_notebook
from nbformat import write as write_notebook
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dfsp.errors import DfspError
from dfsp.runs import report as reporting
from dfsp.runs.compare import state_of
from dfsp.runs.record import parameters_of
from dfsp.runs.report import _exporter, _index, aligned, cleaned, mathml, page, write_report
from dfsp.runs.run import run_notebook

EVIL = "<script>alert(1)</script>"
CELLS = (
    ("markdown", "# A title\n\n**Question.** What about <b onclick='alert(2)'>this</b> and $\\tau^2$?"),
    ("parameters", 'name: str = ""\nfails: bool = False'),
    ("markdown", "## Model\n\n$$r_i \\sim \\mathrm{Binomial}(n_i, \\theta_i)$$\n\n"
                 "![far](http://127.0.0.1:9/far.png) [link](javascript:alert(3))"),
    ("code", """
import matplotlib
import pandas as pd, dfsp
from IPython.display import HTML, Javascript, Latex, Markdown, display
fit = dfsp.fit(pd.DataFrame({"study": [name or "A", "B"], "events": [3, 4], "total": [9, 10]}))
fit.studies
"""),
    ("markdown", "## The answer"),
    ("code", "fit.answer()"),
    ("code", "forest = dfsp.plots.forest(fit)"),
    ("markdown", "Squares are observed; see [`01`](01_evidence.ipynb) and [data](../data/README.md)."),
    ("markdown", "## The prior"),
    ("code", "dfsp.plots.prior(fit);"),
    ("code", """
display(fit.studies)
display(HTML("<img src=x onerror=alert(4)>" + name + "<style>body{display:none}</style>"))
display(Javascript("alert(5)"))
display(Markdown(name + " ![far](http://127.0.0.1:9/far.png)"))
display(Latex("$\\\\alpha$"))
"""),
    ("remove-input", "print('no code above')"),
    ("code", "assert not fails, name"),
    ("code", "print(dfsp.record(fit=fit, figures={'forest': forest}, seed=3))"),
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a run of a study with a hostile name, one of plain names, and a failed one."""
    folder = tmp_path_factory.mktemp("report")
    cells = []
    for kind, source in CELLS:
        cells.append((new_markdown_cell if kind == "markdown" else new_code_cell)(source))
        if kind not in ("markdown", "code"):
            cells[-1].metadata["tags"] = [kind]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = folder / "evil.ipynb"
    write_notebook(new_notebook(cells=cells, metadata=metadata), path)
    made = [
        run_notebook(path, values, folder=folder / "runs", progress=False)
        for values in ({"name": EVIL}, {}, {"name": EVIL, "fails": "true"})
    ]
    assert [run.record["status"] for run in made] == ["complete", "complete", "failed"]
    write_report(folder / "runs")
    return folder / "runs", made


def pages(runs):
    where, made = runs
    return [(where / "report" / f"{run.folder.name}.html").read_text("utf-8") for run in made]


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_nothing_that_runs_and_nothing_that_loads_is_in_a_page(runs):
    for text in pages(runs):
        found = Elements(text).found
        assert not [tag for tag, _ in found if tag in ("script", "iframe", "object", "embed")]
        for tag, attributes in found:
            assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
            assert not attributes.get("href", "").lower().startswith(("javascript", "http")), tag
            assert attributes.get("src", "data:").startswith("data:"), tag
        outputs = re.sub(r"(?s)<details.*?</details>", "", text)
        assert "body{display:none}" in text and "body{display:none}" not in outputs
        policy = [
            a["content"] for t, a in found if a.get("http-equiv") == "Content-Security-Policy"
        ]
        assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_hostile_names_are_shown_as_what_they_are(runs):
    evil = pages(runs)[0]
    assert evil.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 3  # facts, output, headline
    assert EVIL not in evil


def test_code_is_folded_equations_are_mathml_and_figures_are_embedded(runs):
    text = pages(runs)[1]
    found = Elements(text).found
    codes = sum(kind in ("code", "parameters") for kind, _ in CELLS)
    folded = [a for tag, a in found if tag == "details"]
    assert sum(a["class"] == "code" for a in folded) == codes
    assert not any("open" in attributes for attributes in folded)
    assert "no code above" in text and "print(&#39;no code above" not in text
    assert sum(tag == "math" for tag, _ in found) == 3
    figures = [a for tag, a in found if tag == "img"]
    for figure in figures:
        assert base64.b64decode(figure["src"].split(",")[1]).startswith(b"\x89PNG")
    assert [each["alt"] for each in figures] == ["Figure: The answer", "Figure: The prior"]


def test_question_answer_and_picture_come_first_and_once(runs):
    """Expected is the order of a page: the section that answers stands before all others."""
    text, record = unescape(pages(runs)[1]), runs[1][1].record
    places = [
        text.index(words)
        for words in (
            "A title", 'id="The-answer"', record["headline"][:40], "Figure: The answer",
            "Squares are observed", "<summary><h2>Model<", 'id="Model"', "<summary><h2>The prior<",
            'id="The-prior"', "<summary><h2>This run<", 'id="record"',
        )
    ]  # fmt: skip
    assert places == sorted(places)
    assert text.count('id="The-answer"') == text.count("Figure: The answer") == 1
    assert text.count(record["prior_warning"][:60]) == 2  # in the answer, and at the end
    failed = pages(runs)[2]
    assert failed.index('id="Model"') < failed.index('id="The-answer"')
    # Where nothing is answered above, what follows lies open under its contents.
    contents, model = failed.index('class="contents"'), failed.index("<summary><h2>Model<")
    assert contents < model and 'class="contents"' not in text
    assert failed[:model].endswith('<details class="section" open>')


def test_without_a_section_that_answers_the_headline_does(runs, tmp_path):
    _, made = runs
    notebook = read_notebook(made[1].folder / "evil.ipynb", 4)
    notebook.cells = [cell for cell in notebook.cells if "The answer" not in cell.source]
    notebook.cells = [cell for cell in notebook.cells if cell.source != "fit.answer()"]
    write_notebook(notebook, tmp_path / "evil.ipynb")
    text = unescape(page(tmp_path, made[1].record))
    title, headline = text.index("A title"), text.index("<p><strong>Event, 7 of 19 patients")
    assert title < headline < text.index('class="warned"') < text.index('<figure><img src="data:')
    assert text.count('<img src="data:') == 2


def test_links_lead_to_runs_and_not_to_files_that_are_not_there(runs):
    text = pages(runs)[1]
    assert '<a href="index.html#01_evidence.ipynb"><code>01</code></a> and data.' in text
    index = (runs[0] / "report" / "index.html").read_text("utf-8")
    assert index.count('id="evil.ipynb"') == 1


def test_every_link_within_a_page_leads_somewhere(runs):
    for text in pages(runs):
        found = Elements(text).found
        ids = {attributes.get("id") for _, attributes in found}
        links = [a["href"][1:] for t, a in found if t == "a" and a.get("href", "").startswith("#")]
        assert len(links) > 5
        assert set(links) - {"harmful-link"} <= ids  # what mistune makes of javascript:


def test_a_failed_run_says_why_and_where(runs):
    text = pages(runs)[2]
    assert "This run failed: AssertionError: &lt;script&gt;alert(1)&lt;/script&gt;" in text
    (target,) = re.findall(r'href="#(cell-id=[^"]+)">the cell', text)
    assert f'id="{target}"' in text
    assert "An Exception was encountered" not in text  # papermill's banner
    assert not re.search(r"<a\b[^>]*/>", text)  # which would be a link to the end of the page


def test_only_pages_of_runs_that_changed_are_written_anew(runs, tmp_path):
    where = tmp_path / "runs"
    shutil.copytree(runs[0], where)
    write_report(where)
    before = {path.name: path.stat().st_mtime_ns for path in (where / "report").glob("*-*.html")}
    changed, touched, spoilt = sorted(before)
    path = where / changed.removesuffix(".html") / "record.json"
    record = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(record | {"seed": 77}), "utf-8")
    (where / touched.removesuffix(".html") / "evil.ipynb").touch()
    (where / "report" / spoilt).write_bytes(b"\xff")
    write_report(where)
    after = {path.name: path.stat().st_mtime_ns for path in (where / "report").glob("*-*.html")}
    assert {name for name in before if before[name] != after[name]} == {changed, spoilt}
    assert ", 77</dd>" in (where / "report" / changed).read_text("utf-8")


def test_a_page_shows_the_end_of_the_log_and_whose_kernel_it_was(runs, tmp_path):
    _, made = runs
    other = {"name": "conda-x", "python": "/far/bin/python", "own": False}
    text = page(tmp_path, made[2].record | {"log": "<b>last words</b>", "kernel": other})
    assert "<pre>&lt;b&gt;last words&lt;/b&gt;</pre>" in text
    assert "conda-x, of another environment (/far/bin/python)" in text
    assert "of another environment" not in pages(runs)[2] and "<pre></pre>" not in pages(runs)[2]


def test_the_index_lists_failed_runs_first_and_filters_by_parameter(runs):
    where, made = runs
    text = (where / "report" / "index.html").read_text("utf-8")
    found = Elements(text).found
    rows = [a for tag, a in found if tag == "tbody" and "data-values" in a]
    assert [row["class"] for row in rows] == ["failed", "complete", "complete"]
    assert json.loads(rows[0]["data-values"])["name"] == EVIL
    assert [a["name"] for tag, a in found if tag == "select"] == [
        "status", "notebook", "fails", "name"
    ]  # fmt: skip
    for run in made:
        assert f'href="{run.folder.name}.html"' in text
    assert EVIL not in text
    numbers = made[0].record["numbers"]["typical_rate"]
    low, middle, high = (100 * numbers[name] for name in ("q2.5", "q50", "q97.5"))
    assert f"{middle:.1f} % ({low:.1f} to {high:.1f} %)" in text
    new = made[0].record["numbers"]["new_study_rate"]
    assert f"{100 * new['mean']:.1f} % (" in text  # as in the forest
    assert f"--from: {100 * new['q2.5']:.1f}%; --low: {low:.1f}%; --at: {middle:.1f}%" in text
    assert "3 runs, 1 failed" in text


def test_a_report_says_what_changed_since_the_last_one(runs, tmp_path):
    where = tmp_path / "runs"
    shutil.copytree(runs[0], where)
    assert "since the last report" not in write_report(where).read_text("utf-8")
    path = where / runs[1][1].folder.name / "studies.csv"
    path.write_text(path.read_text("utf-8").replace("A,3,9", "A,4,9"), "utf-8")
    for _ in range(2):  # made anew of the same runs it says the same
        text = write_report(where).read_text("utf-8")
        assert "What changed since the last report" in text
        assert "A has 4 of 9, and had 3 of 9" in text and "2 runs are the same in both" in text
    (where / "report" / "last.json").write_text("{")
    assert "since the last report" not in write_report(where).read_text("utf-8")


def test_pages_of_runs_that_are_gone_go_too_and_half_a_notebook_is_no_fault(runs, tmp_path):
    where = tmp_path / "runs"
    shutil.copytree(runs[0], where)
    gone, half = (where / run.folder.name for run in runs[1][:2])
    shutil.rmtree(gone)
    (half / "evil.ipynb").write_text("{")
    record = json.loads((half / "record.json").read_text("utf-8"))
    for later in ("git", "source_sha256", "cell_seconds", "tables", "draws", "appraisal",
                  "effective_parameters"):  # fmt: skip
        del record[later]  # as in records of old
    (half / "record.json").write_text(json.dumps(record), "utf-8")
    index = write_report(where)
    assert not (index.parent / f"{gone.name}.html").exists()
    page = (index.parent / f"{half.name}.html").read_text("utf-8")
    assert "No executed notebook was kept" in page


@pytest.mark.parametrize("content", [[], {"schema": "dfsp.run/1"}, {"checks": None}])
def test_a_damaged_record_is_named_and_left_out(runs, tmp_path, content):
    where = tmp_path / "runs"
    shutil.copytree(runs[0], where)
    name = runs[1][1].folder.name
    if content == {"checks": None}:
        content = json.loads((where / name / "record.json").read_text("utf-8")) | content
    (where / name / "record.json").write_text(json.dumps(content), "utf-8")
    (where / "report" / ".part-killed").touch()
    done = call("report", where)
    assert done.returncode == 0
    (says,) = done.stderr.splitlines()
    assert f"{where / name / 'record.json'}: no record of a run (" in says
    text = (where / "report" / "index.html").read_text("utf-8")
    assert "2 runs, 1 failed" in text and f"{name}.html" not in text
    assert not list((where / "report").glob(".part-*"))


def test_defaults_are_on_the_page_and_only_what_differs_is_in_the_index(runs):
    assert "Others, as in the notebook" in pages(runs)[0]
    assert "fails = False" in pages(runs)[0]
    text = (runs[0] / "report" / "index.html").read_text("utf-8")
    values = [json.loads(a["data-values"]) for tag, a in Elements(text).found if "data-values" in a]
    assert {(each["name"], each["fails"]) for each in values} == {
        (EVIL, "False"), ("", "False"), (EVIL, "True")
    }  # fmt: skip


def test_a_prior_that_decides_is_on_the_page_and_in_the_index(runs):
    """Two studies of ten patients: both priors are wider than what they tell of tau."""
    where, made = runs
    record = made[1].record
    warning = record["prior_warning"]
    assert warning.startswith("The prior of tau decides: ")
    index = unescape((where / "report" / "index.html").read_text("utf-8"))
    assert warning in unescape(pages(runs)[1]) and index.count(warning) == 2
    moved = record["prior_sensitivity"]["typical_rate"]
    shown = f"mu {moved['mu']['location']:+.2f}, tau {moved['tau']['location']:+.2f}"
    assert index.count(f'<td class="number">{shown}</td>') == 2
    assert made[2].record["prior_warning"] is None  # the run that failed


def test_a_page_says_what_is_estimated_and_what_nobody_judged(runs):
    text = pages(runs)[1]
    for name, says in runs[1][1].record["estimand"].items():
        assert f"<dt>{name}</dt><dd" in text and f">{says}</dd>" in text
    assert '<dt>indirectness</dt><dd class="open">not judged</dd>' in text


def test_one_run_is_not_one_runs(runs, tmp_path):
    where = tmp_path / "runs"
    shutil.copytree(runs[1][0].folder, where / runs[1][0].folder.name)
    text = write_report(where).read_text("utf-8")
    assert "<p>1 run, 0 failed" in text
    assert [a["name"] for tag, a in Elements(text).found if tag == "select"] == [
        "status", "notebook"
    ]  # fmt: skip


def test_an_environment_without_the_templates_of_nbconvert(monkeypatch):
    """As one made beside another one, whose packages it has and whose files it has not."""
    monkeypatch.setattr("nbconvert.exporters.templateexporter.jupyter_path", lambda *_: [])
    with pytest.raises(DfspError, match=r"No template sub-directory(.*); install nbconvert in"):
        _exporter.__wrapped__()


def test_a_folder_without_runs(tmp_path):
    with pytest.raises(DfspError, match="no runs here"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("html", "left"),
    [
        ("<b>bold</b><script>x()</script>", "<b>bold</b>"),
        ("<style>td{}</style><table><tbody><tr><td>1</td></tr></tbody></table>",
         "<table><tbody><tr><td>1</td></tr></tbody></table>"),
        ("<img src=x onerror=y()>", ""),
        ('<a href="javascript:x()" onclick="y()">a</a>', "<a>a</a>"),
        ("<script>never closed", ""),
    ],
)  # fmt: skip
def test_html_of_outputs_is_cleaned(html, left):
    assert cleaned(html) == left


def test_tables_have_one_row_of_names_and_numbers_to_the_right():
    """Expected is read off the frames: which columns hold numbers, and the names of the index."""
    table = pd.DataFrame(
        {"rate": [0.5, -1.25], "n": ["-", "7"], "says": ["yes", "1 of 2"]},
        index=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")], names=["study", "arm"]),
    )
    html = aligned(table.to_html(border=0))
    names = re.findall(r"<th([^>]*)>([^<]*)</th>", html.partition("<tbody>")[0])
    number = ' class="n"'
    assert names == [
        ("", "study"), ("", "arm"), (number, "rate"), (number, "n"), ("", "says")
    ]  # fmt: skip
    assert re.findall(r"<td([^>]*)>([^<]*)</td>", html) == [
        (number, "0.50"), (number, "-"), ("", "yes"),
        (number, "-1.25"), (number, "7"), ("", "1 of 2"),
    ]  # fmt: skip
    assert '<th rowspan="2" valign="top">a</th>' in html
    again = pd.DataFrame({0.1: [1, 2]}, index=pd.Index([5, 6], name="n")).rename_axis(columns="p")
    assert "<th>p</th>" in aligned(again.to_html()) and "<th>n</th>" in aligned(again.to_html())
    for left in ("<table><tr><td>1</td></tr></table>", "<table><tbody></tbody></table>"):
        assert aligned(left) == left


def test_a_section_that_does_not_apply_is_left_out(runs, tmp_path):
    _, made = runs
    notebook = read_notebook(made[1].folder / "evil.ipynb", 4)
    for title, code in (("Ours", "if name:\n    print(1)"), ("Set-up", "x = 1")):
        notebook.cells += [new_markdown_cell(f"## {title}"), new_code_cell(code)]
    write_notebook(notebook, tmp_path / "evil.ipynb")
    text = page(tmp_path, made[1].record)
    assert 'id="Ours"' not in text and 'id="Set-up"' in text
    assert 'id="Ours"' in page(tmp_path, made[1].record | {"status": "failed"})


def test_what_a_notebook_says_itself_is_not_said_again(runs, tmp_path):
    _, made = runs
    assert "<dt>population</dt>" in page(made[1].folder, made[1].record)
    notebook = read_notebook(made[1].folder / "evil.ipynb", 4)
    notebook.cells.append(new_markdown_cell("## What is estimated"))
    write_notebook(notebook, tmp_path / "evil.ipynb")
    assert "<dt>population</dt>" not in page(tmp_path, made[1].record)


def test_tex_that_cannot_be_converted_is_shown_as_such():
    assert mathml(r"\begin{aligned} <x", "block") == r"<code>\begin{aligned} &lt;x</code>"
    assert "<mo>&#x0223C;</mo>" in mathml(r"x \sim y", "inline")
    assert "<mtext>&lt;b&gt;</mtext>" in mathml(r"\text{<b>}", "inline")
    assert "<mtext>a_b</mtext>" in mathml(r"\text{a\_b}", "inline")


# ---------------------------------------------------------------- in a browser


@needs_chromium
def test_in_a_browser_without_a_network(runs):
    where, made = runs
    with browser() as (send, events):
        for domain in ("Page", "Network", "Runtime", "Log"):
            send(f"{domain}.enable")

        def ask(expression):
            found = send("Runtime.evaluate", expression=expression, returnByValue=True)
            return found["result"].get("value")

        for name in ["index", *(run.folder.name for run in made)]:
            events.clear()
            send("Page.navigate", url=(where / "report" / f"{name}.html").as_uri())
            until = time.monotonic() + 30
            while ask("document.readyState") != "complete" and time.monotonic() < until:
                time.sleep(0.1)
            methods = [event["method"] for event in events]
            asked = [
                event["params"]["request"]["url"]
                for event in events
                if event["method"] == "Network.requestWillBeSent"
            ]
            assert asked and asked[0].startswith("file:")
            assert all(url.startswith("data:") for url in asked[1:]), asked
            for trouble in (
                "Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled",
                "Page.javascriptDialogOpening", "Network.loadingFailed",
            ):  # fmt: skip
                assert trouble not in methods, [e for e in events if e["method"] == trouble]
            # On paper nothing is folded, nor light on white where the screen is dark
            dark = [{"name": "prefers-color-scheme", "value": "dark"}]
            send("Emulation.setEmulatedMedia", media="print", features=dark)
            assert ask("getComputedStyle(document.body).color") == "rgb(34, 34, 34)"
            inside = "[...document.querySelectorAll('details:not(.code) :is(p, td)')]"
            assert ask(f"{inside}.every(e => e.checkVisibility() && e.offsetHeight > 5)")
            send("Emulation.setEmulatedMedia", media="", features=[])
            if name == made[1].folder.name:  # a link to a section unfolds it, and only it
                ask("location.hash = 'The-prior'")
                time.sleep(0.2)
                unfolded = (
                    "[...document.querySelectorAll('details[open] h2')].map(h => h.innerText)"
                )
                assert ask(f"{unfolded}.join()") == "The prior"
            ask("document.querySelectorAll('details.section').forEach(d => { d.open = true })")
            widths = ask(
                "JSON.stringify([...document.images].map(i =>"
                " [i.complete, i.naturalWidth, i.getBoundingClientRect().width]))"
            )
            figures = json.loads(widths)
            assert len(figures) == (0 if name == "index" else 2)
            assert all(done and real > 100 and wide > 100 for done, real, wide in figures)
            equations = "[...document.querySelectorAll('math')]"
            shown = f"{equations}.every(m => m.getBoundingClientRect().width > 5)"
            assert ask(shown)
        # The filters of the index
        send("Page.navigate", url=(where / "report" / "index.html").as_uri())
        while ask("document.readyState") != "complete":
            time.sleep(0.1)
        assert ask("document.getElementById('shown').textContent") == "3 of 3 shown"
        ask(
            "c = document.querySelector('select[name=status]'); c.value = '=failed';"
            "c.dispatchEvent(new Event('change'))"
        )
        assert ask("document.getElementById('shown').textContent") == "1 of 3 shown"
        visible = "document.querySelectorAll('tbody[data-values]:not([hidden])').length"
        assert ask(visible) == 1
        # What differs between two runs: the parameters that were given to one of them
        ask("document.querySelectorAll('[type=checkbox]').forEach((box, i) => i && box.click())")
        assert ask("document.getElementById('differences').hidden") is False
        rows = ask("[...document.querySelectorAll('#differences tbody tr')].map(r => r.innerText)"
                   ".join('|')").split("|")  # fmt: skip
        assert rows == [
            f"run\t{made[1].folder.name}\t{made[0].folder.name}", f"parameter name\t\t{EVIL}",
            "counts of A\t3 of 9\tnone", f"counts of {EVIL}\tnone\t3 of 9",
        ]  # fmt: skip


@needs_chromium
def test_of_many_runs_the_first_are_shown_until_all_are_asked_for(runs, tmp_path):
    record = runs[1][1].record
    many = {f"run-{i}": record | {"parameters": {"seed": i}} for i in range(320)}
    pages = {name: f"{name}.html" for name in many}
    states = {name: state_of(tmp_path, each) for name, each in many.items()}
    (tmp_path / "index.html").write_text(_index(many, pages, states), "utf-8")
    with browser() as (send, _):

        def ask(expression):
            return send("Runtime.evaluate", expression=expression)["result"].get("value")

        send("Page.navigate", url=(tmp_path / "index.html").as_uri())
        while ask("document.readyState") != "complete":
            time.sleep(0.1)
        visible = "document.querySelectorAll('tbody[data-values]:not([hidden])').length"
        assert (ask(visible), ask("document.getElementById('all').textContent")) == (
            300,
            "Show all 320",
        )
        ask("document.getElementById('all').click()")
        assert (ask(visible), ask("document.getElementById('all').hidden")) == (320, True)


def test_an_evidence_set_that_a_table_stands_for_is_no_parameter():
    declared = {"evidence_set": "reconciled", "table": ""}
    record = {"parameters": {}, "effective_parameters": declared}
    assert parameters_of(record) == declared
    given = {
        "parameters": {"table": "t.csv"},
        "effective_parameters": declared | {"table": "t.csv"},
    }
    assert parameters_of(given) == {"table": "t.csv"}


def test_a_users_own_style_is_not_on_the_page(monkeypatch, tmp_path):
    """nbconvert would take custom/custom.css from wherever the report is written."""
    (tmp_path / "custom").mkdir()
    (tmp_path / "custom/custom.css").write_text("body { display: none }", "utf-8")
    monkeypatch.chdir(tmp_path)
    for cached in (reporting._exporter, reporting._code_style):
        monkeypatch.setattr(reporting, cached.__name__, cache(cached.__wrapped__))
    assert ".highlight" in reporting._code_style()
    assert "display: none" not in reporting._code_style()
