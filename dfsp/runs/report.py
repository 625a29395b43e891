"""One HTML page a run, and an index; each opens without a network and runs nothing of a notebook.

Equations become MathML and figures are embedded. What a notebook or a table brings along is escaped
or cleaned, and the pages' content security policy forbids the rest.
"""

import base64
import hashlib
import json
import os
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from dfsp.checks import VERDICTS
from dfsp.engine.distributions import LEAST_RATE
from dfsp.engine.powers import LIKELIHOOD
from dfsp.errors import DfspError
from dfsp.evidence.appraisals import HIGH_RISK
from dfsp.fitting import NAMES, RATES, centre_of
from dfsp.rates import Unit, limits
from dfsp.runs.batch import records
from dfsp.runs.checklist import fill_checklist
from dfsp.runs.compare import State, compare_states, state_of
from dfsp.runs.export import FORMATS
from dfsp.runs.publish import remove_parts, replace_bytes, replace_text
from dfsp.runs.record import parameters_of, sha256, source_sha256, unit_of_runs

if TYPE_CHECKING:
    from nbformat import NotebookNode

TEMPLATES = Path(__file__).parents[1] / "templates"
REPORT = "report"
LAST = "last.json"
"""What the report was made from, which the next one is compared with."""

ANSWER = "## The answer"
"""How the section of a notebook begins that answers its question."""

_ROW = re.compile(r"(?s)<tr\b.*?</tr>")
_CELL = re.compile(r"(?s)<(t[hd])\b([^>]*)>(.*?)</t[hd]>")
_NUMBER = re.compile(r"[-+<>]?\d[\d.,]*(e[-+]\d+)?")
"""A row of a table, a cell, and a number in it."""

LEADS = r"#|index\.html|https?:"
"""How the addresses begin that a link of a page may have."""

BANNER = "papermill-error-cell-tag"
"""Tag of a text over a failed cell, in raw HTML; the page has one of its own."""

_HTML_TAGS = (
    "a abbr b blockquote br caption code dd div dl dt em h1 h2 h3 h4 hr i li ol p pre s small span "
    "strong sub sup table tbody td tfoot th thead tr u ul"
)

_MATHML = (
    "math menclose mfrac mi mn mo mover mpadded mphantom mroot mrow mspace msqrt mstyle msub "
    "msubsup msup mtable mtd mtext mtr munder munderover"
)
_MATHML_ATTRIBUTES = (
    "accent columnalign columnlines columnspacing depth display displaystyle fence form height "
    "linethickness lspace mathsize mathvariant maxsize minsize movablelimits notation rowlines "
    "rowspacing rspace scriptlevel separator stretchy width xmlns"
)


def write_report(where: str | Path, formats: Collection[str] = ()) -> Path:
    """Write a page for every run in a folder, and an index.

    A page that was made from the same run by the same source is left as it is.

    Parameters
    ----------
    where : path
        The folder of run folders; the pages are written to `report` in it.
    formats : collection of str
        In which each run is written beside its page too: `"docx"`, `"xlsx"`.

    Returns
    -------
    Path
        Of the index.

    Raises
    ------
    DfspError
        No run is in the folder, or the report cannot be written.
    """
    where = Path(where)
    found, _ = records(where)
    if not found:
        raise DfspError(f"{where}: no runs here; make some with dfsp run or dfsp batch")
    target = where / REPORT
    pages = {name: f"{name}.html" for name in found}
    try:
        target.mkdir(exist_ok=True)
        remove_parts(target)
        for name, record in found.items():
            run, path = where / name, target / pages[name]
            if _stamp_of(path) != _stamp(run, record, formats):
                for ending in formats:
                    replace_bytes(target / f"{name}.{ending}", FORMATS[ending](run, record))
                replace_text(path, page(run, record, formats))
        states = {name: state_of(where / name, record) for name, record in found.items()}
        since = _since_last(target / LAST, states)
        replace_text(target / "index.html", _index(found, pages, states, since))
    except OSError as error:
        raise DfspError(f"{target}: the report cannot be written ({error.strerror})") from None
    kept = {f"{name}.{ending}" for name in found for ending in ("html", *formats)} | {"index.html"}
    for path in target.iterdir():
        if path.suffix in (".html", ".docx", ".xlsx") and path.name not in kept:
            path.unlink()
    return target / "index.html"


