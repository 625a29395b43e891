"""Totals over unknown cohorts against enumeration by hand, and surgery as reported."""

from itertools import combinations, product
from math import comb

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import dfsp
from dfsp.analyses.totals import (
    Total,
    log_likelihood_of_total,
    over_sets,
    reported,
    scenarios,
)
from dfsp.engine.posterior import solve
from dfsp.model.likelihood import log_likelihood
from dfsp.project import new_folder


@pytest.fixture(scope="module")
def review_evidence():
    return dfsp.load_evidence("review")


def enumerated(total, mu, tau):
    """Every set of cohorts, every way its events can fall: no recursion."""
    found = []
    for number in range(len(total.sizes) + 1):
        for chosen in combinations(total.sizes, number):
            if sum(chosen) != total.total:
                continue
            probability = 0.0
            for events in product(*(range(n + 1) for n in chosen)):
                if sum(events) == total.events:
                    each = log_likelihood(
                        np.array(events, float), np.array(chosen, float), np.array([mu]),
                        np.array([tau]),
                    )  # fmt: skip
                    probability += np.exp(each.sum())
            found.append(probability)
    return len(found), np.log(np.mean(found))


def test_the_likelihood_is_that_of_enumeration():
    total = Total("event", 4, 7, np.array([1, 2, 3, 4, 5]))
    mu, tau = np.array([-0.5, 0.8]), np.array([0.3, 1.4])
    own = log_likelihood_of_total(total, mu, tau)
    for i in range(2):
        number, expected = enumerated(total, mu[i], tau[i])
        assert total.subsets == number
        assert own[i] == pytest.approx(expected, abs=1e-6)


def test_one_set_and_no_heterogeneity_is_a_binomial():
    """Two studies of 1 and 2 patients: 2 of 3 at a common rate."""
    total = Total("event", 2, 3, np.array([1, 2]))
    own = log_likelihood_of_total(total, np.array([0.4]), np.array([1e-4]))
    rate = 1 / (1 + np.exp(-0.4))
    assert own[0] == pytest.approx(stats.binom.logpmf(2, 3, rate), abs=1e-5)


def test_the_reviews_totals(review_evidence):
    any_event = dfsp.totals.total_of(review_evidence, "any_adverse_event")
    severe = dfsp.totals.total_of(review_evidence, "severe_adverse_event")
    assert (any_event.events, any_event.total) == (78, 106)
    assert (severe.events, severe.total) == (20, 132)
    assert sum(severe.sizes) == 152
    sums = [sum(s) for n in range(11) for s in combinations(severe.sizes, n)]
    assert (severe.subsets, any_event.subsets) == (sums.count(132), sums.count(106))


def test_scenarios(review_evidence):
    table = scenarios(dfsp.totals.total_of(review_evidence, "severe_adverse_event")).table
    pooled = table.loc[("complete pooling", "rate")]
    beta = stats.beta(21, 113)
    assert pooled["mean"] == pytest.approx(beta.mean())
    assert pooled["q97.5"] == pytest.approx(beta.ppf(0.975), abs=1e-6)
    assert pooled["above_20"] == pytest.approx(beta.sf(0.2))
    assert pooled["expected"] == pytest.approx(20 * beta.mean())
    single = dfsp.fit(dfsp.Counts.of(one_study(20, 132)))
    assert table.loc[("one exchangeable study", "mean rate"), "mean"] == pytest.approx(
        single.summary.loc["mean_rate", "mean"]
    )
    sets = table.loc[("sum over sets of cohorts", "new-study rate")]
    assert sets["expected"] == pytest.approx(20 * sets["mean"], rel=2e-3)
    # The studies behind the total say more of the mean than one exchangeable study does.
    width = table["q97.5"] - table["q2.5"]
    assert (
        width["sum over sets of cohorts", "mean rate"]
        < width["one exchangeable study", "mean rate"]
    )


def one_study(events, total):
    return pd.DataFrame({"study": ["A"], "events": [events], "total": [total]})


