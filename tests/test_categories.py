"""Nested questions: which counts inform which, and rates that add up."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr

import dfsp
from dfsp.analyses.categories import CATEGORIES, ORDERS, SCALES, _answers
from dfsp.engine.distributions import Distribution, product
from dfsp.engine.posterior import solve
from dfsp.engine.predictive import prior_of

RESPONSE, COMPLETE, EVALUABLE, PROGRESSION = ORDERS["response first"]["no event"]


@pytest.fixture(scope="module")
def evidence():
    return {name: dfsp.load_evidence(name) for name in ("review", "reconciled")}


@pytest.mark.parametrize(
    ("cells", "question", "expected"),
    [
        # 9 stable or not evaluable, 4 progressed, 11 responded: 24 asked, 11 responded
        ({"PR": 11, "PD": 4, "SD+NE": 9}, RESPONSE, (11, 24)),
        ({"CR": 0, "PR": 11, "PD": 4, "SD+NE": 9}, COMPLETE, (0, 11)),
        ({"PR": 11, "PD": 4, "SD+NE": 9}, EVALUABLE, "SD+NE 9 cannot be divided"),
        ({"PR": 11, "PD": 4, "SD+NE": 9}, PROGRESSION, "SD+NE 9 cannot be divided"),
        ({"CR+PR": 9, "SD+PD": 16}, RESPONSE, (9, 25)),
        ({"CR+PR": 9, "SD+PD": 16}, COMPLETE, "CR+PR 9 cannot be divided"),
        ({"CR+PR": 9, "SD+PD": 16, "NE": 1}, EVALUABLE, (16, 17)),
        ({"CR": 0, "PR": 4, "SD": 0, "PD": 0}, PROGRESSION, (0, 0)),
        ({"CR": 2, "PR": 4, "SD+PD": 0, "SD": 0, "PD": 0}, PROGRESSION, (0, 0)),
        # Nobody in a coarse cell is nobody in each of its categories.
        ({"CR": 2, "PR": 4, "SD+PD": 0}, PROGRESSION, (0, 0)),
        ({"CR+PR": 0, "SD": 3, "PD": 1}, COMPLETE, (0, 0)),
        ({"CR": 2, "PR": 4}, PROGRESSION, "no count of PD is recorded"),
        ({"PR": 4, "SD": 1}, COMPLETE, "no count of CR is recorded"),
    ],
)
def test_a_cell_informs_what_its_categories_answer_alike(cells, question, expected):
    events, total, reason = _answers(cells, question)
    assert (reason if isinstance(expected, str) else (events, total)) == expected


def test_under_excluded_a_cell_with_ne_says_nothing_of_response():
    question = ORDERS["response first"]["excluded"][0]
    assert _answers({"PR": 11, "PD": 4, "SD+NE": 9}, question)[2] == "SD+NE 9 cannot be divided"
    assert _answers({"PR": 11, "PD": 4, "SD": 7, "NE": 2}, question)[:2] == (11, 22)


@pytest.mark.parametrize("rule", CATEGORIES)
@pytest.mark.parametrize("name", ["review", "reconciled"])
def test_the_response_rate_is_that_of_the_binary_model(evidence, name, rule):
    result = dfsp.categories.fit(evidence[name], not_evaluable=rule)
    counts = dfsp.count(evidence[name], "objective_response", not_evaluable=rule)
    binary = dfsp.fit(counts).exact
    for quantity in SCALES:
        own = getattr(result.posteriors["response"], quantity).summary()
        assert own == pytest.approx(getattr(binary, quantity).summary(), abs=1e-6)
    rates = result.rates()["mean"]
    for quantity, label in SCALES.items():
        both = rates[label, "CR"] + rates[label, "PR"]
        assert both == pytest.approx(getattr(binary, quantity).mean, abs=1e-6)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rule", CATEGORIES)
def test_rates_sum_to_one(evidence, rule, order):
    result = dfsp.categories.fit(evidence["review"], not_evaluable=rule, order=order)
    sums = result.rates()["mean"].groupby("rate").sum()
    assert sums.to_numpy() == pytest.approx(1, abs=1e-9)
    table = result.by_study()
    assert table.groupby("study")["rate"].sum().to_numpy() == pytest.approx(1, abs=1e-9)
    whole = table.groupby("study")["observed"].agg(lambda shares: shares.sum(skipna=False))
    assert whole.dropna().to_numpy() == pytest.approx(1, abs=1e-9)
    assert whole.count() >= 8
    for drawn in result.draws(400).values():
        assert drawn.sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-12)


@pytest.mark.slow
def test_rates_against_draws(evidence):
    """Independent draws: four standard errors of a mean, and of a quantile's level."""
    result = dfsp.categories.fit(evidence["reconciled"])
    rates = result.rates()
    for label, drawn in result.draws(40_000).items():
        for category in result.categories:
            row, values = rates.loc[(label, category)], drawn[category]
            assert values.mean() == pytest.approx(row["mean"], abs=4 * row["sd"] / 200)
            for name, q in (("q2.5", 0.025), ("q50", 0.5), ("q97.5", 0.975)):
                level = (values <= row[name]).mean()
                assert level == pytest.approx(q, abs=4 * np.sqrt(q * (1 - q)) / 200)