def _since_last(path: Path, states: Mapping[str, State]) -> str:
    """Say what changed since the last report; one made anew of the same runs says the same."""
    now = json.loads(json.dumps(states))
    said = ""
    with suppress(OSError, ValueError, KeyError, TypeError):  # none yet, or none that can be read
        last = json.loads(path.read_text(encoding="utf-8"))
        if last["runs"] == now:
            return str(last["since"])
        said = compare_states(last["runs"], now).describe()
    replace_text(path, json.dumps({"runs": now, "since": said}))
    return said


def _stamp(folder: Path, record: Mapping[str, Any], formats: Collection[str] = ()) -> str:
    """Return the SHA-256 of all that the page of a run is made from."""
    digest = hashlib.sha256(_makers().encode())
    made_from = [folder.name, record, sorted(formats)]
    digest.update(json.dumps(made_from, sort_keys=True).encode())
    with suppress(OSError):
        digest.update((folder / record["notebook"]).read_bytes())
    return digest.hexdigest()


@cache
def _makers() -> str:
    """Say what makes pages."""
    templates = [sha256(path) for path in sorted(TEMPLATES.rglob("*")) if path.is_file()]
    return json.dumps([source_sha256(), version("nbconvert"), templates])


def _stamp_of(path: Path) -> str | None:
    """Return the stamp of a page that is there; it stands near its beginning."""
    try:
        with path.open(encoding="utf-8") as file:
            found = re.search(r'<meta name="made-from" content="(\w+)">', file.read(1000))
    except (OSError, UnicodeDecodeError):
        return None
    return found[1] if found else None


def page(folder: Path, record: Mapping[str, Any], formats: Collection[str] = ()) -> str:
    """Return the page of one run.

    Parameters
    ----------
    folder : Path
        With the executed notebook.
    record : mapping
        Of the run.
    formats : collection of str
        Endings of the files of the run that stand beside the page.
    """
    from dfsp.runs.light import nbformat

    try:
        notebook = nbformat.read(folder / record["notebook"], as_version=4)
    except (OSError, ValueError):  # a failed run may have left none, or half of one
        notebook = nbformat.v4.new_notebook()
    answered = record["status"] == "complete"
    cells = [each for each in notebook.cells if BANNER not in _tags(each)]
    notebook.cells = cells = _without_what_does_not_apply(cells) if answered else cells
    failing = (
        each["id"] for each in cells for o in each.get("outputs", []) if o.output_type == "error"
    )
    _describe_figures(cells)
    parts = _parted(cells, answered=answered)
    picture = _take_picture([*parts.answer, *parts.rest]) if answered else None
    question, answer, caption, body = (_body(notebook, part) for part in parts)
    contents = re.findall(r'<h2 id="([^"]+)">(.*?)<', body)  # as nbconvert writes them
    opened = "" if answer else " open"  # what is said above must suffice for the rest to be folded
    return _render(
        "page.html.j2",
        stamp=_stamp(folder, record, formats),
        name=folder.name,
        files=_files(folder, record, formats),
        record=record,
        others={k: v for k, v in parameters_of(record).items() if k not in record["parameters"]},
        code_style=_code_style(),
        question=question,
        answer=answer,
        # The answer may have said it already.
        warning="" if _says(parts.answer, record["prior_warning"]) else record["prior_warning"],
        picture=picture,
        caption=caption,
        body=_folded(body, opened),
        opened=opened,
        failed_cell=next(failing, None),
        contents=contents,
        headings=[address for address, _ in contents],
        checklist=fill_checklist(cells, record).to_dict("records"),
        high_risk=HIGH_RISK,
    )


class _Parts(NamedTuple):
    """The cells of a notebook as its page has them."""

    question: list[Any]
    answer: list[Any]
    caption: list[Any]
    rest: list[Any]


def _parted(cells: list[Any], *, answered: bool) -> _Parts:
    """Part a notebook: its first text, the section that answers, what follows its picture."""
    first = int(bool(cells) and cells[0].cell_type == "markdown")
    question, rest = cells[:first], cells[first:]
    sections = [i for i, each in enumerate(rest) if re.match("## ", _text(each))] + [len(rest)]
    start = next((i for i in sections[:-1] if _text(rest[i]).startswith(ANSWER)), None)
    if start is None or not answered:
        return _Parts(question, [], [], rest)
    end = next(i for i in sections if i > start)
    answer, rest = rest[start:end], rest[:start] + rest[end:]
    shown = next((i + 1 for i, each in enumerate(answer) if _pictures(each)), len(answer))
    return _Parts(question, answer[:shown], answer[shown:], rest)


