"""What the review prints, and its claims read from the same functions as the notebooks."""

import ast
import shutil

import nbformat
import pandas as pd
import pytest

import dfsp
from dfsp.analyses.review import SETS, Claims, LaterSeries, claims_of, truncated
from dfsp.project import project_folder

CLAIMS = claims_of(dfsp.load_evidence("review"))
CATEGORY = {claim.quantity: claim.category for claim in CLAIMS if claim.category}


@pytest.mark.parametrize(
    ("numerator", "denominator", "printed"),
    [(134, 152, 88.1), (8, 152, 5.2), (1, 2, 50.0), (1, 10, 10.0)],
)
def test_percentages_are_truncated_as_the_review_truncates(numerator, denominator, printed):
    assert truncated(numerator, denominator) == printed


def test_what_the_review_prints_beside_its_own_counts():
    """The verdicts of data/published.csv, recomputed: every traceable number must be reproduced."""
    evidence = dfsp.load_evidence("review")
    table = dfsp.review.compare_published(evidence).table.set_index("quantity")
    traceable = evidence.published.set_index("quantity")["traceable"] == "yes"
    assert (table.loc[traceable, "reproduced"] == "yes").all()
    assert table.loc["surgery after imatinib (%)", "reproduced"] == "no counts"
    assert table.loc["fusion present (%)", "reproduced"] == "no"
    assert table.loc["clinical benefit (%)", "counts"] == "134/152"


def test_which_numbers_are_about_which_outcome(tmp_path):
    """The columns `outcome` and `dose_mg`, not the printed words, say what is recomputed."""
    folder = shutil.copytree(dfsp.DATA, tmp_path / "data")
    printed = pd.read_csv(folder / "published.csv", dtype=str)
    printed["quantity"] = [f"number {i}" for i in range(len(printed))]
    printed.to_csv(folder / "published.csv", index=False)
    named = dfsp.review.compare_published(dfsp.load_evidence("review", folder=folder)).table
    theirs = dfsp.review.compare_published(dfsp.load_evidence("review")).table
    columns = ["printed", "counts", "recomputed", "reproduced"]
    pd.testing.assert_frame_equal(named[columns], theirs[columns])
    assert CATEGORY == {
        "complete response (%)": "CR",
        "partial response (%)": "PR",
        "stable disease (%)": "SD",
        "progressive disease (%)": "PD",
    }
    assert {claim.quantity: claim.dose for claim in CLAIMS if claim.at_a_dose} == {
        "response at 400 mg (%)": 400,
        "response at 800 mg (%)": 800,
    }


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("yes,complete_response", "yes,cure", "row 5, column 'outcome': 'cure' is not known; use"),
        (",400,navarrete", ",low,navarrete", "row 11, column 'dose_mg': 'low' is not a number"),
    ],
)
def test_an_outcome_or_a_dose_that_cannot_be_used(tmp_path, old, new, says):
    folder = shutil.copytree(dfsp.DATA, tmp_path / "data")
    text = (folder / "published.csv").read_text("utf-8")
    assert text.count(old) == 1
    (folder / "published.csv").write_text(text.replace(old, new), "utf-8")
    with pytest.raises(dfsp.DfspError, match=says):
        dfsp.load_evidence("review", folder=folder)


def test_a_folder_whose_printed_numbers_name_no_outcome(tmp_path):
    folder = shutil.copytree(dfsp.DATA, tmp_path / "data")
    printed = pd.read_csv(folder / "published.csv", dtype=str)
    printed.drop(columns=["outcome", "dose_mg"]).to_csv(folder / "published.csv", index=False)
    evidence = dfsp.load_evidence("review", folder=folder)
    assert (dfsp.review.compare_published(evidence).table["reproduced"] == "no counts").all()
    assert claims_of(evidence) == []


def test_a_set_without_responses_is_refused(tmp_path):
    shutil.copytree(dfsp.DATA, tmp_path / "data")
    with (tmp_path / "data" / "evidence_sets.csv").open("a") as file:
        file.write("surgery_only,surgery,han-2009,primary,reason\n")
    evidence = dfsp.load_evidence("surgery_only", folder=tmp_path / "data")
    with pytest.raises(dfsp.DfspError, match="no response counts"):
        dfsp.review.compare_published(evidence)