def test_a_product_of_two_uniform_rates():
    """P(UV <= z) = z - z log z."""
    x = np.linspace(-12, 12, 601)
    uniform = Distribution(x, 1 / (1 + np.exp(-x)), 0.5, 12**-0.5, True)
    both = product(uniform, uniform)
    assert both.mean == pytest.approx(0.25)
    assert both.sd == pytest.approx(np.sqrt(1 / 9 - 1 / 16))
    for q in (0.025, 0.5, 0.975):
        z = float(both.quantile(q)[0])
        assert z - z * np.log(z) == pytest.approx(q, abs=1e-5)


def below_product(first, second, rate):
    """P(product <= rate): one factor at 40,001 normal scores, the other's distribution function."""
    score = np.linspace(-8, 8, 40_001)
    weight = np.exp(-0.5 * score**2)
    ratio = np.minimum(rate / first.quantile(ndtr(score)), 1 - 1e-16)
    at = np.log(ratio) - np.log1p(-ratio)
    order = np.argsort(at)
    return float(second.cdf_of_points(at[order]) @ weight[order] / weight.sum())


@pytest.mark.parametrize(
    "pair",
    [((31, 50), (0, 1000)), ((0, 40), (0, 1000)), ((92, 152), (8, 92)), ((1, 2), (1, 2))],
    ids=str,
)
@pytest.mark.parametrize("quantity", SCALES)
def test_products_where_a_factor_piles_up(pair, quantity):
    """PR = response x (1 - complete given response), 0 complete of 1,000 among them."""
    first, second = (getattr(solve([r], [n], dfsp.Model()), quantity) for r, n in pair)
    second = second.complement()
    both = product(first, second)
    for q in (0.025, 0.25, 0.5, 0.75, 0.975):
        rate = float(both.quantile(q)[0])
        assert below_product(first, second, rate) == pytest.approx(q, abs=2e-5)
        assert float(product(second, first).quantile(q)[0]) == pytest.approx(rate, abs=5e-5)


def test_a_low_quantile_of_partial_response(evidence):
    """By a convolution and by four million draws made outside the package: 0.1280 and 0.1855."""
    excluded = dfsp.categories.fit(evidence["review"], not_evaluable="excluded")
    other = dfsp.categories.fit(evidence["reconciled"], order="progression first")
    for result, expected in ((excluded, 0.1280), (other, 0.1855)):
        found = result.rates().loc[("new-study rate", "PR"), "q2.5"]
        assert found == pytest.approx(expected, abs=2e-4)


def test_which_cohort_informs_what(evidence):
    table = dfsp.categories.fit(evidence["reconciled"]).question_counts()
    assert table.loc["Rutkowski 2010 (pooled)"].to_list() == ["11/24", "0/11", "-", "-"]
    assert table.loc["Han 2009"].to_list() == ["4/4", "0/4", "0/0", "0/0"]
    # The review's row is of evaluable patients: it cannot say how many were not.
    review = dfsp.categories.fit(evidence["review"]).question_counts()
    assert review.loc["Ugurel 2014", "evaluable given no response"] == "-"


def test_a_total_over_unknown_cohorts_informs_nothing(evidence):
    cohorts = evidence["review"].cohorts
    kind = cohorts["kind"].mask(cohorts["cohort"] == "wang-2015", "aggregate")
    changed = dfsp.Evidence(**vars(evidence["review"]) | {"cohorts": cohorts.assign(kind=kind)})
    result = dfsp.categories.fit(changed)
    own = result.informs[result.informs["study"] == "Wang 2015"]
    assert own["total"].isna().all()
    assert set(own["reason"]) == {"a total over unknown cohorts"}
    assert all("Wang 2015" not in studies for studies in result.studies.values())


def change(evidence, cells):
    """The evidence with these response counts, one row a (cohort, category, count)."""
    rows = evidence.rows[evidence.rows["measure"] == "response"]
    labels = dict(zip(rows["cohort"], rows["label"], strict=True))
    frame = pd.DataFrame(cells, columns=["cohort", "category", "count"])
    frame["label"] = frame["cohort"].map(labels)
    frame = frame.assign(source="primary", measure="response", population="all", status="printed")
    return dfsp.Evidence(**vars(evidence) | {"rows": frame})