def _without_what_does_not_apply(cells: list[Any]) -> list[Any]:
    """Leave out sections that show nothing since their code asks first whether it applies."""
    starts = [i for i, each in enumerate(cells) if _text(each).startswith("## ")]
    kept: list[Any] = []
    for start, end in pairwise([0, *starts, len(cells)]):
        section = cells[start:end]
        code = [each for each in section if each.cell_type == "code"]
        asks = any(re.search(r"(?m)^if ", each.source) for each in code)
        if not asks or any(each.outputs for each in code):
            kept += section
    return kept


def _tags(cell: Any) -> list[str]:
    return list(cell.metadata.get("tags", []))


def _text(cell: Any) -> str:
    return str(cell.source) if cell.cell_type == "markdown" else ""


def _pictures(cell: Any) -> list[Any]:
    return [each for each in cell.get("outputs", []) if "image/png" in each.get("data", {})]


def _take_picture(cells: Sequence[Any]) -> dict[str, str] | None:
    """Take the first picture out of the cells; it is shown above all, and once."""
    for cell in cells:
        for output in _pictures(cell)[:1]:
            cell.outputs.remove(output)
            data = "".join(output.data["image/png"].split())
            shown = {"src": f"data:image/png;base64,{data}", "alt": cell.metadata["alt"]}
            return shown | {k: str(v) for k, v in output.metadata.get("image/png", {}).items()}
    return None


def _says(cells: Sequence[Any], sentence: str | None) -> bool:
    """Whether outputs of cells say a sentence, however its lines are broken."""
    outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    said = " ".join(each.get("text/plain", "") for each in outputs)
    return " ".join((sentence or "").split()) in " ".join(said.split())


def _describe_figures(cells: Sequence[Any]) -> None:
    """Describe each figure by the heading above it."""
    heading = ""
    for cell in cells:
        titles = re.findall(r"(?m)^#+ (.+)$", _text(cell))
        heading = titles[-1] if titles else heading
        cell.metadata["alt"] = f"Figure: {heading}".removesuffix(": ")


def _files(
    folder: Path, record: Mapping[str, Any], formats: Collection[str]
) -> list[tuple[str, str]]:
    """Return the address and the name of each file of the run that can be taken from its page."""
    beside = [(quote(f"{folder.name}.{ending}"), f"this run as .{ending}") for ending in formats]
    own = [*record["tables"], *(name for name in record["figures"] if name.endswith(".svg"))]
    return beside + [(quote(f"../{folder.name}/{name}"), name) for name in own]


def _body(notebook: "NotebookNode", cells: Sequence[Any]) -> str:
    """Convert some cells of a notebook to HTML."""
    from nbformat import NotebookNode

    some = NotebookNode(notebook, cells=cells)
    return str(_exporter().from_notebook_node(some)[0]) if cells else ""


def _folded(body: str, opened: str) -> str:
    """Fold each section away under its heading, where a cell begins with one.

    What a link leads to is unfolded if it is inside; so the heading's name goes there.
    """
    begins = re.finditer(r'<div id="cell-id=[^>]*class="text">\s*<h2\b', body)
    places = [0, *(each.start() for each in begins), len(body)]
    before, *sections = (body[start:end] for start, end in pairwise(places))
    heading = r"(?s)(<div [^>]*>)\s*<h2( id=[^>]*)>(.*?</h2>)"
    folded = rf'<details class="section"{opened}><summary><h2>\3</summary>\1<span\2></span>'
    return before + "".join(
        f"{re.sub(heading, folded, each, count=1)}</details>\n" for each in sections
    )


@cache
def _code_style() -> str:
    """Return the style sheet of coloured code, without what users add to their own."""
    import nbformat
    from nbconvert.preprocessors import CSSHTMLHeaderPreprocessor

    found: dict[str, Any] = {"config_dir": os.devnull}
    CSSHTMLHeaderPreprocessor(style="default").preprocess(nbformat.v4.new_notebook(), found)
    return "".join(found["inlining"]["css"])