@pytest.fixture(scope="module")
def claims():
    return dfsp.review.compare_claims().table


def test_every_percentage_of_the_review_has_its_rows(claims):
    published = dfsp.review.compare_published(dfsp.load_evidence("review")).table.set_index(
        "quantity"
    )
    for claim in CLAIMS:
        for name in (SETS[0], claim.ours):
            key = claim.quantity, name
            assert claims.loc[key, "printed"] == published.at[claim.quantity, "printed"]


def test_rates_are_those_of_the_fit(claims):
    counts = dfsp.count(dfsp.load_evidence("review"), "clinical_benefit")
    fit = dfsp.fit(counts)
    row = claims.loc[("clinical benefit (%)", "review")]
    assert (row["events"], row["total"]) == (134, 152)
    assert row["typical"] == pytest.approx(100 * fit.summary.loc["typical_rate", "q50"])
    assert row["mean"] == pytest.approx(100 * fit.summary.loc["mean_rate", "mean"])
    weighted = fit.patient_weighted_rate(number=4000)
    assert row["patient_weighted"] == pytest.approx(100 * weighted["mean"])


def test_doses_are_the_reviews_groups(claims):
    assert claims.loc[("response at 400 mg (%)", "review"), ["events", "total"]].to_list() == [
        27,
        40,
    ]
    assert claims.loc[("response at 800 mg (%)", "review"), ["events", "total"]].to_list() == [
        49,
        73,
    ]


def test_reconciled_doses_keep_both_trials_of_the_pooled_report(claims):
    """The pooled report is one trial at 400 mg and one at 800 mg."""
    for dose in (400, 800):
        own = claims.loc[(f"response at {dose} mg (%)", "reconciled_by_dose")]
        counts = dfsp.count(dfsp.load_evidence("reconciled_by_dose"), "objective_response")
        at_dose = counts.table[counts.table["dose_mg"] == dose]
        assert at_dose["study"].str.contains("Rutkowski 2010").any()
        assert (own["events"], own["total"]) == (at_dose["events"].sum(), at_dose["total"].sum())


def test_surgery_is_listed_and_not_averaged(claims):
    row = claims.loc[("surgery after imatinib (%)", "reconciled")]
    assert row[["events", "patient_weighted", "typical", "mean", "new_study"]].isna().all()
    assert "planned Han 2009 4 of 4" in row["note"]
    assert "salvage Wang 2015 4 of 10 (primarily unresectable)" in row["note"]


@pytest.mark.parametrize("name", SETS)
def test_categories_are_those_of_the_nested_questions(claims, name):
    """What 03 prints under the same rule; no cohort is left out."""
    result = dfsp.categories.fit(dfsp.load_evidence(name))
    rates = result.rates()
    for claim, category in CATEGORY.items():
        row = claims.loc[(claim, name)]
        for column, scale, centre in (
            ("typical", "at typical effects", "q50"),
            ("mean", "mean rate", "mean"),
            ("new_study", "new-study rate", "q50"),
        ):
            own = rates.loc[(scale, category)]
            for end, statistic in (("", centre), ("_low", "q2.5"), ("_high", "q97.5")):
                assert row[f"{column}{end}"] == pytest.approx(100 * own[statistic])
    four = claims.xs(name, level="evidence_set").loc[list(CATEGORY), "mean"].sum()
    assert four == pytest.approx(100 * (1 - rates.loc[("mean rate", "NE"), "mean"]))


def test_the_patient_weighted_rate_of_a_category(claims):
    """On the review's own counts near the sum of patients; of cohorts without split, in between."""
    for claim, printed in (("partial response (%)", 84 / 152), ("stable disease (%)", 42 / 152)):
        assert claims.loc[(claim, "review"), "patient_weighted"] == pytest.approx(
            100 * printed, abs=2
        )
    result = dfsp.categories.fit(dfsp.load_evidence("reconciled"))
    table = result.patient_weighted_rates(number=4000)
    assert table["mean"].sum() == pytest.approx(1)
    response = dfsp.fit(dfsp.count(dfsp.load_evidence("reconciled"), "objective_response"))
    weighted = response.patient_weighted_rate()
    both = table.loc[["CR", "PR"], "mean"].sum()
    assert both == pytest.approx(weighted["mean"], abs=1e-6)
    assert (table["q2.5"] < table["mean"]).all() and (table["mean"] < table["q97.5"]).all()


