"""Every defensible analysis: what may be combined, and that each is what it says."""

import shutil

import numpy as np
import pandas as pd
import pytest

import dfsp
from dfsp.analyses.dimensions import DOES_NOT_ARISE, EFFECTS, RULES, Dimension
from dfsp.analyses.multiverse import _tables
from dfsp.evidence.overlaps import overlap_options

MCARTHUR = "McArthur 2005 / Heinrich 2008"
POOLED = "Rutkowski 2017 / Rutkowski 2010 (pooled)"
ONE = {"taus": {"HalfNormal(1)": dfsp.HalfNormal(1)}, "mus": {"Normal(0, 2)": dfsp.Normal(0, 2)}}
NORMAL = {"normal": dfsp.NormalEffects()}


@pytest.fixture(scope="module")
def everything():
    return dfsp.multiverse.fit(
        taus={"HalfNormal(1)": dfsp.HalfNormal(1), "HalfNormal(0.5)": dfsp.HalfNormal(0.5)},
        mus={"Normal(0, 2)": dfsp.Normal(0, 2)},
        effects={name: EFFECTS[name] for name in ("normal", "beta-binomial")},
    )


def test_only_what_the_handling_allows_exists():
    review, missing = overlap_options(dfsp.load_evidence("review"), "response", {})
    assert len(review) == 9 and not missing
    assert sum(option.handled[MCARTHUR] == "both kept" for option in review) == 3
    evidence = dfsp.load_evidence("reconciled")
    rows = dfsp.load_evidence("review").rows
    pool = {"mcarthur-2005": rows[rows["cohort"] == "mcarthur-2005"]}
    ours, missing = overlap_options(evidence, "response", pool)
    assert len(ours) == 6 and not missing
    for option in ours:
        rows = option.evidence.rows
        members = set(rows.loc[rows["measure"] == "response", "cohort"])
        # Keeping both is allowed to reproduce the review only.
        assert not {"mcarthur-2005", "heinrich-2008"} <= members
        assert (option.handled[MCARTHUR] == "without Heinrich 2008") == ("mcarthur-2005" in members)
        assert (option.handled[POOLED] == "without Rutkowski 2017") == (
            "rutkowski-2017" not in members
        )


def test_the_words_about_a_pair_change_nothing(tmp_path):
    """Nine ways for the review's own pairs, whatever is written beside their handling."""
    folder = shutil.copytree(dfsp.DATA, tmp_path / "data")
    pairs = pd.read_csv(folder / "overlaps.csv", dtype=str)
    for prose in ("Never both! Drop either, swap, or keep both.", ""):
        pairs.assign(evidence=prose).to_csv(folder / "overlaps.csv", index=False)
        ours = dfsp.load_evidence("review", folder=folder)
        said = [option.handled for option in overlap_options(ours, "response", {})[0]]
        theirs = overlap_options(dfsp.load_evidence("review"), "response", {})[0]
        assert len(said) == 9 and said == [option.handled for option in theirs]


def test_a_pair_overlaps_only_where_the_outcome_is_counted():
    """No McArthur, Heinrich or Rutkowski 2010 reports surgery."""
    options, missing = overlap_options(dfsp.load_evidence("reconciled"), "surgery", {})
    assert [option.handled for option in options] == [{}] and not missing
    result = dfsp.multiverse.fit("surgery", effects=NORMAL, **ONE)
    assert len(result.table) == 1 and not result.pairs
    assert result.table.loc[0, ["events", "total"]].tolist() == [26, 55]


def test_a_swap_without_counts_is_named(tmp_path):
    for file in dfsp.DATA.glob("*.csv"):
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        if file.name == "evidence_sets.csv":
            lines = [line for line in lines if not line.startswith("review,")]
        (tmp_path / file.name).write_text("".join(lines), encoding="utf-8")
    result = dfsp.multiverse.fit(folder=tmp_path, effects=NORMAL, **ONE)
    assert set(result.table["evidence_set"]) == {"reconciled", "reconciled_by_dose"}
    gone = result.left_out[result.left_out["choice"] == f"{MCARTHUR}: without Heinrich 2008"]
    assert len(gone) == 2
    assert gone["reason"].str.contains("no evidence set counts response of McArthur 2005").all()


def test_a_swap_needs_no_other_set_among_the_chosen():
    result = dfsp.multiverse.fit(evidence_sets="reconciled", effects=NORMAL, **ONE)
    assert set(result.table[MCARTHUR]) == {"without McArthur 2005", "without Heinrich 2008"}


def test_no_two_analyses_hold_the_same_cohorts():
    """Of one set under one rule, whatever the words say."""
    tables, _ = _tables("objective_response", None, RULES, None, lambda *_: None)
    seen = [
        (choice["evidence_set"], choice["not_evaluable"], frozenset(counts.table["cohort"]))
        for choice, counts in tables
    ]
    assert len(set(seen)) == len(seen) == 55