@cache
def _exporter() -> Any:
    from nbconvert import HTMLExporter, TemplateExporter
    from nbconvert.filters import Highlight2HTML
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
    from nbconvert.filters.widgetsdatatypefilter import WidgetsDataTypeFilter
    from nbconvert.preprocessors import TagRemovePreprocessor

    class Renderer(IPythonRenderer):
        def block_math(self, body: str) -> str:
            return mathml(body, "block")

        def inline_math(self, body: str) -> str:
            return mathml(body, "inline")

        def latex_environment(self, name: str, body: str) -> str:
            return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")

        def link(self, text: str, url: str, title: str | None = None) -> str:
            if url.endswith(".ipynb"):  # to its runs; other files are not beside a page
                url = f"index.html#{quote(Path(url).name)}"
            return str(super().link(text, url, title)) if re.match(LEADS, url) else text

        def image(self, text: str, url: str, title: str | None = None) -> str:
            url = self._embed_image_or_attachment(url)
            if not url.startswith("data:"):
                return self.text(f"[{text}: {url}]")
            return str(super().image(text, url, title))

    tags = TagRemovePreprocessor(
        enabled=True,
        remove_cell_tags={"remove-cell"},
        remove_input_tags={"remove-input"},
        remove_all_outputs_tags={"remove-output"},
    )

    class Exporter(HTMLExporter):
        def markdown2html(self, context: Any, source: str) -> str:
            del context
            return rendered(source)

        def from_notebook_node(self, nb: Any, resources: Any = None, **kw: Any) -> Any:
            # Not that of HTMLExporter, which reads the page again and takes longer than all else,
            # to describe images and to make parts focusable that our template does not have.
            language = nb.metadata.get("language_info", {})
            lexer = language.get("pygments_lexer", language.get("name"))
            own = {
                "highlight_code": lambda source, **_: coloured(source, lexer),
                "filter_data_type": WidgetsDataTypeFilter(
                    notebook_metadata=self._nb_metadata, parent=self, resources=resources
                ),
            }
            for name, each in own.items():
                self.register_filter(name, each)  # type: ignore[no-untyped-call]
            resources = self._init_resources(resources)  # type: ignore[no-untyped-call]
            return TemplateExporter.from_notebook_node(self, nb, resources, **kw)

        def _preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
            # Not that of Exporter, which copies the notebook once more and validates it twice
            return tags.preprocess(nb, resources)  # type: ignore[no-any-return]

    # The runs of one notebook have texts and code in common, and what no parameter changes.
    @lru_cache(maxsize=1000)
    def tidied(html: str) -> str:
        return scrolling(cleaned(html))

    @lru_cache(maxsize=1000)
    def coloured(source: str, lexer: str | None) -> str:
        return str(Highlight2HTML(pygments_lexer=lexer)(source))

    @lru_cache(maxsize=1000)
    def rendered(source: str) -> str:
        renderer = Renderer(
            escape=True, allow_harmful_protocols=False, embed_images=False, anchor_link_text=""
        )
        html = str(MarkdownWithMath(renderer=renderer).render(source))
        # The empty links of headings are closed as XML does, which HTML takes for an opened link.
        return scrolling(re.sub(r"(<a\b[^>]*?) ?/>", r"\1></a>", html))

    from jinja2 import pass_context

    Exporter.markdown2html = pass_context(Exporter.markdown2html)  # type: ignore[method-assign]
    try:
        exporter = Exporter(  # type: ignore[no-untyped-call]
            extra_template_basedirs=[str(TEMPLATES)],
            template_name="notebook",
            default_preprocessors=[],
            filters={"clean_html": tidied},
        )
    except ValueError as error:  # as in an environment that has its packages from another one
        says = str(error).splitlines()[0]
        raise DfspError(
            f"the templates of nbconvert are not in {sys.prefix}/share/jupyter ({says}); install "
            "nbconvert in this environment: pip install --force-reinstall --no-deps nbconvert"
        ) from None
    exporter.environment.auto_reload = False  # the templates are the package's own
    return exporter