def test_the_verdict_turns_and_cohorts_without_a_split_are_named(claims):
    key = "partial response (%)"
    rows = claims.loc[[key]]
    inside = Claims(rows).describe()
    assert "lies inside" in inside and "at typical effects" in inside
    assert "(Kérob 2010 informs the other questions: CR+PR 9 cannot be divided)" in inside
    assert "OUTSIDE" in Claims(rows.assign(printed=rows["mean_high"] + 1)).describe()
    benefit = Claims(claims.loc[["clinical benefit (%)"]]).describe()
    assert "Kérob 2010 is left out: SD+PD 16 cannot be divided" in benefit
    assert "; typical 88" in benefit


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ("complete response (%)", "McArthur 2005 (4 of 10) is counted once: its patients are very"),
        ("complete response (%)", "0 of 31 (Rutkowski 2017) to 4 of 10 (McArthur 2005)"),
        ("partial response (%)", "(pooled) has 11 of 24 and the review 9 of 24"),
        ("partial response (%)", "points, less than one; their largest single change"),
        ("progressive disease (%)", "the report of Kérob 2010 does not split SD+PD 16"),
        ("response at 400 mg (%)", "move the mean by +0.0 points, less than one."),
        ("response at 800 mg (%)", "by -4.3 points, most of all since McArthur 2005 (9 of 10)"),
        ("response at 800 mg (%)", "Ugurel 2014 and Kérob 2010, 16 of 39 at other doses"),
        ("severe adverse event (%)", "a single cohort, Ugurel 2014: 4 of 16"),
    ],
)
def test_why_a_claim_changes(claims, claim, reason):
    text = " ".join(Claims(claims.loc[[claim]]).describe().split())
    assert reason in text
    assert "since the model allows" not in text


def test_a_reason_is_one_change_of_the_review(claims):
    """The review without McArthur 2005, by hand."""
    counts = dfsp.count(dfsp.load_evidence("review"), "objective_response")
    table = counts.table
    others = table.loc[(table["dose_mg"] != 800) | (table["study"] == "McArthur 2005"), "study"]
    mean = dfsp.fit(dfsp.without(counts, others)).summary.loc["mean_rate", "mean"]
    shift = 100 * mean - claims.loc[("response at 800 mg (%)", "review"), "mean"]
    reason = claims.loc[("response at 800 mg (%)", "reconciled_by_dose"), "reason"]
    assert f"({shift:+.1f} points alone)" in reason


@pytest.fixture
def with_a_new_cohort(tmp_path):
    """A copy of the evidence with a cohort that the review does not have: 2 of 20 patients."""
    folder = shutil.copytree(dfsp.DATA, tmp_path / "data")
    new = "new,primary,{},all,{},{},printed,navarrete2019,\n"
    for name, text in {
        "cohorts": "new,cohort,New 2022,2022,,advanced,400,,20,,,,,,,,navarrete2019\n",
        "counts": new.format("response", "CR", 1) + new.format("response", "PR", 1)
        + new.format("response", "SD", 1) + new.format("response", "PD", 17)
        + new.format("severe_adverse_event", "event", 5)
        + new.format("severe_adverse_event", "no event", 15),
        "evidence_sets": "reconciled,response,new,primary,\nreconciled_by_dose,response,new,primary,\n"
        "reconciled,severe_adverse_event,new,primary,\n",
    }.items():  # fmt: skip
        with (folder / f"{name}.csv").open("a", encoding="utf-8") as file:
            file.write(text)
    return folder


