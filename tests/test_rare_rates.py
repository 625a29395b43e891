"""Rates far from one half, from the command line to the report: the numbers, and what is said.

The values are quantiles by quadrature of others' making, or the engine's where such a quadrature
confirmed it, to four digits; the intervals of the second fit of `NINE` are of a prior ten times as
wide.
"""

import json
from html import unescape
from pathlib import Path

import pytest
from click.testing import CliRunner

from dfsp.cli import cli
from dfsp.project import project_folder
from dfsp.runs.report import write_report
from dfsp.runs.run import run_notebook

NINE = "study,events,total\nA,2,1000000\nB,3,1000000\nC,4,1000000\n"
NONE = "study,events,total\nA,0,200\n"
BIRTHS = (Path(__file__).parent / "rates/birth_prevalence.csv").read_text("utf-8")
MEDIAN_AND_ENDS = ("q50", "q2.5", "q97.5")
PULLED_UP = "The prior of mu decides: it pulls the mean rate up"


def fitted(text, *options):
    done = CliRunner().invoke(cli, ["fit", "-", "--json", *options], input=text)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("text", "options", "quantity", "right"),
    [
        (NINE, (), "typical_rate", (1.414e-4, 3.03e-6, 0.0154)),
        (NINE, (), "mean_rate", (2.26e-3, 3.3e-6, 0.163)),
        (NINE, (), "new_study_rate", (7.9e-5, 1.1e-6, 0.283)),
        (NINE, ("--mu-sd", "20"), "typical_rate", (2.788e-6, 9.24e-7, 7.09e-6)),
        (NINE, ("--mu-sd", "20"), "new_study_rate", (2.797e-6, 4.6e-7, 1.44e-5)),
        (NONE, (), "typical_rate", (0.0140, 0.0010, 0.370)),
        (NONE, (), "new_study_rate", (None, None, 0.747)),
        (BIRTHS, (), "typical_rate", (2.230e-4, 2.044e-4, 2.410e-4)),
        (BIRTHS, (), "tau", (0.1219, None, None)),
    ],
)
def test_the_numbers(text, options, quantity, right):
    found = fitted(text, *options)[quantity]
    for name, value in zip(MEDIAN_AND_ENDS, right, strict=True):
        if value is not None:
            digits = len(f"{value:e}".partition("e")[0].rstrip("0").replace(".", ""))
            assert found[name] == pytest.approx(value, rel=6 * 10.0**-digits), name


def test_the_marginal_likelihood_of_births():
    assert fitted(BIRTHS)["log_marginal_likelihood"] == pytest.approx(-101.231, abs=6e-4)


@pytest.mark.parametrize(("text", "decides"), [(NINE, True), (NONE, True), (BIRTHS, False)])
def test_the_page_says_whether_the_prior_decides(text, decides):
    page = CliRunner().invoke(cli, ["fit", "-"], input=text).output
    assert (PULLED_UP in page) == decides
    assert ("decides" in page) == decides


@pytest.mark.parametrize("flipped", [False, True])
def test_what_is_only_known_as_a_bound_is_null_and_no_rate_is_1(flipped):
    """Of half-normal shapes and no event, a sixth of new studies lie below a logit of -45."""
    text = "study,events,total\n" + "".join(
        f"{name},{n if flipped else 0},{n}\n" for name, n in zip("ABC", (10, 50, 400), strict=True)
    )
    options = "--effects", "beta-binomial-shapes"
    found = fitted(text, *options)
    page = CliRunner().invoke(cli, ["fit", "-", *options], input=text).output
    for row in (found["new_study_rate"], found["studies"][0]["rate"]):
        if flipped:
            assert 0.999 < row["q97.5"] < 1
        else:
            assert row["q2.5"] is None and 0 < row["q25"] < 1e-10
    said = "between 66.0 and >99.999999 %" if flipped else "between <0.000001 and 340 per 1,000"
    assert said in page


def reported(folder, tables, **parameters):
    """Run the main notebook on each table; return the records and the index of the report."""
    records = {}
    for name, text in tables.items():
        path = folder / f"{name}.csv"
        path.write_text(text, "utf-8")
        given = {"table": str(path), "outcome": "", "not_evaluable": "", "engine": "exact"}
        notebook = project_folder() / "notebooks/02_response.ipynb"
        run = run_notebook(notebook, given | parameters, folder=folder / "runs", progress=False)
        records[name] = run.record
    index = write_report(folder / "runs")
    return records, unescape(index.read_text("utf-8"))


def check_run(record, index, decides):
    assert record["status"] == "complete", record["reason"]
    assert record["prior_warning"].startswith(PULLED_UP) == decides
    assert not decides or record["prior_warning"] in index
    location = record["prior_sensitivity"]["typical_rate"]["mu"]["location"]
    assert f"mu {location:+.2f}, tau" in index


def test_nine_in_three_million_in_the_notebook_and_in_the_report(tmp_path):
    records, index = reported(tmp_path, {"nine": NINE})
    check_run(records["nine"], index, decides=True)
    typical = records["nine"]["numbers"]["typical_rate"]
    assert typical["q50"] == pytest.approx(1.414e-4, rel=1e-3)


@pytest.mark.slow
def test_none_of_200_and_births_in_the_notebook_and_in_the_report(tmp_path):
    records, index = reported(tmp_path, {"none": NONE, "births": BIRTHS})
    check_run(records["none"], index, decides=True)
    check_run(records["births"], index, decides=False)
    assert records["births"]["prior_warning"] == ""


@pytest.mark.slow
def test_a_criterion_that_does_not_hold_fails_the_run(tmp_path):
    """The default priors leave 0.002 below 0.1 %; the right centre and upper end leave half."""
    criterion = {"prior_below": "0.001"}
    records, _ = reported(tmp_path, {"nine": NINE}, **criterion)
    assert records["nine"]["status"] == "failed"
    assert records["nine"]["reason"].startswith("checks failed: prior: a new study below 1,000 per")
    given = criterion | {"rate_centre": "0.00001", "rate_upper": "0.001"}
    records, _ = reported(tmp_path, {"nine": NINE}, **given)
    assert records["nine"]["status"] == "complete", records["nine"]["reason"]
