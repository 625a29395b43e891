"""The command line: wiring only."""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from shlex import quote
from textwrap import shorten
from typing import TYPE_CHECKING, Any, NoReturn, get_args

import click

from dfsp.analyses.by import fit_by
from dfsp.checks import Check, failed
from dfsp.constants import DRAWS, SEED
from dfsp.errors import DfspError, NotConverged
from dfsp.evidence.tables import Counts, Missing, read_table, read_tables
from dfsp.fitting import Engine, check_threshold
from dfsp.fitting import fit as fit_counts
from dfsp.model.effects import FAMILIES, concentration_prior, effects_of
from dfsp.model.model import Model
from dfsp.model.priors import TAU_FAMILIES, HalfNormal, Normal, mu_prior, tau_prior
from dfsp.prior_words import criterion
from dfsp.project import PROJECT_VARIABLE
from dfsp.rates import UNITS, Unit
from dfsp.text import as_option

if TYPE_CHECKING:
    from dfsp.runs.batch import Outcome, Progress

_LISTS = frozenset({"drop", "moderators"})
"""Parameters that hold names: given several times, all are meant."""

_SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True}


class _Known(click.Choice[str]):
    """One of the names of a mapping, as it stands when the command runs."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        self.case_sensitive = True
        self.known = known

    @property
    def choices(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(self.known)


def _choose(context: click.Context, option: click.Parameter, folder: Path | None) -> None:
    """Make a folder the project of this process and of those that it starts."""
    del context, option
    if folder is not None:
        os.environ[PROJECT_VARIABLE] = str(folder.absolute())


_project = click.option(
    "--project",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    show_default="the nearest folder from here upwards with data/evidence_sets.csv",
    help="Folder with data, notebooks and runs.",
    callback=_choose,
    expose_value=False,
)
_kernel = click.option(
    "--kernel",
    metavar="NAME",
    show_default="the notebook's",
    help="Another kernel, which may be of another environment; see jupyter kernelspec list.",
)


# The first character keeps click from filling the lines.
_EXAMPLES = """\b
Examples:
  dfsp fit baskets.csv --above 0.2 --allow-empty
  dfsp fit arms.csv --study trial,arm --cluster trial
  dfsp fit adverse_events.csv --by term --json
  dfsp fit subgroups.csv --by subgroup --common-tau
  dfsp fit subgroups.csv --by subgroup --borrow 0.5
