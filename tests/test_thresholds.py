"""Rates held against a threshold, and rows without patients, whose rates are predicted."""

import json

import jsonschema
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from dense import binomials
from scipy import stats
from scipy.special import expit, logit

import dfsp
from dfsp.cli import cli
from dfsp.engine.nested import solve_nested
from dfsp.engine.posterior import solve
from dfsp.errors import DfspError
from dfsp.evidence.tables import check_table, read_table
from dfsp.schemas import schema

COUNTS = [3, 8, 0, 5], [10, 20, 7, 9]
BASKETS = "basket,trial,events,total\nA,X,3,10\nB,X,8,20\nC,Y,0,7\nD,Z,0,0\nE,X,0,0\nF,Y,5,9\n"


@pytest.fixture
def baskets(tmp_path):
    (tmp_path / "baskets.csv").write_text(BASKETS)
    return tmp_path / "baskets.csv"


def test_probabilities_are_those_of_plain_sums():
    """At a fixed tau: a product over studies of sums over their effects, on a grid of mu."""
    tau, cut = 0.7, 0.3
    mu, z = np.linspace(-9, 9, 1801), np.linspace(-8, 8, 1601)
    theta = mu[:, None] + tau * z
    likelihood, above = [], []
    for value in binomials(*COUNTS, theta):
        value *= stats.norm.pdf(z)
        likelihood.append(value.sum(1))
        # Half a step's share where the cut lies between two points of z
        share = np.clip((theta - logit(cut)) / (tau * (z[1] - z[0])) + 0.5, 0, 1)
        above.append((value * share).sum(1) / value.sum(1))
    weight = np.prod(likelihood, axis=0) * stats.norm.pdf(mu, 0, 2)
    weight /= weight.sum()
    table = pd.DataFrame({"study": list("ABCD"), "events": COUNTS[0], "total": COUNTS[1]})
    found = dfsp.fit(table, dfsp.Model(tau=dfsp.Fixed(tau))).above(cut)
    assert found.studies["above"].to_numpy() == pytest.approx(np.array(above) @ weight, abs=1e-5)
    new = weight @ stats.norm.sf(logit(cut), mu, tau)
    assert found.population["new_study_rate"] == pytest.approx(new, abs=1e-5)
    density = weight / (mu[1] - mu[0])
    fine = np.linspace(logit(cut), 9, 9001)
    typical = np.trapezoid(np.interp(fine, mu, density), fine)
    assert found.population["typical_rate"] == pytest.approx(typical, abs=1e-5)


@pytest.mark.parametrize("effects", ["normal", "student-t", "exnex", "beta-binomial"])
def test_probability_beyond_a_quantile_is_what_it_should_be(effects):
    posterior = solve(*COUNTS, dfsp.Model(effects=effects))
    for q, column in ((0.025, 2), (0.25, 3), (0.5, 4), (0.975, 6)):
        for study, rate in enumerate(posterior.studies[:, column]):
            assert posterior.prob_above(rate)[study] == pytest.approx(1 - q, abs=2e-6)


def test_probability_beyond_a_quantile_in_clusters():
    posterior = solve_nested(*COUNTS, list("XXYZ"), dfsp.Model())
    for q, column in ((0.025, 2), (0.5, 4), (0.975, 6)):
        for row in (0, 2):  # in a cluster, and by itself
            rate = posterior.studies[row, column]
            assert posterior.prob_above(rate)[row] == pytest.approx(1 - q, abs=2e-6)
        for cluster in (0, 1):
            rate = posterior.new_rows[cluster, column]
            assert posterior.prob_new_rows_above(rate)[cluster] == pytest.approx(1 - q, abs=2e-6)


def test_far_thresholds_are_all_but_certain():
    posterior = solve(*COUNTS, dfsp.Model())
    assert posterior.prob_above(1e-9) == pytest.approx(np.ones(4), abs=1e-4)
    assert posterior.prob_above(1 - 1e-9) == pytest.approx(np.zeros(4), abs=1e-6)


@pytest.mark.parametrize("rate", [0, 1, -0.1, 20, float("nan")])
def test_a_threshold_is_a_rate(rate, baskets):
    fit = dfsp.fit(pd.DataFrame({"study": ["A"], "events": [1], "total": [9]}))
    with pytest.raises(DfspError, match="above 0 and below 1"):
        fit.above(rate)
    done = CliRunner().invoke(cli, ["fit", str(baskets), "--above", str(rate)])
    assert isinstance(done.exception, DfspError)
    assert "above 0 and below 1" in str(done.exception)


def test_rows_without_patients_are_refused_until_they_are_allowed(baskets):
    with pytest.raises(DfspError) as raised:
        read_table(baskets, study="basket")
    assert "row 5 (study 'D'): total = 0" in str(raised.value)
    assert "--allow-empty" in str(raised.value)
    counts = read_table(baskets, study="basket", allow_empty=True)
    assert counts.groups == "4 studies and 2 without patients yet"
    assert len(counts.filled().table) == 4


@pytest.mark.parametrize(
    ("events", "total", "says"),
    [([1, 2], [0, 9], "events = 1 exceeds total = 0"), ([0, 0], [0, 0], "no row has patients")],
)
def test_what_stays_refused(events, total, says):
    table = pd.DataFrame({"study": ["A", "B"], "events": events, "total": total})
    with pytest.raises(DfspError, match=says):
        check_table(table, allow_empty=True)