def mathml(tex: str, display: str) -> str:
    """Return an equation as MathML, which browsers draw themselves; as its TeX if need be."""
    from html import escape

    import bleach
    from latex2mathml.converter import convert

    try:
        # The package writes the relation "is distributed as" as a name.
        html = str(convert(tex, display=display))
        html = html.replace("<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>").replace("\\_", "_")
        # It hands on what stands in \text as it is; a tag that is none of mathematics is a text.
        tags, attributes = frozenset(_MATHML.split()), {"*": _MATHML_ATTRIBUTES.split()}
        return str(bleach.clean(html, tags=tags, attributes=attributes))
    except Exception:  # the package raises many kinds of errors at TeX it does not know
        return f"<code>{escape(tex)}</code>"


def cleaned(html: str) -> str:
    """Return HTML of an output without anything that runs, loads or restyles the page."""
    import bleach

    bare = re.sub(r"(?is)<(script|style)\b.*?(</\1\s*>|\Z)", "", str(html))
    tags = frozenset(_HTML_TAGS.split())
    allowed = {"a": ["href", "title"], "*": ["class", "colspan", "rowspan"]}
    return str(bleach.clean(bare, tags=tags, attributes=allowed, strip=True))


def scrolling(html: str) -> str:
    """Return HTML whose tables scroll by keyboard too, without headings that say nothing."""

    def framed(table: re.Match[str]) -> str:
        found = re.sub(r"<th\b[^>]*></th>", "<td></td>", aligned(table[0]))
        return f'<div class="scroll" tabindex="0">{found}</div>'

    return re.sub(r"(?s)<table\b.*?</table>", framed, html)


def aligned(table: str) -> str:
    """Return the HTML of a table with one row of names and with its numbers to the right.

    pandas gives the names of an index a row of their own, below those of the columns. Which columns
    are numbers is counted from the right, since what an index repeats is written once.
    """
    head, mark, body = table.partition("<tbody>")
    lines = [_CELL.findall(row) for row in _ROW.findall(head)]
    rows = [_CELL.findall(row) for row in _ROW.findall(body)]
    if not mark or not rows or "colspan" in table:
        return table
    pairs = [*zip(*lines, strict=False)] if len(lines) == 2 else []
    if pairs and all("" in (above[2], below[2]) for above, below in pairs):
        lines = [[below if below[2] else above for above, below in pairs]]
    values = [[text for kind, _, text in row if kind == "td"][::-1] for row in rows]
    columns = [*zip(*values, strict=False)]
    numbers = {place for place, column in enumerate(columns) if _are_numbers(column)}
    top, end = head.partition("<tr")[0], body.rpartition("</tr>")[2]
    written = ["\n".join(_row(row, numbers) for row in part) for part in (lines, rows)]
    return f"{top}{written[0]}\n</thead>\n<tbody>\n{written[1]}{end}"


def _are_numbers(column: Sequence[str]) -> bool:
    known = [text for text in column if text not in ("-", "–", "")]
    return bool(known) and all(map(_NUMBER.fullmatch, known))


def _row(cells: Sequence[tuple[str, str, str]], numbers: Collection[int]) -> str:
    """Write a row of a table: kind, attributes and text of each cell; `numbers` from the right."""
    last = len(cells) - 1
    marks = [' class="n"' if last - place in numbers else "" for place in range(len(cells))]
    written = (
        f"<{kind}{own}{mark}>{text}</{kind}>"
        for (kind, own, text), mark in zip(cells, marks, strict=True)
    )
    return f"<tr>{''.join(written)}</tr>"


# ---------------------------------------------------------------- the index