@pytest.mark.parametrize("tau", [dfsp.Fixed(0.5), dfsp.HalfNormal(1.0)])
def test_a_single_set_is_the_exact_engine(tau):
    """Cohorts of 9 and 40 patients, a total of 9: the set is known, so is the study."""
    total = Total("event", 3, 9, np.array([9, 40]))
    model = dfsp.Model(tau=tau)
    own = scenarios(total, model).table.loc["sum over sets of cohorts"]
    exact = dfsp.fit(dfsp.Counts.of(one_study(3, 9)), model).summary
    for rate, row in (("mean rate", "mean_rate"), ("new-study rate", "new_study_rate")):
        assert own.loc[rate, "mean"] == pytest.approx(exact.loc[row, "mean"], abs=1e-4)
        assert own.loc[rate, "q97.5"] == pytest.approx(exact.loc[row, "q97.5"], abs=1e-3)


def test_the_reviews_totals_on_another_lattice(review_evidence):
    """Reference: Riemann sum of 241 mu by 60 tau, effects by a 141-point sum, sets enumerated."""
    for measure, rate, expected in (
        ("severe_adverse_event", "mean rate", (0.1711, 0.0857, 0.3144)),
        ("severe_adverse_event", "new-study rate", (0.1711, 0.0126, 0.5707)),
        ("any_adverse_event", "mean rate", (0.7157, 0.5276, 0.8496)),
        ("any_adverse_event", "new-study rate", (0.7157, 0.2191, 0.9764)),
    ):
        table = scenarios(dfsp.totals.total_of(review_evidence, measure)).table
        row = table.loc[("sum over sets of cohorts", rate)]
        assert row[["mean", "q2.5", "q97.5"]].to_list() == pytest.approx(expected, abs=2e-3)


