"""What a fit says of its priors: numbers in the JSON, one sentence where a prior decides."""

import jsonschema
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import dfsp
from dfsp.cli import cli
from dfsp.engine.powers import power_scaling
from dfsp.evidence.tables import Counts
from dfsp.prior_words import LOCATION_LIMIT, criterion
from dfsp.project import project_folder
from dfsp.schemas import schema
from dfsp.text import as_option

RARE = "study,events,total\nA,2,1000000\nB,3,1000000\nC,4,1000000\n"
NONE = "study,events,total\nA,0,200\n"


def table(**columns):
    return pd.DataFrame({"study": list("ABCDEFGH")[: len(columns["events"])], **columns})


def with_one_tau():
    rows = table(events=[3, 5, 9, 2], total=[9, 12, 20, 8], group=list("xxyy"))
    return dfsp.fit_by(rows, by="group", common_tau=True)


def page(text, *options):
    done = CliRunner().invoke(cli, ["fit", "-", *options], input=text)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("effects", ["normal", "student-t", "exnex", "beta-binomial"])
def test_the_json_has_the_powers(effects):
    fit = dfsp.fit(table(events=[3, 5, 9], total=[9, 12, 20]), dfsp.Model(effects=effects))
    said = fit.as_dict()
    jsonschema.validate(said, schema("fit"))
    powers = power_scaling(fit.exact)
    assert set(said["prior_sensitivity"]) == set(powers)
    for quantity, by_prior in powers.items():
        for name, power in by_prior.items():
            assert said["prior_sensitivity"][quantity][name] == power._asdict(), (quantity, name)


def test_what_has_no_sensitivity_is_null():
    counts = table(events=[3, 5, 9], total=[9, 12, 20])
    fixed = dfsp.fit(counts, dfsp.Model(tau=dfsp.Fixed(0.5))).as_dict()
    jsonschema.validate(fixed, schema("fit"))
    assert fixed["prior_sensitivity"]["mean_rate"]["tau"] is None
    assert fixed["prior_sensitivity"]["mean_rate"]["mu"]["location"] != 0
    for each in with_one_tau().as_dicts():
        jsonschema.validate(each, schema("fit"))
        assert each["prior_sensitivity"] is None


def test_rows_in_clusters_say_what_their_priors_did():
    rows = table(events=[3, 5, 9], total=[9, 12, 20], cluster=["x", "x", "y"])
    fit = dfsp.fit(Counts(rows.assign(shares_patients_with="")))
    said = fit.as_dict()
    jsonschema.validate(said, schema("fit"))
    assert set(said["prior_sensitivity"]) == {
        "typical_rate", "mean_rate", "new_study_rate", "sigma"
    }  # fmt: skip
    assert set(said["prior_sensitivity"]["mean_rate"]) == {"mu", "sigma", "likelihood"}
    assert "sigma location" in fit.page()
    # Three rows say little of sigma: its prior ends what a new study's rate can be.
    assert "The prior of sigma decides: it narrows the interval" in fit.page()
    assert "change it with --tau-scale, and" in fit.page()
    assert "change it with tau_scale, and" in fit.prior_warning()


def test_a_prior_that_decides_is_named_with_its_way_and_what_to_do():
    """9 of three million: the prior of mu, which expects one half, pulls upwards by far."""
    says = page(RARE)
    assert "The prior of mu decides: it pulls the mean rate up (location +6.43" in says
    assert "--mu-sd, and report both" in says
    assert "The prior of mu decides: it pulls the mean rate up" in page(NONE)
    # Widths of -0.1508 would else be told as -0.15, "limit 0.15".
    near = table(
        events=[1198, 5396, 800, 20480, 3097, 3994], total=[1200, 5400, 800, 20500, 3100, 4000]
    )
    assert "(width -0.151, limit 0.15)" in dfsp.fit(near).prior_warning()
    # Ten times as wide, the prior of mu hardly pulls.
    wide = dfsp.fit(table(events=[2, 3, 4], total=[1_000_000] * 3), dfsp.Model(dfsp.Normal(0, 20)))
    assert abs(wide.prior_sensitivity["typical_rate"]["mu"].location) < LOCATION_LIMIT
    assert "prior of mu" not in wide.prior_warning()


def test_where_no_prior_decides_nothing_is_said():
    counts = dfsp.read_table(project_folder() / "data/examples/ankylosing_spondylitis.csv")
    fit = dfsp.fit(counts)
    assert fit.prior_warning() == "" and fit.page().endswith(fit.describe())