def _index(
    found: Mapping[str, Mapping[str, Any]],
    pages: Mapping[str, str],
    states: Mapping[str, State],
    since: str = "",
) -> str:
    rows, unit = [], unit_of_runs(found.values())
    for name, record in found.items():
        every = {key: str(value) for key, value in parameters_of(record).items()}
        said = (record["reason"] or record["headline"], record["prior_warning"])
        rows.append(
            {
                "page": quote(pages[name], safe="="),
                "status": record["status"],
                "notebook": record["notebook"],
                "parameters": every,
                "numbers": [_rate(record, each, unit) for each in RATES]
                + [_tau(record), _priors(record)],
                "drawn": {name: record["numbers"].get(name) for name in RATES},
                "says": [*filter(None, said)],
                "run": name,
                "facts": json.dumps({"run": name, **_facts(states[name], unit)}),
            }
        )
    ends = [
        found[end]
        for row in rows
        for found in filter(None, row["drawn"].values())
        for end in ("q2.5", "q97.5")
        if found[end] is not None
    ]
    axis = limits(ends or [0.5])
    reach = " to ".join(f"{unit.whole * end:,.3g}" for end in axis)
    for row in rows:
        row["drawn"] = _drawn(row["drawn"], axis)
    rows.sort(key=lambda row: (row["status"] == "complete", row["page"]))
    values = {key: sorted({row[key] for row in rows}) for key in ("status", "notebook")}
    columns = _varying([row["parameters"] for row in rows])
    names = {key: f"{key} (parameter)" if key in values else key for key in columns}
    for row in rows:
        own = {names[key]: row["parameters"][key] for key in columns if key in row["parameters"]}
        row["filters"] = {"status": row["status"], "notebook": row["notebook"], **own}
    for notebook in values["notebook"]:  # where links to a notebook lead
        next(row for row in rows if row["notebook"] == notebook)["id"] = notebook
    for key in names.values():
        values[key] = sorted({row["filters"][key] for row in rows if key in row["filters"]})
    script = (TEMPLATES / "filter.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    failed = sum(row["status"] == "failed" for row in rows)
    return _render(
        "index.html.j2", rows=rows, filters=values, parameters=list(names.values()), failed=failed,
        axis=f"{reach} {unit.sign}", script=script, script_sha256=digest, since=since,
    )  # fmt: skip


def _facts(state: State, unit: Unit) -> dict[str, str]:
    """Return what is compared of two runs that are chosen in the index, by name."""
    return {
        "status": state["status"],
        **{f"parameter {name}": str(value) for name, value in state["parameters"].items()},
        **{f"counts of {study}": counted for study, counted in state["counts"].items()},
        **{f"data {name}": digest[:12] for name, digest in state["data"].items()},
        **{NAMES[name]: _rate(state, name, unit) for name in RATES},
        NAMES["tau"]: _tau(state),
        **{f"check {each['name']}": VERDICTS[each["passed"]] for each in state["checks"]},
    }


def _varying(runs: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the parameters that are not the same in all runs that have them."""
    values: dict[str, set[str]] = {}
    for run in runs:
        for key, value in run.items():
            values.setdefault(key, set()).add(value)
    return sorted(key for key, each in values.items() if len(each) > 1)


def _rate(record: Mapping[str, Any], quantity: str, unit: Unit) -> str:
    found = record["numbers"].get(quantity)
    if not found or found["mean"] is None:
        return "–"
    known = {name: value or LEAST_RATE for name, value in found.items()}
    return unit.estimate(known[centre_of(quantity, known)], known["q2.5"], known["q97.5"])


def _drawn(numbers: Mapping[str, Any], axis: tuple[float, float]) -> str:
    """Return where the intervals of a run lie on an axis, as values of a style; "" without them."""
    typical, mean, new = (numbers[name] for name in RATES)
    thick = typical or mean
    if not thick or not new or thick["q50"] is None or new["mean"] is None:
        return ""
    low, high = axis
    places = {
        "from": new["q2.5"] or 0.0, "low": thick["q2.5"], "at": thick["q50"],
        "high": thick["q97.5"], "to": new["q97.5"],
    }  # fmt: skip
    return "; ".join(f"--{k}: {100 * (v - low) / (high - low):.1f}%" for k, v in places.items())


def _tau(record: Mapping[str, Any]) -> str:
    found = record["numbers"].get("tau")
    if not found or found["q50"] is None:
        return "–"
    return f"{found['q50']:.2f} ({found['q2.5']:.2f} to {found['q97.5']:.2f})"


def _priors(record: Mapping[str, Any]) -> str:
    """Return how far each prior moves the first rate."""
    found = record["prior_sensitivity"]
    if not found:
        return "–"
    moved = found[next(name for name in RATES if name in found)]
    parts = [
        f"{name} {power['location']:+.2f}"
        for name, power in moved.items()
        if name != LIKELIHOOD and power and power["location"] is not None
    ]
    return ", ".join(parts) or "–"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True)
    environment.filters["number"] = _number
    return environment


def _render(template: str, **values: Any) -> str:
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    return str(_environment().get_template(template).render(style=style, **values))