def test_a_cohort_that_is_kept_is_counted(everything):
    table, left_out = everything.table, everything.left_out
    other = table[(table["evidence_set"] == "reconciled") & (table["not_evaluable"] != "no event")]
    assert set(other[POOLED]) == {"without Rutkowski 2010 (pooled)"}
    gone = left_out[left_out["choice"] == f"{POOLED}: both kept"]
    assert gone["not_evaluable"].tolist() == ["excluded", "event"]
    assert gone["reason"].str.contains("Rutkowski 2010 (pooled) cannot", regex=False).all()


def test_what_no_choice_keeps_may_be_dropped_and_is_named():
    """Kerob 2010 does not split CR and PR, and shares its patients with nobody."""
    table = dfsp.multiverse.fit(
        "complete_response", evidence_sets=["reconciled"], effects=NORMAL, **ONE
    ).table
    assert table["dropped"].str.contains("Kérob 2010").all()


def test_rules_that_count_alike_are_one():
    result = dfsp.multiverse.fit("surgery", effects=NORMAL, **ONE)
    assert set(result.table["not_evaluable"]) == {"no event"}
    reasons = result.left_out.set_index(["evidence_set", "not_evaluable"])["reason"]
    for rule in ("excluded", "event"):
        assert reasons["reconciled", rule].startswith("no patient is without an evaluation")
    assert reasons["review", "every"] == "no cohort has counts of surgery"


NUMBERS = ["typical", "typical_low", "typical_high", "mean", "mean_low", "mean_high",
           "new", "new_low", "new_high", "tau_median"]  # fmt: skip


def fitted(counts, model):
    summary = dfsp.fit(counts, model).summary
    ends = ["q2.5", "q97.5"]
    return [
        *summary.loc["typical_rate", ["q50", *ends]],
        *summary.loc["mean_rate", ["mean", *ends]],
        *summary.loc["new_study_rate", ["q50", *ends]],
        summary.loc["tau", "q50"],
    ]


@pytest.mark.parametrize("effects", list(EFFECTS))
def test_every_analysis_is_the_fit_of_its_choices(effects, rng):
    """Each alone, with a grid of its own; one prior of each kind of tail."""
    taus = {"a": dfsp.HalfNormal(0.5), "b": dfsp.HalfCauchy(0.5), "c": dfsp.Uniform(2)}
    mus = {"d": dfsp.Normal(0, 1), "e": dfsp.Normal(0, 5)}
    kind = EFFECTS[effects]
    result = dfsp.multiverse.fit(
        evidence_sets=["review"], taus=taus, mus=mus, effects={effects: kind}
    )
    table = result.table
    kept = table.index[(table[list(result.pairs)].isin(["both kept", DOES_NOT_ARISE])).all(axis=1)]
    alike = 1 if effects == "beta-binomial" else 6
    assert len(kept) == 3 * alike
    for i in rng.choice(kept, min(6, len(kept)), replace=False):
        row = table.loc[i]
        counts = dfsp.count(
            dfsp.load_evidence("review"), "objective_response", not_evaluable=row["not_evaluable"]
        )
        model = dfsp.Model(effects=kind)
        if effects != "beta-binomial":
            model = dfsp.Model(mus[row["mu"]], taus[row["tau"]], kind)
        own = fitted(counts, model)
        assert row[NUMBERS].to_numpy(float) == pytest.approx(own, abs=1e-5, nan_ok=True)
        assert row["events"] == counts.table["events"].sum()


def test_a_beta_binomial_is_one_analysis_for_all_priors(everything):
    table = everything.table[everything.table["effects"] == "beta-binomial"]
    assert len(table) == 55
    assert set(table["tau"]) == set(table["mu"]) == {DOES_NOT_ARISE}
    assert table[["typical", "tau_median"]].isna().all(axis=None)
    assert table["mean"].between(0.5, 0.8).all()
    gone = everything.left_out[everything.left_out["choice"] == "effects: beta-binomial"]
    assert gone["reason"].tolist() == ["no tau and mu: one analysis for all priors of these"]


def test_the_review_as_printed_is_among_them(everything):
    table = everything.table
    printed = table[
        (table["evidence_set"] == "review") & (table["not_evaluable"] == "no event")
        & table[list(everything.pairs)].isin(["both kept", DOES_NOT_ARISE]).all(axis=1)
    ]  # fmt: skip
    assert len(printed) == 3
    assert set(zip(printed["events"], printed["total"], strict=True)) == {(92, 152)}