def test_no_rate_that_is_neither_is_shown_as_0_or_100():
    for text, flipped in ((RARE, False), (RARE, True)):
        if flipped:
            text = text.replace(",2,", ",999998,").replace(",3,", ",999997,")
            text = text.replace(",4,", ",999996,")
        says = page(text).split("log marginal")[1]
        assert " 0.0 " not in says and "100.0 %" not in says, says
    # 1.414e-4 by quadrature of others' making
    assert "typical study is 141 per 1,000,000" in page(RARE)


def test_the_page_says_what_the_priors_expect():
    """Normal(0, 2): logit^-1 of 0 and of -3.92 and 3.92."""
    assert (
        "before these counts: typical rate 50.0 % (1.9 to 98.1 %), new-study rate 50.0 %"
        in page(NONE)
    )
    # Quantiles of this prior lie beyond any number.
    options = "--tau-family", "inverse-gamma", "--tau-shape", "0.01", "--tau-scale", "0.01"
    assert "before these counts" not in page(RARE, *options)


def test_a_prior_is_said_in_rates():
    says = page(RARE, "--rate-centre", "0.00001", "--rate-upper", "0.001")
    # On the logit scale the lower end is as far as the upper one: nearly 1e-5 squared over 1e-3.
    assert "typical rate 10.0 per 1,000,000 (0.10 to 1,000)" in says
    lower = page(RARE, "--rate-centre", "0.5", "--rate-lower", "0.25", "--unit", "percent")
    assert "typical rate 50.0 % (25.0 to 75.0 %)" in lower
    assert "mu ~ Normal(mean -2.19722, sd 2)" in page(RARE, "--rate-centre", "0.1")
    assert "mu ~ Normal(mean 0, sd 0.5)" in page(RARE, "--rate-centre", "0.5", "--mu-sd", "0.5")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--rate-centre 0.5 --mu-mean 0", "--mu-mean and --rate-centre say the same"),
        ("--rate-upper 0.5", "need --rate-centre"),
        ("--rate-centre 0.5 --rate-upper 0.4", "0 < --rate-centre < --rate-upper < 1"),
        ("--rate-centre 0.5 --rate-lower 0.5", "0 < --rate-lower < --rate-centre < 1"),
        ("--rate-centre 0", "--rate-centre = 0.0: give rates with 0 < --rate-centre < 1"),
        ("--rate-centre nan", "give rates with 0 < --rate-centre < 1"),
        (
            "--effects beta-binomial-shapes --rate-centre 0.01",
            "have no mu and tau; their priors are set by --shapes-scale",
        ),
        ("--rate-centre 0.2 --rate-upper 0.4 --mu-sd 1", "give one of them"),
        ("--rate-centre 0.2 --rate-upper 0.4 --rate-lower 0.1", "give one of them"),
    ],
)
def test_rates_that_make_no_prior_are_refused(options, says):
    done = CliRunner().invoke(cli, ["fit", "-", *options.split()], input=RARE)
    assert isinstance(done.exception, dfsp.DfspError) and says in str(done.exception)


def test_rates_that_the_priors_must_allow_are_said_in_the_unit_of_the_page():
    """0.00005 is 50 per 1,000,000, the unit of 9 of 3,000,000."""
    done = CliRunner().invoke(cli, ["fit", "-", "--prior-below", "0.00005"], input=RARE)
    assert "a new study below 50.0 per 1,000,000: FAILED" in done.output


def test_the_prior_of_rates_has_these_quantiles():
    prior = dfsp.Normal.of_rates(0.2, upper=0.4)
    q = 1 / (1 + np.exp(-prior.ppf(np.array([0.5, 0.975]))))
    assert q == pytest.approx([0.2, 0.4])
    q = 1 / (1 + np.exp(-dfsp.Normal.of_rates(0.9, lower=0.5).ppf(np.array([0.5, 0.025]))))
    assert q == pytest.approx([0.9, 0.5])


def test_the_table_holds_what_the_mapping_holds():
    fit = dfsp.fit(table(events=[3, 5, 9], total=[9, 12, 20]))
    found = fit.prior_table()
    assert list(found.index) == list(fit.prior_sensitivity)
    assert found.loc["mean_rate", "tau width"] == fit.prior_sensitivity["mean_rate"]["tau"].width
    assert "mu location" in fit.page()
    fixed = dfsp.fit(table(events=[3, 5], total=[9, 12]), dfsp.Model(tau=dfsp.Fixed(0.5)))
    assert fixed.prior_table()["tau location"].isna().all()
    with pytest.raises(dfsp.DfspError, match="several tables with one tau"):
        with_one_tau().fits["x"].prior_table()