def above_20(total):
    """P(rate of a new study > 0.2), default priors: sets enumerated, sums by plain grids."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    tau, mu = 2.5 * (nodes + 1), np.linspace(-7, 4, 181)
    z = np.linspace(-7, 7, 121)
    phi = stats.norm.pdf(z) / stats.norm.pdf(z).sum()
    sizes = total.sizes.tolist()
    sets = [c for n in range(11) for c in combinations(sizes, n) if sum(c) == total.total]
    density = np.zeros((40, 181))
    for row, sd in enumerate(tau):
        rate = 1 / (1 + np.exp(-(mu[:, None] + sd * z)))
        of = {
            n: [comb(n, k) * (rate**k * (1 - rate) ** (n - k)) @ phi for k in range(min(n, 20) + 1)]
            for n in set(sizes)
        }
        for chosen in sets:
            state = np.zeros((181, total.events + 1))
            state[:, 0] = 1
            for size in chosen:
                added = np.zeros_like(state)
                for k, of_k in enumerate(of[size]):
                    added[:, k:] += state[:, : total.events + 1 - k] * of_k[:, None]
                state = added
            density[row] += state[:, -1]
    density *= stats.norm.pdf(mu, 0, 2) * (stats.norm.pdf(tau) * weights)[:, None]
    density /= density.sum()
    return (density * stats.norm.sf(np.log(0.25), mu, tau[:, None])).sum()


def test_above_20_against_brute_force(review_evidence):
    total = dfsp.totals.total_of(review_evidence, "severe_adverse_event")
    own = scenarios(total).table.loc[("sum over sets of cohorts", "new-study rate"), "above_20"]
    assert own == pytest.approx(above_20(total), abs=5e-4)


def test_wide_priors_are_not_cut_off(review_evidence):
    """Reference: 0.058 by brute force on a lattice of mu from -60 to 60."""
    total = dfsp.totals.total_of(review_evidence, "severe_adverse_event")
    model = dfsp.Model(dfsp.Normal(0, 10), dfsp.HalfCauchy(2.5))
    own = scenarios(total, model).table.loc[("sum over sets of cohorts", "new-study rate"), "q50"]
    assert own == pytest.approx(0.058, abs=1e-3)


@pytest.mark.parametrize("counts", [(0, 40), (7, 30), (12, 12)], ids=str)
@pytest.mark.parametrize(
    "tau", [dfsp.HalfNormal(1), dfsp.HalfCauchy(1), dfsp.Fixed(0.5)], ids=lambda tau: tau.family
)
def test_a_total_of_one_cohort_is_a_study(counts, tau):
    """If only one set of cohorts has so many patients, it is known who was counted."""
    model = dfsp.Model(tau=tau)
    total = over_sets(Total("event", *counts, np.array([counts[1], 50, 51])), model)
    study = solve([counts[0]], [counts[1]], model)
    assert total.log_marginal_likelihood == pytest.approx(study.log_marginal_likelihood, abs=1e-6)
    for name in ("mu", "typical_rate", "mean_rate", "new_study_rate"):
        found, expected = (getattr(each, name).summary() for each in (total, study))
        assert found == pytest.approx(expected, abs=1e-5)


def test_other_effects_are_refused(review_evidence):
    total = dfsp.totals.total_of(review_evidence, "severe_adverse_event")
    with pytest.raises(dfsp.DfspError, match="student-t effects: a sum over sets of cohorts has"):
        scenarios(total, dfsp.Model(effects="student-t"))


def test_what_is_not_there(review_evidence):
    with pytest.raises(dfsp.DfspError, match="has no total of surgery"):
        dfsp.totals.total_of(review_evidence, "surgery")
    with pytest.raises(dfsp.DfspError, match="no set of cohorts of 2, 4 patients adds up to 5"):
        scenarios(Total("event", 1, 5, np.array([2, 4])))


def test_surgery_is_kept_apart():
    table = dfsp.totals.surgery(dfsp.load_evidence("reconciled"))
    assert table.loc["planned", "events"].to_list() == [4]
    salvage = table.loc["salvage"]
    assert salvage.loc["Wang 2015", ["events", "total"]].to_list() == [4, 10]
    assert salvage.loc["Wang 2015", "population"] == "primarily unresectable"


def with_events(evidence, counts):
    """The evidence with these adverse events: cohort, any, severe, patients."""
    rows = []
    for cohort, some, severe, total in counts:
        label = evidence.cohorts.set_index("cohort").at[cohort, "label"]
        for measure, events in (("any_adverse_event", some), ("severe_adverse_event", severe)):
            for category, n in (("event", events), ("no event", total - events)):
                rows.append([cohort, label, measure, "all", category, n])
    columns = ["cohort", "label", "measure", "population", "category", "count"]
    rows = pd.DataFrame(rows, columns=columns).assign(source="primary", status="printed")
    return dfsp.Evidence(**vars(evidence) | {"rows": rows})


def test_severe_events_are_nested_in_any(review_evidence):
    counts = [("wang-2015", 15, 4, 22), ("han-2009", 0, 0, 4), ("kerob-2010", 20, 6, 25)]
    evidence = with_events(review_evidence, counts)
    known = dfsp.totals.both_known(evidence)
    assert known.to_numpy().tolist() == [
        ["Wang 2015", 15, 4, 22], ["Han 2009", 0, 0, 4], ["Kérob 2010", 20, 6, 25],
    ]  # fmt: skip
    table = dfsp.totals.severe_in_any(known)
    of_any = dfsp.fit(dfsp.count(evidence, "any_adverse_event")).summary
    given = dfsp.fit(
        dfsp.Counts.of(pd.DataFrame({"study": ["W", "K"], "events": [4, 6], "total": [15, 20]}))
    ).summary
    for scale, row in (("mean rate", "mean_rate"), ("new-study rate", "new_study_rate")):
        means = [table.loc[(scale, event), "mean"] for event in ("any", "severe given any")]
        assert means == pytest.approx([of_any.loc[row, "mean"], given.loc[row, "mean"]])
        assert table.loc[(scale, "severe"), "mean"] == pytest.approx(np.prod(means))
        assert table.loc[(scale, "severe"), "q97.5"] < table.loc[(scale, "any"), "q97.5"]
    text = dfsp.totals.nested(evidence).describe()
    assert text.startswith("3 cohorts report both (Wang 2015, Han 2009, Kérob 2010)")
    impossible = with_events(review_evidence, [("wang-2015", 3, 4, 22)])
    with pytest.raises(dfsp.DfspError, match="Wang 2015: 4 of 22 severe, 3 of 22 any"):
        dfsp.totals.both_known(impossible)


def test_where_no_cohort_has_both_that_is_said():
    text = dfsp.totals.nested(dfsp.load_evidence("reconciled")).describe()
    assert text.startswith("No cohort of evidence set 'reconciled' reports both")
    assert "(nobody reports any events; Ugurel 2014 reports severe events)" in text
    assert "nobody reports severe" in dfsp.totals.nested(dfsp.load_evidence("review")).describe()


def test_the_later_series_stands_beside():
    table = dfsp.totals.later_series().droplevel("study")
    assert table[["events", "total"]].to_numpy().tolist() == [[23, 27], [4, 27], [4, 23], [24, 27]]
    assert table.index.to_list() == [
        "any adverse event", "severe adverse event", "severe given any", "planned surgery",
    ]  # fmt: skip


def test_the_figure_shows_every_reading(review_evidence):
    total = dfsp.totals.total_of(review_evidence, "severe_adverse_event")
    found = scenarios(total)
    ax = dfsp.plots.scenarios(found)
    assert len(ax.get_yticks()) == len(found.table)
    assert found.describe().startswith("Severe adverse event: 20 of 132 patients")


def test_events_by_study_are_one_hierarchical_model(tmp_path):
    """Expected: the exact fit of the same counts; pooled, the beta posterior's mean."""
    evidence = dfsp.load_evidence("mine", folder=new_folder(tmp_path / "mine"))
    counts = reported(evidence, "any_adverse_event")
    found = scenarios(counts, dfsp.Model(tau=dfsp.HalfNormal(0.5)), patients=10)
    fit = dfsp.fit(counts, dfsp.Model(tau=dfsp.HalfNormal(0.5)))
    expected = fit.summary.loc["mean_rate", ["mean", "q2.5", "q50", "q97.5"]]
    own = found.table.loc[("studies as they are", "mean rate"), ["mean", "q2.5", "q50", "q97.5"]]
    assert own.to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-9)
    events, total = (int(counts.table[name].sum()) for name in ("events", "total"))
    pooled = found.table.loc[("complete pooling", "rate"), "mean"]
    assert pooled == pytest.approx((events + 1) / (total + 2), abs=1e-12)
    assert f"{events} of {total} patients in 4 studies. The mean rate" in found.describe()