def test_shares_of_variance_by_hand(everything):
    """What is left when the rule alone changes; sets by their means over the overlaps."""
    shares = everything.choices_that_matter()["share_of_variance"]
    table = everything.table.dropna(subset="typical")
    whole = ((table["typical"] - table["typical"].mean()) ** 2).sum()
    left = 0.0
    for _, group in table.groupby([c for c in everything.choices if c != "not_evaluable"]):
        left += ((group["typical"] - group["typical"].mean()) ** 2).sum()
    assert shares["not_evaluable"] == pytest.approx(left / whole)
    between = 0.0
    for _, group in table.groupby(["not_evaluable", "effects", "tau", "mu"]):
        means = group.groupby("evidence_set")["typical"].transform("mean")
        between += ((means - means.mean()) ** 2).sum()
    assert shares["evidence_set"] == pytest.approx(between / whole)
    assert set(shares.index) <= set(everything.choices)
    assert shares.is_monotonic_decreasing


def test_a_choice_that_changes_nothing_explains_nothing():
    """Counts that differ between the sets only: labels that go with a set are none of a pair's."""
    result = dfsp.multiverse.fit(
        evidence_sets=["review", "reconciled"], rules=["no event"], effects=NORMAL, **ONE
    )
    by_set = result.table.groupby("evidence_set")["typical"].transform("mean")
    flat = dfsp.multiverse.Multiverse(
        result.table.assign(typical=by_set), result.choices, result.pairs, result.left_out
    )
    shares = flat.choices_that_matter()["share_of_variance"]
    assert shares["evidence_set"] == pytest.approx(1)
    assert shares.drop("evidence_set").to_numpy() == pytest.approx(0)
    within = result.choices_that_matter(within="reconciled").index
    assert "evidence_set" not in within and POOLED in within
    with pytest.raises(dfsp.DfspError, match="no analysis is of this evidence set"):
        result.choices_that_matter(within="mine")


def test_a_share_is_no_probability(everything):
    text = everything.describe(0.4, within="reconciled")
    assert "a share of analyses, not a probability" in text
    assert "Of the analyses of 'reconciled' the choice that matters most is" in text
    number = everything.table["typical_low"].notna().sum()
    assert f"of the {number} analyses that have a typical rate" in text
    share = everything.share_above(0.4)
    assert share == (everything.table["typical_low"].dropna() > 0.4).mean()
    assert everything.share_above(0.999) == 0
    with pytest.raises(dfsp.DfspError, match="give a rate between 0 and 1"):
        everything.share_above(40)
    with pytest.raises(dfsp.DfspError, match="quantity = 'bogus'; use one of typical, mean, new"):
        everything.share_above(0.4, "bogus")


def test_without_a_typical_rate_the_mean_rate_is_spoken_of():
    result = dfsp.multiverse.fit(effects={"beta-binomial": EFFECTS["beta-binomial"]}, **ONE)
    text = result.describe()
    assert "nan" not in text and "typical" not in text and "interval of the mean rate" in text
    assert "nan" not in repr(result)
    assert dfsp.plots.specifications(result).get_ylabel().startswith("mean rate")


def test_what_cannot_be_combined_is_left_out_with_its_reason():
    result = dfsp.multiverse.fit(
        "surgery", evidence_sets=["review", "reconciled"], rules="no event", **ONE
    )
    assert set(result.table["evidence_set"]) == {"reconciled"}
    of_review = result.left_out[result.left_out["evidence_set"] == "review"]
    assert of_review["reason"].tolist() == ["no cohort has counts of surgery"]
    assert "set review; every; not evaluable every: no cohort" in result.without_sense()
    with pytest.raises(dfsp.DfspError, match="no combination of choices"):
        dfsp.multiverse.fit("any_adverse_event", evidence_sets=["reconciled"])
    with pytest.raises(dfsp.DfspError, match="a total over unknown cohorts"):
        dfsp.multiverse.fit("any_adverse_event")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"evidence_sets": ["mine"]}, r"\['mine'\]; use one or more of review, reconciled"),
        (
            {"rules": ["bogus"]},
            r"rules = \['bogus'\]; use one or more of no event, excluded, event",
        ),
        ({"rules": []}, r"rules = \[\]"),
        ({"outcome": "nope"}, "outcome 'nope' is not known; .*objective_response"),
        ({"taus": {}}, "taus = {}; give a mapping"),
        ({"taus": {"b": 3}}, r"taus\['b'\]: tau = 3; give one of HalfNormal"),
        ({"taus": {"b": dfsp.Normal()}}, r"taus\['b'\]: tau = Normal"),
        ({"mus": {"b": dfsp.HalfNormal(1)}}, r"mus\['b'\]: mu = HalfNormal.*give a Normal"),
        ({"effects": {"t": "bogus"}}, r"effects\['t'\]: effects 'bogus' are not known"),
        ({"folder": "/nowhere"}, "evidence_sets.csv: the file cannot be read"),
    ],
)
def test_options_that_cannot_be_used_are_named(options, says):
    with pytest.raises(dfsp.DfspError, match=says):
        dfsp.multiverse.fit(**options)