def test_a_category_never_observed(evidence):
    cells = [("wang-2015", c, n) for c, n in (("CR", 0), ("PR", 15), ("SD", 6), ("PD", 1))]
    cells += [("han-2009", c, n) for c, n in (("CR", 0), ("PR", 4), ("SD", 0), ("PD", 0))]
    result = dfsp.categories.fit(change(evidence["review"], cells))
    means = result.rates().loc["mean rate", "mean"]
    assert 0 < means["CR"] < 0.2
    assert 0 < means["NE"] < 0.2


def test_all_patients_in_one_cell(evidence):
    cells = [("wang-2015", c, n) for c, n in (("CR", 0), ("PR", 22), ("SD", 0), ("PD", 0))]
    result = dfsp.categories.fit(change(evidence["review"], cells))
    nobody = result.posteriors["progression given evaluable without response"]
    prior = prior_of(dfsp.Model())
    assert nobody.new_study_rate.summary() == pytest.approx(prior.new_study_rate.summary())
    rates = result.rates()["mean"]
    assert rates["mean rate", "PR"] > 0.6
    assert rates.groupby("rate").sum().to_numpy() == pytest.approx(1)


def test_other_scales_of_tau(evidence):
    result = dfsp.categories.fit(evidence["reconciled"])
    table = dfsp.categories.tau_sensitivity(evidence["reconciled"], result, (0.5, 1.0))
    means = result.rates().loc["mean rate", "mean"]
    assert table["mean, tau scale 1"].to_numpy() == pytest.approx(means.to_numpy())
    assert table.loc["CR", "97.5 %, tau scale 0.5"] < table.loc["CR", "97.5 %, tau scale 1"]


def test_another_order_on_identical_cohorts(evidence):
    """Kérob 2010 informs one order only: what it changes is not the order's doing."""
    result = dfsp.categories.fit(evidence["reconciled"])
    found = dfsp.categories.compare_orders(evidence["reconciled"], result)
    table = found.table
    assert found.left_out == ["Kérob 2010"]
    rows = evidence["reconciled"].rows
    rest = dfsp.Evidence(
        **vars(evidence["reconciled"]) | {"rows": rows[rows["label"] != "Kérob 2010"]}
    )
    for column, order in (
        ("other", "progression first"),
        ("own", "response first"),
    ):
        again = dfsp.categories.fit(rest, order=order).rates()
        expected = again.loc["mean rate", "mean"]
        assert table[column].to_numpy() == pytest.approx(expected.to_numpy())
    text = found.describe()
    shift = 100 * (table["other"] - table["own"])
    assert f"by more than {shift.abs().max():.1f} points ({shift.abs().idxmax()}:" in text
    assert "hears nothing from Kérob 2010" in text
    review = dfsp.categories.fit(evidence["review"])
    all_fine = dfsp.categories.compare_orders(evidence["review"], review).describe()
    assert "hears nothing" not in all_fine


def test_refusals(evidence):
    with pytest.raises(dfsp.DfspError, match="not_evaluable 'event' cannot be used for categories"):
        dfsp.categories.fit(evidence["review"], not_evaluable="event")
    with pytest.raises(dfsp.DfspError, match="order 'last' is not known"):
        dfsp.categories.fit(evidence["review"], order="last")
    none = evidence["review"].rows.query("measure != 'response'")
    bare = dfsp.Evidence(**vars(evidence["review"]) | {"rows": none})
    with pytest.raises(dfsp.DfspError, match="has no response counts"):
        dfsp.categories.fit(bare)


def test_the_headline_names_every_category(evidence):
    sentence = dfsp.categories.fit(evidence["review"]).describe()
    for name in ("complete response", "partial", "stable", "progression", "not evaluable"):
        assert name in sentence


def test_the_figure_holds_every_rate(evidence):
    result = dfsp.categories.fit(evidence["reconciled"])
    ax = dfsp.plots.categories(result)
    table = result.by_study()
    cells = [n for own in result.cells.values() for n in own.values() if n]
    assert len(ax.patches) == (table["rate"] > 0).sum() + len(cells)
    # Every bar is full, and the counts that a source does not split are hatched.
    assert sum(p.get_width() for p in ax.patches) == pytest.approx(100 * (2 * 8 + 1))
    hatched = [p.get_width() for p in ax.patches if p.get_hatch() == "///"]
    assert hatched == pytest.approx([36, 64, 100 * 9 / 24])
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert {"CR+PR", "SD+PD", "SD+NE"} < set(legend)
    assert [t.get_text() for t in ax.get_yticklabels()][-1] == "new study"