"""


@click.group(context_settings=_SETTINGS)
@click.version_option(version("dfsp"), prog_name="dfsp")
def cli() -> None:
    """Response rates of small single-arm studies, and how far to trust them."""


@cli.command("fit", epilog=_EXAMPLES)
@click.argument("file", metavar="FILE")
@click.option(
    "--study",
    default="study",
    help="Column with the study's name; several: author,year joins them.",
)
@click.option("--events", default="events", help="Column with the patients with the outcome.")
@click.option("--total", default="total", help="Column with the patients counted.")
@click.option(
    "--counts", default="", show_default=False, help="Instead: one column with both, such as 7/15."
)
@click.option(
    "--cluster", default="", show_default=False, help="Column that says which rows belong together."
)
@click.option(
    "--by",
    default="",
    show_default=False,
    help="Column that says which rows are a table of their own, such as an outcome or a subgroup: "
    "each is fitted by itself. With --json one object a line.",
)
@click.option(
    "--common-tau", is_flag=True, help="With --by: studies of all tables scatter by one tau."
)
@click.option(
    "--borrow",
    type=float,
    metavar="P",
    help="With --by: each table's mu is with this prior probability exchangeable with the others', "
    "N(M, T^2), and has its own prior otherwise.",
)
@click.option(
    "--borrow-scale", type=float, help="T ~ HalfNormal(scale) (logit; with --borrow only).  [1]"
)
@click.option("--sheet", default="", show_default="the only one", help="Sheet of a workbook.")
@click.option(
    "--missing",
    type=click.Choice(get_args(Missing)),
    default="refuse",
    help="What to do with a row whose counts are empty, NA or NR.",
)
@click.option(
    "--keep-total-rows",
    is_flag=True,
    help="Rows that add up others, or are called so, are studies.",
)
@click.option(
    "--allow-empty",
    is_flag=True,
    help="Rows may have a total of 0, as arms that enrol no patient yet: their rate is predicted.",
)
@click.option("--mu-mean", type=float, show_default="0", help="Prior mean of mu (logit).")
@click.option("--mu-sd", type=float, show_default="2", help="Prior sd of mu (logit).")
@click.option(
    "--rate-centre", type=float, help="Instead of --mu-mean: prior median of the typical rate."
)
@click.option(
    "--rate-upper",
    type=float,
    help="Instead of --mu-sd: rate that it exceeds with probability 0.025.",
)
@click.option("--rate-lower", type=float, help="Or: rate that it falls short of with 0.025.")
@click.option(
    "--prior-below",
    type=float,
    help="Check that the priors give a new study's rate 5 % to be below this one.",
)
@click.option(
    "--prior-above",
    type=float,
    help="Check that the priors give a new study's rate 5 % to be above this one.",
)
@click.option("--tau-family", type=_Known(TAU_FAMILIES), default="half-normal")
@click.option(
    "--tau-scale",
    type=float,
    show_default="1; uniform 2; inverse-gamma 0.001",
    help="Scale of the prior of tau (logit): half-normal, half-cauchy and half-student-t scale, "
    "exponential mean, uniform upper end, log-normal sd of log(tau), inverse-gamma rate of the "
    "gamma of 1/tau^2, fixed value.",
)
@click.option(
    "--tau-shape", type=float, help="Shape of the gamma of 1/tau^2 (inverse-gamma only).  [0.001]"
)
@click.option("--tau-df", type=float, help="Degrees of freedom (half-student-t only).  [4]")
@click.option("--tau-location", type=float, help="Mean of log(tau) (log-normal only).  [-1]")
@click.option("--effects", type=_Known(FAMILIES), default="normal")
@click.option("--effects-df", type=float, help="Degrees of freedom (student-t only).  [4]")
@click.option(
    "--exchangeable", type=float, help="Prior probability of each study (exnex only).  [0.5]"
)
@click.option(
    "--alone-mean", type=float, help="Mean effect of a study on its own (logit, exnex only).  [0]"
)
@click.option("--alone-sd", type=float, help="Its sd (logit, exnex only).  [2]")
@click.option("--mean-a", type=float, help="mean ~ Beta(a, b) (beta-binomial only).  [1]")
@click.option("--mean-b", type=float, help="mean ~ Beta(a, b) (beta-binomial only).  [1]")
@click.option(
    "--concentration-location",
    type=float,
    help="Mean of log(concentration), which is normal (beta-binomial only).  [2]",
)
@click.option(
    "--concentration-scale",
    type=float,
    help="Standard deviation of log(concentration) (beta-binomial only).  [1.5]",
)
@click.option(
    "--shapes-scale",
    type=float,
    help="alpha, beta ~ HalfNormal(scale) (beta-binomial-shapes only).  [5]",
)
@click.option(
    "--unit",
    type=click.Choice(tuple(UNITS)),
    show_default="by the size of the rates",
    help="Unit of all rates on the page; those of --json are from 0 to 1.",
)
@click.option("--engine", type=click.Choice(get_args(Engine)), default="exact")
@click.option("--draws", type=int, default=DRAWS, help="NUTS draws a chain.")
@click.option("--seed", type=int, default=SEED, help="Seed of the NUTS engine.")
@click.option(
    "--above",
    type=float,
    help="A rate, above 0 and below 1: say how probably each study's, a typical and a new study's "
    "exceed it.",
)
@click.option(
    "--moderator",
    "moderators",
    multiple=True,
    metavar="COLUMN",
    help="A column that the rate may depend on, or the interaction a:b of two that are named too; "
    "may be repeated.",
)
@click.option(
    "--at",
    "points",
    multiple=True,
    metavar="COLUMN=VALUE[,...]",
    help="Predict the rates where the moderators have these values; may be repeated.",
)
@click.option(
    "--coefficient-sd",
    type=float,
    show_default="2.5",
    help="Prior sd of the difference of two groups, and for one sd of a number (logit).",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def fit_command(
    file: str,
    study: str,
    events: str,
    total: str,
    counts: str,
    cluster: str,
    by: str,
    common_tau: bool,
    borrow: float | None,
    borrow_scale: float | None,
    sheet: str,
    missing: Missing,
    keep_total_rows: bool,
    allow_empty: bool,
    mu_mean: float | None,
    mu_sd: float | None,
    rate_centre: float | None,
    rate_upper: float | None,
    rate_lower: float | None,
    prior_below: float | None,
    prior_above: float | None,
    tau_family: str,
    tau_scale: float | None,
    tau_shape: float | None,
    tau_df: float | None,
    tau_location: float | None,
    effects: str,
    effects_df: float | None,
    exchangeable: float | None,
    alone_mean: float | None,
    alone_sd: float | None,
    mean_a: float | None,
    mean_b: float | None,
    concentration_location: float | None,
    concentration_scale: float | None,
    shapes_scale: float | None,
    unit: str | None,
    engine: Engine,
    draws: int,
    seed: int,
    above: float | None,
    moderators: Sequence[str],
    points: Sequence[str],
    coefficient_sd: float | None,
    as_json: bool,
) -> None:
    """Fit a table of single-arm studies; FILE is a CSV or a workbook, or - for standard input.

    Exit status: 0 done; 1 a check failed; 2 the input or an option cannot be used.
    """
    if above is not None:
        check_threshold(above)
    tau = tau_prior(tau_family, scale=tau_scale, shape=tau_shape, df=tau_df, location=tau_location)
    concentration = (concentration_location, concentration_scale)
    own = effects_of(
        effects,
        df=effects_df, exchangeable=exchangeable, mean=alone_mean, sd=alone_sd, a=mean_a, b=mean_b,
        concentration=concentration_prior(*concentration), scale=shapes_scale,
    )  # fmt: skip
    mu = mu_prior(mu_mean, mu_sd, rate_centre, rate_upper, rate_lower, written=as_option)
    if own.own_priors and (mu, tau) != (Normal(), HalfNormal()):
        by = _OWN.get(effects, own.own_priors)
        raise DfspError(f"{effects} effects have no mu and tau; their priors are set by {by}")
    model = Model(mu=mu, tau=tau, effects=own)

    def wide_enough(unit: Unit) -> tuple[Check, ...]:
        return criterion(model, below=prior_below, above=prior_above, unit=unit)

    how: dict[str, Any] = {
        "study": study, "events": events, "total": total, "counts": counts, "cluster": cluster,
        "sheet": sheet, "missing": missing, "keep_totals": keep_total_rows,
        "allow_empty": allow_empty,
    }  # fmt: skip
    for name, asked in (("common-tau", common_tau), ("borrow", borrow is not None)):
        if asked and not by:
            raise DfspError(f"--{name} needs --by, which says what the tables are")
    if borrow_scale is not None and borrow is None:
        raise DfspError("--borrow-scale needs --borrow, the probability that a table borrows")
    if moderators:
        for name, value in (("by", by), ("above", above), ("allow-empty", allow_empty)):
            if value:
                raise DfspError(f"--{name} and --moderator do not go together; give one of them")
    elif points or coefficient_sd is not None:
        raise DfspError("--at and --coefficient-sd need a --moderator beside them")
    if by:
        tables = read_tables(file, by=by, **how)
        _tell(tables.values())
        tables = {name: replace(each, unit=unit or each.unit) for name, each in tables.items()}
        found_by = fit_by(
            tables, model, by=by, common_tau=common_tau, borrow=borrow,
            borrow_scale=1.0 if borrow_scale is None else borrow_scale,
            engine=engine, draws=draws, seed=seed,
        )  # fmt: skip
        found_by = replace(found_by, of_model=wide_enough(found_by.unit))
        if as_json:
            for each in found_by.as_dicts(above):
                click.echo(json.dumps(each, ensure_ascii=False, allow_nan=False))
        else:
            click.echo(found_by.page(above))
        sys.exit(1 if found_by.failed else 0)
    table = read_table(file, **how)
    _tell([table])
    table = replace(table, unit=unit or table.unit)
    if moderators:
        _moderated(
            table, moderators, points, coefficient_sd, wide_enough(table.rates_in), as_json,
            model=model, engine=engine, draws=draws, seed=seed, missing=missing,
        )  # fmt: skip
        return
    result = fit_counts(table, model, engine=engine, draws=draws, seed=seed, gate="report")
    result = replace(result, checks=(*result.checks, *wide_enough(result.unit)))
    if as_json:
        found = result.as_dict(above)
        click.echo(json.dumps(found, ensure_ascii=False, allow_nan=False, indent=2))
    else:
        click.echo(result.page(above))
    if failed(result.checks):
        sys.exit(1)


def _moderated(
    table: Counts,
    names: Sequence[str],
    points: Sequence[str],
    coefficient_sd: float | None,
    wide_enough: Sequence[Check],
    as_json: bool,
    **how: Any,
) -> None:
    """Fit and tell a meta-regression."""
    from dfsp.analyses.regression import regress
    from dfsp.analyses.regression.told import as_dict, page

    coefficient = None if coefficient_sd is None else Normal(0, coefficient_sd)
    found = regress(table, names, coefficient=coefficient, **how)
    found = replace(found, checks=(*found.checks, *wide_enough))
    predictions = [found.predict(_values(point)) for point in points]
    if as_json:
        told = as_dict(found, predictions)
        click.echo(json.dumps(told, ensure_ascii=False, allow_nan=False, indent=2))
    else:
        click.echo(page(found, predictions))
    if failed(found.checks):
        sys.exit(1)


def _values(point: str) -> dict[str, str]:
    """Return what `--at` says: values by the name of their column."""
    pairs = [part.partition("=") for part in point.split(",")]
    if not all(name.strip() and sign for name, sign, _ in pairs):
        raise DfspError(f"--at {point}: give COLUMN=VALUE, several separated by commas")
    return {name.strip(): value.strip() for name, _, value in pairs}


_OWN = {
    "beta-binomial": "--mean-a, --mean-b, --concentration-location and --concentration-scale",
    "beta-binomial-shapes": "--shapes-scale",
}
"""Options of effects that have priors of their own."""


def _tell(tables: Iterable[Counts]) -> None:
    """Say on standard error how tables were read, and what was left out of them."""
    for note in dict.fromkeys(note for table in tables for note in table.notes):
        click.echo(f"note: {note}", err=True)
    for table in tables:
        for row in table.dropped.itertuples():
            click.echo(f"left out: {row.study}: {row.reason}", err=True)


@cli.command("run")
@click.argument("notebook")
@click.option(
    "-p",
    "--parameter",
    "parameters",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    help="Set a parameter of the notebook; may be repeated, drop with a name each. See "
    "`dfsp parameters`.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    show_default="runs/ of the project",
    help="Where the run's folder is made.",
)
@click.option("--draws", is_flag=True, help="Keep the draws too, as NetCDF.")
@_kernel
@_project
@click.option("--no-progress", is_flag=True, help="Show no progress bar.")
def run_command(
    notebook: str,
    parameters: Sequence[tuple[str, str]],
    folder: Path | None,
    draws: bool,
    kernel: str | None,
    no_progress: bool,
) -> None:
    """Execute NOTEBOOK and keep it, its figures and a JSON record in one folder.

    Exit status: 0 done; 1 a cell or a check failed; 2 a parameter cannot be used, nothing started.
    """
    from dfsp.runs.run import failed_checks, run_notebook

    values: dict[str, str] = {}
    twice = set()
    for name, value in parameters:
        if name in values and name not in _LISTS:
            twice.add(name)
        values[name] = f"{values[name]} | {value}" if name in values else value
    if twice:
        raise DfspError(f"parameter {', '.join(sorted(twice))} is given twice; give it once")
    run = run_notebook(
        notebook, values, folder=folder, progress=not no_progress, draws=draws,
        kernel=kernel,
    )  # fmt: skip
    bad = failed_checks(run)
    if run.record["status"] == "failed":
        click.echo(f"failed: {run.record['reason']}", err=True)
    for check in bad:
        click.echo(str(check), err=True)
    for said in (run.record["headline"], run.record.get("prior_warning")):
        if said:
            click.echo(said)
    click.echo(f"see {_relative(run.folder)}/{run.record['notebook']}")
    if run.record["status"] == "failed":
        sys.exit(1)


@cli.command("batch")
@click.argument("plan", metavar="PLAN.yaml", type=click.Path(path_type=Path))
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    show_default="runs/ of the project",
    help="Where the run folders and results.csv are made.",
)
@click.option("--jobs", type=click.IntRange(min=1), show_default="one a core", help="Processes.")
@click.option("--scheduler", metavar="ADDRESS", help="A Dask scheduler whose workers do the runs.")
@click.option(
    "--wait",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    help="Seconds within which the scheduler has to have a worker.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    show_default="none",
    help="Seconds that the cells of one run may take together.",
)
@click.option("--draws", is_flag=True, help="Keep the draws too, as NetCDF.")
@_kernel
@_project
def batch_command(
    plan: Path,
    folder: Path | None,
    jobs: int | None,
    scheduler: str | None,
    wait: float,
    timeout: float | None,
    draws: bool,
    kernel: str | None,
) -> None:
    """Do the runs of PLAN.yaml that are not there yet, complete and unchanged.

    Exit status: 0 all complete; 1 a run failed; 2 the plan cannot be used, nothing started; 130
    stopped by Ctrl-C.
    """
    from dfsp.project import project_folder
    from dfsp.runs.batch import RESULTS, records, run_batch
    from dfsp.runs.plan import duplicate_runs, read_plan

    if jobs and scheduler:
        raise DfspError("--jobs counts processes here, --scheduler uses a cluster's; give one")
    where = folder or project_folder() / "runs"
    tasks = read_plan(plan, draws=draws, timeout=timeout, kernel=kernel, tell=_checking)
    for line in duplicate_runs(tasks):
        click.echo(f"{plan}: {line}", err=True)
    try:
        end = run_batch(tasks, where, workers=jobs, scheduler=scheduler, wait=wait, tell=_Bar())
    except KeyboardInterrupt:
        click.echo("\nstopped; the same command takes up the rest", err=True)
        sys.exit(130)
    for line in records(where)[1]:
        click.echo(f"{line}; left out", err=True)
    click.echo(f"{end}; see {_relative(where / RESULTS)}")
    if end.failed:
        sys.exit(1)


@cli.command("report")
@click.argument("runs", metavar="RUNS", type=click.Path(path_type=Path))
@click.option("--docx", is_flag=True, help="Each run as one Word file too (needs python-docx).")
@click.option("--xlsx", is_flag=True, help="Each run's tables as a workbook too (needs openpyxl).")
def report_command(runs: Path, docx: bool, xlsx: bool) -> None:
    """Write one HTML page for each run in the folder RUNS, and an index, to RUNS/report.

    Exit status: 0 done; 2 no runs there.
    """
    from dfsp.runs.batch import records
    from dfsp.runs.report import write_report

    for line in records(runs)[1]:
        click.echo(f"{line}; left out", err=True)
    formats = [ending for ending, asked in (("docx", docx), ("xlsx", xlsx)) if asked]
    click.echo(f"see {_relative(write_report(runs, formats))}")


@cli.command("new")
@click.argument("folder", type=click.Path(path_type=Path))
def new_command(folder: Path) -> None:
    """Write a small evidence FOLDER with invented rows, to be filled with one's own studies.

    Its README.md says how; its plan.yaml runs the notebooks on it as it is.

    Exit status: 0 done; 2 something is there already.
    """
    from dfsp.project import new_folder

    made = new_folder(folder)
    folder = _relative(made)
    click.echo(f"see {folder}/README.md; then dfsp batch {quote(str(folder / 'plan.yaml'))}")


@cli.command("compare")
@click.argument("before", metavar="RUNS_A", type=click.Path(path_type=Path))
@click.argument("after", metavar="RUNS_B", type=click.Path(path_type=Path))
def compare_command(before: Path, after: Path) -> None:
    """Say what changed from the runs in RUNS_A to those in RUNS_B.

    Counts, parameters, versions, numbers (against their intervals) and verdicts of each run that
    both folders have; two folders of one run each are compared with each other.

    Exit status: 0 done; 2 nothing to compare.
    """
    from dfsp.runs.compare import compare_runs

    click.echo(repr(compare_runs(before, after)))


@cli.command("parameters")
def parameters_command() -> None:
    """List the parameters of notebooks: type, allowed values, meaning.

    A value that its rule refuses is refused in every notebook that declares the name.
    """
    from dfsp.parameters import as_markdown

    click.echo(as_markdown())


def _checking(done: int, total: int) -> None:
    """Tell now and then how much of a long plan is checked."""
    if done % 1000 == 0 and total > 1000:
        click.echo(f"checked {done} of {total} runs", err=True)


class _Bar:
    """One line that is written over on a terminal, and a line a run elsewhere."""

    width = 30

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()

    def __call__(self, progress: "Progress", outcome: "Outcome | None") -> None:
        bad = outcome is not None and outcome.status == "failed"
        if outcome is None:
            line = f"{progress.total} runs, {progress.skipped} of them complete and unchanged"
        else:
            line = f"{outcome.name} {outcome.status} in {outcome.seconds:.1f} s"
            # The record has it all.
            line += f": {shorten(outcome.reason or '', 300, placeholder=' …')}" if bad else ""
        if not self.live:
            click.echo(f"{progress}: {line}" if outcome else line, err=True)
            return
        click.echo("\r\033[K", nl=False, err=True)
        if bad or outcome is None:
            click.echo(line, err=True)
        full = self.width * (progress.done + progress.failed) // max(progress.total, 1)
        bar = "█" * full + "░" * (self.width - full)
        click.echo(f"{bar} {progress}", nl=progress.left == 0, err=True)


def _relative(path: Path) -> Path:
    try:
        return path.resolve().relative_to(Path.cwd())
    except ValueError:
        return path


def main() -> NoReturn:
    """Run the command line; an error meant for the user is one message without a traceback."""
    try:
        cli(prog_name="dfsp")
    except NotConverged as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except DfspError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    sys.exit(0)