def test_of_several_models_the_sentence_names_those_that_a_prior_decides():
    """Complete responses are rare and their counts few; the response rate itself is not moved."""
    result = dfsp.categories.fit(dfsp.load_evidence("reconciled"))
    said = result.prior_warning()
    assert (
        "The prior of mu decides: for complete given response it pulls the typical rate up" in said
    )
    assert "for response it pulls" not in said
    assert said.count("choose a centre") == 1  # the advice once, not for each question
    shown = result.prior_table()
    assert shown.loc[("response", "mean_rate"), "mu location"] == pytest.approx(
        power_scaling(result.posteriors["response"])["mean_rate"]["mu"].location
    )


def test_of_totals_over_sets_of_cohorts():
    total = dfsp.totals.total_of(dfsp.load_evidence("review"), "severe_adverse_event")
    found = dfsp.totals.scenarios(total)
    assert "for severe adverse event it narrows the interval" in dfsp.totals.prior_warning(found)
    moved = dfsp.totals.prior_table(found).loc[("severe adverse event", "new_study_rate")]
    assert moved["tau width"] == found.prior_sensitivity["new_study_rate"]["tau"].width


@pytest.mark.parametrize(
    ("rates", "passed"),
    # Normal(0, 2), HalfNormal(1): 5 % of a new study's rates lie below 2.5 %, as the quantiles of
    # the prior's own table say; so does the same above by symmetry.
    [
        ((0.02, None), [False]),
        ((0.03, None), [True]),
        ((None, 0.98), [False]),
        ((0.03, 0.97), [True] * 2),
    ],
)
def test_a_criterion_written_down_before_the_fit(rates, passed):
    below, above = rates
    found = criterion(dfsp.Model(), below=below, above=above)
    assert [check.passed for check in found] == passed
    at = dfsp.fit(table(events=[1], total=[2])).prior().new_study_rate
    if below:
        assert found[0].value == pytest.approx(1 - at.prob_above(below))
    rates = [
        f"--prior-{side}={rate}"
        for side, rate in zip(("below", "above"), rates, strict=True)
        if rate
    ]
    done = CliRunner().invoke(cli, ["fit", "-", *rates], input="study,events,total\nA,3,10\n")
    assert done.exit_code == (0 if all(passed) else 1)
    assert done.output.count("prior: a new study") == len(passed)


def test_a_criterion_of_a_prior_that_cannot_be_integrated_cannot_tell():
    (check,) = criterion(dfsp.Model(tau=dfsp.InverseGamma(0.01, 0.01)), below=0.1)
    assert check.passed is None and "reaches beyond 1e100" in check.says
    with pytest.raises(dfsp.DfspError, match="between 0 and 1"):
        criterion(dfsp.Model(), above=1.0)


def test_a_rate_that_is_pulled_down_needs_a_lower_end():
    table = pd.DataFrame(
        {"study": list("ABC"), "events": [9999, 10000, 19998], "total": [10000, 10000, 20000]}
    )
    says = dfsp.fit(table).prior_warning()
    assert "down" in says and "a centre and a lower end" in says
    assert "(rate_centre, rate_lower), or widen with mu_sd, and" in says


def test_the_advice_names_parameters_and_on_the_command_line_options():
    """The same sentence but for the spelling: people type what they read."""
    found = dfsp.fit(table(events=[2, 3, 4], total=[1_000_000] * 3))
    said, page = found.prior_warning(), found.page()
    assert "(rate_centre, rate_upper), or widen with mu_sd, and report both" in said
    spelt = {name: as_option(name) for name in ("rate_centre", "rate_upper", "mu_sd", "tau_scale")}
    for name, option in spelt.items():
        said = said.replace(name, option)
    assert said in page and "(--rate-centre, --rate-upper), or widen with --mu-sd" in page
    assert not any(name in page for name in spelt)
    assert found.answer().count("--") == 0


def test_a_criterion_with_its_rates_the_wrong_way_round_is_refused():
    with pytest.raises(dfsp.DfspError, match="the first rate is to be the lower"):
        criterion(dfsp.Model(), below=0.01, above=0.001)