@pytest.mark.parametrize("effects", ["normal", "student-t", "exnex", "beta-binomial"])
def test_rows_without_patients_change_nothing_and_are_predicted(baskets, effects):
    model = dfsp.Model(effects=effects)
    counts = read_table(baskets, study="basket", allow_empty=True)
    whole, known = dfsp.fit(counts, model), dfsp.fit(counts.filled(), model)
    ours, theirs = whole.as_dict(above=0.3), known.as_dict(above=0.3)
    jsonschema.validate(ours, schema("fit"))
    rows = {row["study"]: row for row in ours["studies"]}
    for row in theirs["studies"]:
        assert rows.pop(row["study"]) == row
    for row in rows.values():
        assert row["leave_one_out_lpd"] is None
        if effects != "exnex":
            assert row["rate"] == ours["new_study_rate"]
            assert row["above"] == ours["above"]["new_study_rate"]
    del ours["studies"], theirs["studies"]
    assert ours == theirs
    assert ours["n_studies"] == 4
    # None of these are of rows without patients.
    assert list(whole.leave_one_out().index) == list("ABCF")
    assert list(whole.predictive_check()["study"]) == list("ABCF")


@pytest.mark.slow
def test_an_exnex_row_without_patients_may_be_alone(baskets):
    """Half of it is a new exchangeable study, half is N(0, 2^2) on the logit scale."""
    counts = read_table(baskets, study="basket", allow_empty=True)
    fit = dfsp.fit(counts, dfsp.Model(effects="exnex"))
    row = fit.studies.set_index("study").loc["D"]
    assert row["exchangeable"] == 0.5
    found = fit.above(0.3)
    alone = stats.norm.sf(logit(0.3), 0, 2)
    expected = (found.population["new_study_rate"] + alone) / 2
    assert found.studies.set_index("study")["above"]["D"] == pytest.approx(expected, abs=1e-5)
    assert row["mean"] == pytest.approx((fit.summary.loc["new_study_rate", "mean"] + 0.5) / 2)
    draws = np.append(
        fit.draws(200_000)["posterior"]["new_study_rate"].to_numpy().ravel(),
        expit(2 * np.random.default_rng(1).standard_normal(200_000)),
    )
    assert row["sd"] == pytest.approx(draws.std(), abs=0.002)
    assert row["q97.5"] == pytest.approx(np.quantile(draws, 0.975), abs=0.003)


def test_in_a_cluster_they_get_its_new_row(baskets):
    counts = read_table(baskets, study="basket", cluster="trial", allow_empty=True)
    fit = dfsp.fit(counts)
    result = fit.as_dict(above=0.3)
    jsonschema.validate(result, schema("fit"))
    assert (result["n_studies"], result["n_clusters"]) == (4, 2)
    rows = {row["study"]: row for row in result["studies"]}
    assert rows["D"]["rate"] == result["new_study_rate"]  # nobody else in its cluster
    assert list(rows["E"]["rate"].values()) == fit.new_rows().loc["X"].to_list()
    assert rows["E"]["above"] == fit.exact.prob_new_rows_above(0.3)[0]
    known = dfsp.fit(counts.filled())
    assert result["elpd_leave_one_study_out"] == known.as_dict()["elpd_leave_one_study_out"]
    assert fit.counts.groups == "4 groups in 2 studies and 2 without patients yet"


def test_other_analyses_leave_them_out(baskets):
    counts = read_table(baskets, study="basket", allow_empty=True)
    of_subsets = dfsp.sensitivity.all_subsets(counts)
    assert of_subsets.table.equals(dfsp.sensitivity.all_subsets(counts.filled()).table)


def test_the_page_and_the_object_say_it(baskets):
    words = ["fit", str(baskets), "--study", "basket", "--allow-empty", "--above", "0.3"]
    page = CliRunner().invoke(cli, words)
    assert page.exit_code == 0, page.output
    assert "P(rate > 30.0 %): typical rate 0.6" in page.output
    assert "4 studies and 2 without patients yet" in page.output
    result = json.loads(CliRunner().invoke(cli, [*words, "--json"]).stdout)
    jsonschema.validate(result, schema("fit"))
    assert result["above"]["rate"] == 0.3
    assert result["studies"][0]["above"] == pytest.approx(0.566, abs=0.001)


def test_the_forest_draws_no_observed_rate_of_nobody(baskets):
    counts = read_table(baskets, study="basket", allow_empty=True)
    assert counts.observed().set_index("study").loc["D", ["rate", "low", "high"]].isna().all()
    texts = [text.get_text() for text in dfsp.plots.forest(dfsp.fit(counts)).texts]
    assert texts.count("–") == 2
    assert "0/0" in texts
    plt.close("all")


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["", "trial"])
def test_sampled_rows_without_patients(baskets, cluster):
    """NUTS has the same rows in its model, with a binomial of no trials."""
    counts = read_table(baskets, study="basket", cluster=cluster, allow_empty=True)
    exact, sampled = dfsp.fit(counts), dfsp.fit(counts, engine="nuts")
    ours, theirs = exact.above(0.3).studies["above"], sampled.above(0.3).studies["above"]
    assert theirs.to_numpy() == pytest.approx(ours.to_numpy(), abs=0.03)
    rates = exact.studies["mean"], sampled.studies["mean"]
    assert rates[1].to_numpy() == pytest.approx(rates[0].to_numpy(), abs=0.02)
    jsonschema.validate(sampled.as_dict(above=0.3), schema("fit"))