def test_a_total_is_read_as_a_total(review_evidence):
    found = reported(review_evidence, "severe_adverse_event")
    assert (found.events, found.total) == (20, 132)  # data/counts.csv


def test_a_page_has_one_unit(review_evidence):
    """That which the reader chose; else that of adverse events of any kind, 78 of 106."""
    total = dfsp.totals.total_of(review_evidence, "severe_adverse_event")
    text = dfsp.totals.scenarios(total, unit="per-1000").describe()
    assert "is 171 per 1,000 (85.7 to 313), above 200 per 1,000 with" in text
    chosen = {"totals_set": "review", "tau_scale": 1.0}
    given = dfsp.parameters.check(chosen)
    assert given.rates_in.name == "percent" and "50.0 %" in given.priors
    assert dfsp.parameters.check(chosen | {"unit": "per-1000"}).rates_in.name == "per-1000"
    rare = dfsp.totals.Total("adverse event", 0, 40_000, np.array([40_000]))
    assert rare.rates_in.name == dfsp.totals.scenarios(rare).unit.name == "per-100000"
    result = dfsp.categories.fit(review_evidence, not_evaluable="excluded", unit="per-1000")
    assert "per 1,000 (" in result.describe() and "%" not in result.describe()
    ax = dfsp.plots.categories(result)
    assert ax.get_xlim()[1] == 1000 and "per 1,000" in ax.get_xlabel()
