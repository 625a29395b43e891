"""Moderators from the command line: what must come out, what is said, what is refused."""

import json
import re
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import dfsp
from dfsp import cli
from dfsp.engine.linear import LinearPosterior
from dfsp.schemas import schema

TABLES = Path(__file__).parent / "tables"


def said(*words, text=None):
    """Run `dfsp fit` and return what it prints."""
    done = CliRunner().invoke(cli.cli, ["fit", *words], input=text, catch_exceptions=True)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.stdout


def found(*words, text=None):
    """Return the JSON object that `dfsp fit` prints."""
    result = json.loads(said(*words, "--json", text=text))
    jsonschema.validate(result, schema("fit"))
    return result


def refused(*words, text=None):
    done = CliRunner().invoke(cli.cli, ["fit", *words], input=text)
    assert isinstance(done.exception, dfsp.DfspError), done.exception
    return str(done.exception)


def coefficients(result):
    return {each["name"]: each for each in result["moderators"]["coefficients"]}


def test_the_slope_of_a_birth_prevalence():
    """26 studies, 1,545 of 6.8 million: -0.0085 (-0.0156 to -0.0019) a year, of a quadrature."""
    table = str(TABLES.with_name("rates") / "birth_prevalence.csv")
    result = found(table, "--moderator", "pubyear")
    slope = coefficients(result)["pubyear"]
    assert slope["q50"] == pytest.approx(-0.0085, abs=5e-5)
    assert slope["q2.5"] == pytest.approx(-0.0156, abs=5e-5)
    assert slope["q97.5"] == pytest.approx(-0.0019, abs=6e-5)
    assert slope["from"] == 1989
    assert result["typical_rate"]["q50"] == pytest.approx(2.23e-4, abs=3e-6)
    page = said(table, "--moderator", "pubyear")
    assert "pubyear from 1989: -0.0085 (-0.0156 to -0.001" in page.replace("\n", " ")
    assert "fewer" not in page and "Cochrane" not in page


def test_the_slope_of_sorafenib():
    """49 arms as if independent: 0.00428 a mg (0.0025 to 0.0065), of a quadrature.

    That had a prior of Normal(0, 1) a mg; the default has sd 0.011 a mg, which pulls by 2 %.
    """
    table = str(TABLES / "sorafenib_arms.csv")
    words = ["--moderator", "dose", "--at", "dose=300", "--at", "dose=1200"]
    result = found(table, *words)
    slope = coefficients(result)["dose"]
    ends = [slope[name] for name in ("q2.5", "q50", "q97.5")]
    assert ends == pytest.approx([0.0025, 0.00428, 0.0065], abs=1.2e-4)
    wide = coefficients(found(table, "--moderator", "dose", "--coefficient-sd", "100"))["dose"]
    assert wide["q50"] == pytest.approx(0.00428, abs=2e-5)
    inside, far = result["moderators"]["predictions"]
    assert inside["outside"] is None
    assert "dose = 1200 lies outside the studies (100 to" in far["outside"]
    assert inside["typical_rate"]["q50"] < far["typical_rate"]["q50"]


SEEDS = (
    ("10/39 23/62 23/81 26/51 17/39", 0, 0),
    ("5/6 53/74 55/72 32/51 46/79 10/13", 0, 1),
    ("8/16 10/30 8/28 23/45 0/4", 1, 0),
    ("3/12 22/41 15/30 32/51 3/7", 1, 1),
)


def test_seeds_with_their_interaction():
    """As the BUGS manual prints them, of one MCMC run of an older program."""
    lines = ["counts,seed,extract"]
    lines += [f"{each},{seed},{extract}" for c, seed, extract in SEEDS for each in c.split()]
    result = found(
        "-", "--counts", "counts", "--mu-sd", "30", "--coefficient-sd", "30",
        "--tau-family", "inverse-gamma",
        "--moderator", "seed", "--moderator", "extract", "--moderator", "seed:extract",
        text="\n".join(lines),
    )  # fmt: skip
    published = {
        "intercept": (-0.542, 0.18),
        "seed": (0.028, 0.34),
        "extract": (1.37, 0.25),
        "seed:extract": (-0.79, 0.43),
    }
    own = coefficients(result)
    assert list(own) == list(published)
    for name, (mean, sd) in published.items():
        assert abs(own[name]["mean"] - mean) < 0.2 * sd
        assert own[name]["sd"] == pytest.approx(sd, rel=0.15)
    prior, few = result["moderators"]["notes"]
    assert prior.startswith("The prior of tau decides: for the average study it narrows")
    assert few.startswith("21 ")  # plates for three coefficients