@pytest.mark.slow
def test_a_new_cohort_is_a_change_and_other_measures_than_response_have_no_reasons(
    with_a_new_cohort,
):
    found = dfsp.review.compare_claims(dfsp.load_evidence("review", folder=with_a_new_cohort))
    for claim in ("clinical benefit (%)", "response at 400 mg (%)"):
        ours = found.table.loc[claim].iloc[1]
        # Its rates are by far the lowest.
        events = 3 if claim.startswith("clinical") else 2
        assert ours["reason"].startswith(f"New 2022 ({events} of 20) is not in the review (-")
    severe = found.table.loc["severe adverse event (%)"].iloc[1]
    # The review has a total over unknown cohorts alone, so there is nothing to have changed.
    assert (severe["events"], severe["total"], severe["reason"]) == (9, 36, "")
    assert severe["mean_low"] < severe["mean"] < severe["mean_high"]
    assert str(found.describe())


def test_what_has_no_counts_says_so(claims):
    text = Claims(claims).describe()
    assert claims.loc[("any adverse event (%)", "review"), "note"] == "no per-cohort data"
    assert claims.loc[("severe adverse event (%)", "reconciled"), "note"] == (
        "a single cohort, Ugurel 2014: 4 of 16"
    )
    block = text[text.index("any adverse event") :]
    assert "no rate across studies" in block
    for claim in CLAIMS:
        assert claim.quantity.removesuffix(" (%)") in text


def test_the_later_series_and_its_extremes():
    """10 of 26 with 3 patients on another drug: 7 to 10 responders among at least 23."""
    found = dfsp.review.later_series()
    table = found.table
    assert table[["events", "total"]].to_numpy().tolist() == [[10, 26], [7, 23], [10, 23]]
    evidence = dfsp.load_evidence("reconciled")
    counts = dfsp.count(evidence, "objective_response", not_evaluable="excluded")
    probability = dfsp.fit(counts).new_study(26).events
    assert table["mid_p"].iloc[0] == pytest.approx(probability[11:].sum() + probability[10] / 2)
    text = found.describe()
    assert "30 to 43 % responded" in text and "inside what the earlier evidence" in text
    assert "has more responders with probability 0.86 to 0.94 (mid-p" in text
    far = table.assign(events=0)
    assert "OUTSIDE" in LaterSeries(far).describe()


def test_a_folder_of_ones_own_has_no_claims_and_no_later_series(own_folder):
    evidence = dfsp.load_evidence("mine", folder=own_folder)
    assert evidence.sets == ("mine",) and evidence.folder == own_folder
    for found in (dfsp.review.compare_claims(evidence), dfsp.review.later_series(evidence)):
        assert found.table.empty and found.describe() == "none"


def test_a_later_series_of_ones_own_is_predicted_from_ones_own_set(own_folder):
    series = (dfsp.DATA / "later_series.csv").read_text("utf-8")
    (own_folder / "later_series.csv").write_text(series, "utf-8")
    evidence = dfsp.load_evidence("mine", folder=own_folder)
    table = dfsp.review.later_series(evidence).table
    counts = dfsp.count(evidence, "objective_response", not_evaluable="excluded")
    probability = dfsp.fit(counts).new_study(26).events
    assert table["mid_p"].iloc[0] == pytest.approx(probability[11:].sum() + probability[10] / 2)


def test_a_copy_of_the_projects_folder_gives_the_same_claims(claims, tmp_path):
    folder = shutil.copytree(dfsp.DATA, tmp_path / "copy")
    for name in ("review", "reconciled"):
        again = dfsp.review.compare_claims(dfsp.load_evidence(name, folder=folder)).table
        pd.testing.assert_frame_equal(again, claims)


def test_the_notebook_says_nothing_of_the_review_about_a_folder_of_ones_own(own_folder):
    notebook = nbformat.read(project_folder() / "notebooks" / "01_evidence.ipynb", 4)
    parameters, *others = (cell.source for cell in notebook.cells if cell.cell_type == "code")
    names: dict = {}
    exec(parameters, names)
    names |= {"folder": str(own_folder), "evidence_set": "mine"}
    said = []
    for source in others:
        tree = ast.parse(source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "cell", "exec"), names)
        if last:
            said.append(repr(eval(compile(ast.Expression(last.value), "cell", "eval"), names)))
    text = "\n".join(said)
    assert "41 patients" in text
    for word in ("imatinib", "review", "reconciled", "French", "Navarrete", "Ugurel"):
        assert word not in text, word