def test_effects_may_be_named():
    result = dfsp.multiverse.fit(rules="event", effects={"t": "student-t"}, **ONE)
    assert set(result.table["not_evaluable"]) == {"event"}
    assert set(result.table["effects"]) == {"t"}


def of_trials(counts):
    table = counts.table
    return dfsp.without(counts, table.loc[table["design"].str.contains("retrospective"), "study"])


def heavier(model):
    is_t = isinstance(model.effects, dfsp.StudentT)
    return dfsp.Model(model.mu, model.tau, dfsp.StudentT(2)) if is_t else None


def same(anything):
    return anything


def test_a_user_adds_a_dimension_by_adding_a_line():
    result = dfsp.multiverse.fit(
        evidence_sets=["reconciled"],
        rules=["no event"],
        effects={name: EFFECTS[name] for name in ("normal", "Student-t, df 4")},
        **ONE,
        further=[
            Dimension("designs", {"all": same, "trials": of_trials}),
            Dimension("tails", {"as they are": same, "heavier": heavier}, of="model"),
        ],
    )
    table = result.table
    assert result.choices[-2:] == ("mu", "tails") and "designs" in result.choices
    assert set(table["designs"]) == {"all", "trials"}
    of_t = table["effects"] != "normal"
    assert set(table.loc[of_t, "tails"]) == {"as they are", "heavier"}
    assert set(table.loc[~of_t, "tails"]) == {"as they are"}
    assert (table.loc[table["designs"] == "trials", "studies"] < 8).all()
    assert {"designs", "tails"} <= set(result.choices_that_matter().index)
    with pytest.raises(dfsp.DfspError, match="level 'x': 3 is no function"):
        Dimension("mine", {"x": 3})
    with pytest.raises(dfsp.DfspError, match="of = 'evidence'; use counts or model"):
        Dimension("mine", {"x": same}, of="evidence")


def nobody(counts):
    return dfsp.without(counts, counts.table["study"])


def test_a_level_that_leaves_nothing_is_left_out():
    result = dfsp.multiverse.fit(
        evidence_sets=["reconciled"], rules=["no event"], effects=NORMAL, **ONE,
        further=[Dimension("who", {"all": same, "nobody": nobody})],
    )  # fmt: skip
    assert set(result.table["who"]) == {"all"}
    assert "drop: no study is left" in set(result.left_out["reason"])


def test_a_table_of_counts_differs_in_the_model_only(make):
    counts = make([("A", 1, 10), ("B", 5, 10), ("C", 9, 10)])
    result = dfsp.multiverse.fit(counts)
    assert result.choices == ("effects", "tau", "mu") and len(result.table) == 55
    row = result.table.iloc[0]
    model = dfsp.Model(dfsp.Normal(0, 1), dfsp.HalfNormal(0.5))
    assert row[NUMBERS].to_numpy(float) == pytest.approx(fitted(counts, model), abs=1e-5)
    assert set(result.choices_that_matter().index) == {"effects", "tau", "mu"}


def test_the_curve_of_rates_over_decades_goes_by_decades(make):
    """Priors of mu of sd 1 to 5 give 5 of 50,000 from 0.1 to hundreds per 1,000."""
    rare = make([("A", 1, 20_000), ("B", 2, 20_000), ("C", 2, 10_000)])
    ax = dfsp.plots.specifications(dfsp.multiverse.fit(rare))
    assert "by decades" in ax.get_ylabel()
    rates = ax.lines[0].get_ydata()
    heights = ax.transAxes.inverted().transform(
        ax.transData.transform(np.column_stack([np.zeros(len(rates)), rates]))
    )[:, 1]
    assert np.median(heights) > 0.05  # 0.001 on an even axis up to 1,000 per 1,000


def test_the_curve_marks_every_choice(everything):
    ax = dfsp.plots.specifications(everything)
    lower = ax.figure.axes[1]
    table = everything.table.dropna(subset="typical")
    varied = [c for c in everything.choices if table[c].nunique() > 1]
    texts = [label.get_text() for label in lower.get_yticklabels()]
    assert len(texts) == sum(1 + table[c].nunique() for c in varied)
    assert {"evidence set", "patients not evaluable", "prior of tau", POOLED} <= set(texts)
    drawn = ax.lines[0].get_ydata()
    assert np.all(np.diff(drawn) >= 0) and len(drawn) == len(table)