def test_infection_by_status_is_told_with_its_prior():
    page = said(str(TABLES / "infection_by_status.csv"), "--moderator", "status")
    page = page.replace("\n", " ")
    assert "coefficients ~ Normal(mean 0, sd 2.5) for a difference of 1 in status" in page
    assert "status: 2.51 (1.13 to 3.75, logit scale; 2.10 and 2.63 under half and twice" in page
    assert "9 studies for 1 coefficient: the Cochrane Handbook (chapter 10) advises" in page


def test_the_priors_of_the_average_study_are_told_beside_that_of_coefficients():
    """The prior of mu to the power a is the one of sd 2 / sqrt(a): a central difference of refits.

    The likelihood is known with the coefficients integrated out, and is not among them.
    """
    table, h = str(TABLES / "infection_by_status.csv"), 0.05
    result = found(table, "--moderator", "status")
    moved = result["prior_sensitivity"]["typical_rate"]
    assert set(moved) == {"mu", "tau"}
    near, far = (
        found(table, "--moderator", "status", f"--mu-sd={2 * np.exp(sign * h / 2):.12g}")["mu"]
        for sign in (-1, 1)  # powers e^h and e^-h
    )
    sd = (result["mu"]["q97.5"] - result["mu"]["q2.5"]) / 3.92
    location = (near["mean"] - far["mean"]) / (2 * h) / sd
    assert moved["mu"]["location"] == pytest.approx(location, abs=2e-3)
    page = said(table, "--moderator", "status")
    row = page.split("when a prior is raised to a power (average study):")[1].splitlines()[2]
    assert row.split()[:3] == ["typical", "rate", f"{moved['mu']['location']:.3f}"]


ARMS = (
    "study,events,total,dose,setting,arm,same\n"
    "A,3,20,100,early,a,1\nB,7,24,200,late,b,1\nC,9,18,400,early,c,1\n"
    "D,4,30,100,late,a,1\nE,12,31,300,early,b,1\nF,6,11,,late,c,1\n"
)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--moderator", "dosis"], "covariate 'dosis' is not a column; known: dose, setting"),
        (["--moderator", "same"], "same: only 1 is left; a covariate needs two"),
        (["--moderator", "dose"], "study 'F': dose is not known\n.*--missing drop"),
        (["--moderator", "dose:setting"], "name dose and setting beside it"),
        (["--moderator", "events"], "'events' is no covariate"),
        (["--moderator", "setting", "--at", "dose=3"], "give one of each: setting"),
        (["--moderator", "setting", "--at", "setting=never"], "setting: 'never'"),
        (["--moderator", "setting", "--at", "early"], "give COLUMN=VALUE"),
        (["--at", "dose=3"], "need a --moderator beside them"),
        (["--moderator", "setting", "--above", "0.2"], "do not go together"),
        (["--moderator", "setting", "--by", "arm"], "do not go together"),
        (
            ["--moderator", "setting", "--cluster", "arm"],
            "does not model clusters.*--by COLUMN --cluster",
        ),
        (["--moderator", "setting", "--effects", "student-t"], "a meta-regression has normal"),
        (["--moderator", "setting", "--coefficient-sd", "0"], "give a number above 0"),
    ],
)
def test_what_cannot_be_used_is_refused(words, message):
    text = refused("-", *words, text=ARMS)
    assert re.search(message, text, re.DOTALL), text


def test_collinear_columns_are_refused():
    text = ARMS.replace("same", "grams").replace(",1\n", ",0\n")
    rows = [line.split(",") for line in text.strip().split("\n")]
    for row in rows[1:]:
        row[-1] = str(float(row[3] or 0) / 1000)
    text = "\n".join(map(",".join, rows[:-1]))
    message = refused("-", "--moderator", "dose", "--moderator", "grams", text=text)
    assert "grams follows from dose: leave one of them out" in message


def test_rows_without_a_value_are_left_out_when_asked():
    result = found("-", "--moderator", "dose", "--missing", "drop", text=ARMS)
    assert [each["study"] for each in result["studies"]] == list("ABCDE")


@pytest.mark.slow
def test_groups_and_their_interaction_with_a_number():
    words = ["--moderator", "dose", "--moderator", "setting", "--moderator", "dose:setting"]
    page = said("-", *words, "--missing", "drop", "--at", "dose=400,setting=late", text=ARMS)
    page = page.replace("\n", " ")
    assert "At dose = 400; setting = late the rate of a typical study" in page
    assert "dose = 400 lies outside the studies in such groups (100 to 200)" in page
    result = found("-", *words, "--missing", "drop", text=ARMS)
    assert list(coefficients(result))[1:] == ["dose", "setting: late", "dose:setting: late"]


def test_sampled_coefficients_have_their_errors(monkeypatch):
    regress, kept = dfsp.regression.regress, {}

    def once(*given, engine, **rest):
        """Sample a single time, for the object and for the page."""
        if engine not in kept:
            kept[engine] = regress(*given, engine=engine, **rest)
        return kept[engine]

    monkeypatch.setattr("dfsp.analyses.regression.regress", once)
    words = ["--moderator", "setting", "--engine", "nuts"]
    result = found("-", *words, text=ARMS)
    exact = coefficients(found("-", "--moderator", "setting", text=ARMS))
    for name, own in coefficients(result).items():
        assert 0 < own["mcse_mean"] < 0.2 * own["sd"]
        assert abs(own["mean"] - exact[name]["mean"]) < 4 * own["mcse_mean"]
    assert result["studies"][0]["leave_one_out_lpd"] is None
    assert "mcse_mean" in said("-", *words, text=ARMS)


@pytest.fixture(scope="module")
def arms():
    table = pd.read_csv(TABLES / "sorafenib_arms.csv").iloc[::4].rename(columns={"dose": "mg"})
    return table[["events", "total", "mg"]].assign(study=[f"S{i}" for i in range(len(table))])


def test_studies_of_a_regression_without_an_effect_are_those_of_a_fit(arms):
    """A prior of sd 1e-6 leaves no coefficient: `fit`, whose own tests are dense."""
    none = dfsp.regression.regress(arms, "mg", coefficient=dfsp.Normal(0, 1e-6))
    plain = dfsp.fit(dfsp.Counts(arms))
    names = ["mean", "sd", "q2.5", "q50", "q97.5", "leave_one_out_lpd"]
    own, other = (each.studies[names].to_numpy(float) for each in (none, plain))
    assert own == pytest.approx(other, abs=2e-5)


def test_leaving_a_study_out_is_a_fit_without_it(arms):
    result = dfsp.regression.regress(arms, "mg")
    counts, z = arms[["events", "total"]].to_numpy(float).T, result.standard.z
    for study in (0, 5, len(arms) - 1):
        rest = np.arange(len(arms)) != study
        events, total = counts[:, rest]
        without = LinearPosterior(events, total, z[rest], dfsp.Model(), dfsp.Normal(0, 2.5))
        expected = result.log_marginal_likelihood - without.log_marginal_likelihood
        assert result.studies["leave_one_out_lpd"][study] == pytest.approx(expected, abs=1e-4)


def test_a_number_has_bubbles_and_a_curve(arms):
    result = dfsp.regression.regress(arms, "mg")
    ax = dfsp.plots.moderator(result)
    assert ax.get_xlabel() == "mg" and ax.get_ylim()[0] == 0
    drawn = np.asarray(ax.collections[-1].get_offsets())
    assert drawn[:, 0] == pytest.approx(arms["mg"].to_numpy())
    assert drawn[:, 1] == pytest.approx(100 * (arms["events"] / arms["total"]).to_numpy())
    (curve,) = ax.lines
    for place in (0, -1):
        at = result.predict({"mg": float(curve.get_xdata()[place])}).rates
        typical = 100 * at.loc["typical rate", "q50"]
        assert curve.get_ydata()[place] == pytest.approx(typical, abs=1e-4)
    with pytest.raises(dfsp.DfspError, match="moderator: 'dose'"):
        dfsp.plots.moderator(result, "dose")


def test_groups_have_a_forest_with_a_diamond_each(arms):
    table = arms.assign(level=np.where(arms["mg"] > 300, "high", "low"))
    result = dfsp.regression.regress(table, "level")
    (ax,) = dfsp.plots.moderators(result).values()
    assert {text.get_text() for text in ax.texts} == {"level: high", "level: low"}
    labels = [tick.get_text() for tick in ax.get_yticklabels()]
    assert labels.count("Typical rate") == 2 and len(labels) == len(arms) + 2
    for patch, level in zip(ax.patches, [text.get_text()[7:] for text in ax.texts], strict=True):
        rates = 100 * result.predict({"level": level}).rates.loc["typical rate"]
        corners = patch.get_xy()[:4, 0]
        assert corners == pytest.approx(rates[["q2.5", "q50", "q97.5", "q50"]].to_list(), abs=1e-6)


def test_a_notebook_hears_of_its_moderators_first():
    place = {"table": str(TABLES / "sorafenib_arms.csv"), "outcome": "", "not_evaluable": ""}
    given = dfsp.parameters.check(place | {"moderators": "dose | year | dose:year"})
    assert given.terms == ["dose", "year", "dose:year"]
    with pytest.raises(dfsp.DfspError, match="covariate 'dosis' is not a column; known: year"):
        dfsp.parameters.check(place | {"moderators": "dosis"})
