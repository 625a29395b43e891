"""Outcomes: what counts as an event, who is counted, and who cannot be."""

import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

import dfsp
from dfsp.errors import DfspError
from dfsp.evidence.load import OUTCOMES, Evidence, load_evidence
from dfsp.evidence.outcomes import count


@pytest.fixture(scope="module")
def review() -> Evidence:
    return load_evidence("review")


@pytest.fixture(scope="module")
def reconciled() -> Evidence:
    return load_evidence("reconciled")


def sums(counts) -> tuple[int, int]:
    return counts.table["events"].sum(), counts.table["total"].sum()


def made(tmp_path: Path, **cells: dict[str, int]) -> Evidence:
    """Return evidence in which the cohorts named have these counts of response."""
    folder = Path(shutil.copytree(dfsp.DATA, tmp_path / "made"))
    with (folder / "counts.csv").open("a", encoding="utf-8") as file:
        for cohort, counts in cells.items():
            for category, number in counts.items():
                file.write(f"{cohort},made,response,all,{category},{number},derived,wang2015,\n")
    with (folder / "evidence_sets.csv").open("a", encoding="utf-8") as file:
        file.writelines(f"made,response,{cohort},made,\n" for cohort in cells)
    return load_evidence("made", folder=folder)


def one(tmp_path: Path, **cells: int) -> Evidence:
    """Return evidence of one cohort; `CR_PR=9` is the coarse category CR+PR."""
    return made(tmp_path, **{"han-2009": {k.replace("_", "+"): n for k, n in cells.items()}})


@pytest.mark.parametrize(
    ("outcome", "not_evaluable", "expected"),
    [
        ("objective_response", "no event", (92, 152)),
        ("objective_response", "excluded", (92, 148)),
        ("objective_response", "event", (96, 152)),
        ("complete_response", "no event", (8, 152)),
        ("clinical_benefit", "no event", (134, 152)),
        ("stable_disease", "no event", (42, 152)),
        ("progression", "no event", (14, 152)),
        ("progression", "event", (18, 152)),
    ],
)
def test_the_review_as_it_adds_up(review, outcome, not_evaluable, expected):
    counts = count(review, outcome, not_evaluable=not_evaluable)
    assert len(counts.table) == 10 and counts.dropped.empty
    assert sums(counts) == expected


def test_the_published_dose_groups(review):
    table = count(review, "objective_response").table
    by_dose = table.groupby("dose_mg")[["events", "total"]].sum()
    assert by_dose.loc[[400, 600, 800]].to_numpy().tolist() == [[27, 40], [16, 39], [49, 73]]


def test_the_primary_analysis(reconciled):
    counts = count(reconciled, "objective_response")
    assert list(counts.table[["study", "events", "total"]].itertuples(index=False, name=None)) == [
        ("Ugurel 2014", 8, 16),
        ("Wang 2015", 15, 22),
        ("Rutkowski 2017", 21, 31),
        ("Stacchiotti 2016", 8, 10),
        ("Kérob 2010", 9, 25),
        ("Heinrich 2008", 10, 12),
        ("Han 2009", 4, 4),
        ("Rutkowski 2010 (pooled)", 11, 24),
    ]
    assert (counts.outcome, counts.label) == ("objective_response", "objective response")
    assert (counts.not_evaluable, counts.evidence_set) == ("no event", "reconciled")
    assert counts.files == reconciled.files


def test_columns_and_covariates(review):
    table = count(review, "objective_response").table
    first = ["study", "events", "total", "cohort", "dose_mg", "setting", "design", "year"]
    assert table.columns[:8].to_list() == first
    assert table.columns[-1] == "shares_patients_with"
    assert {"source", "population", "metastatic", "trial"} <= set(table.columns)
    assert table.loc[0, ["dose_mg", "setting", "year", "population"]].to_list() == [
        600, "neoadjuvant", 2014, "evaluable",
    ]  # fmt: skip
    assert table["dose_mg"].dtype == "int64"


def test_a_covariate_that_is_not_known_is_missing(reconciled):
    table = count(reconciled, "objective_response").table.set_index("study")
    assert table["dose_mg"].isna().to_list() == [False] * 7 + [True]


def test_shared_patients_are_named_and_merely_possible_ones_are_not(review, reconciled):
    shares = count(review, "objective_response").table.set_index("study")["shares_patients_with"]
    assert shares[shares != ""].to_dict() == {
        "Heinrich 2008": "McArthur 2005",
        "McArthur 2005": "Heinrich 2008",
    }
    assert (count(reconciled, "objective_response").table["shares_patients_with"] == "").all()


def test_the_same_trial_shares_patients_without_a_judgement(tmp_path):
    evidence = made(
        tmp_path, **{"mcarthur-2005": {"PR": 1, "PD": 1}, "heinrich-2008": {"PR": 1, "PD": 1}}
    )
    evidence = replace(evidence, overlaps=evidence.overlaps[:0])
    shares = count(evidence, "objective_response").table["shares_patients_with"]
    assert shares.to_list() == ["Heinrich 2008", "McArthur 2005"]


def test_sharing_counts_only_among_the_studies_kept(review):
    table = count(review, "objective_response", drop=["mcarthur-2005"]).table
    assert (table["shares_patients_with"] == "").all()


@pytest.mark.parametrize(
    ("outcome", "not_evaluable", "dropped"),
    [
        ("objective_response", "no event", {}),
        ("objective_response", "excluded", {"Rutkowski 2010 (pooled)": "SD+NE 9"}),
        ("objective_response", "event", {"Rutkowski 2010 (pooled)": "SD+NE 9"}),
        ("complete_response", "no event", {"Kérob 2010": "CR+PR 9"}),
        ("clinical_benefit", "no event",
         {"Kérob 2010": "SD+PD 16", "Rutkowski 2010 (pooled)": "SD+NE 9"}),
        ("clinical_benefit", "event", {"Kérob 2010": "SD+PD 16"}),
        ("progression", "no event", {"Kérob 2010": "SD+PD 16"}),
        ("stable_disease", "excluded",
         {"Kérob 2010": "SD+PD 16", "Rutkowski 2010 (pooled)": "SD+NE 9"}),
    ],
)  # fmt: skip
def test_coarse_counts_that_straddle_drop_the_cohort_and_say_so(
    reconciled, outcome, not_evaluable, dropped
):
    counts = count(reconciled, outcome, not_evaluable=not_evaluable)
    assert len(counts.table) == 8 - len(dropped)
    assert counts.dropped["study"].to_list() == list(dropped)
    for reason, cell in zip(counts.dropped["reason"], dropped.values(), strict=True):
        assert reason.startswith(f"{cell} cannot be divided: ")


def test_the_reason_says_what_each_part_counts_as(reconciled):
    counts = count(reconciled, "clinical_benefit", not_evaluable="excluded")
    assert counts.dropped.set_index("study").at["Rutkowski 2010 (pooled)", "reason"] == (
        "SD+NE 9 cannot be divided: SD as event, NE as excluded"
    )
    assert "dropped: Kérob 2010: SD+PD 16 cannot" in str(counts)


@pytest.mark.parametrize(
    ("outcome", "not_evaluable", "low", "high"),
    [
        ("clinical_benefit", "no event", (11, 24), (20, 24)),
        ("clinical_benefit", "excluded", (11, 15), (20, 24)),
        ("objective_response", "excluded", (11, 24), (11, 15)),
        ("objective_response", "event", (11, 24), (20, 24)),
    ],
)
def test_extreme_allocations_of_sd_or_ne_9(reconciled, outcome, not_evaluable, low, high):
    for ambiguous, expected in (("low", low), ("high", high)):
        counts = count(reconciled, outcome, not_evaluable=not_evaluable, ambiguous=ambiguous)
        pooled = counts.table.set_index("study").loc["Rutkowski 2010 (pooled)"]
        assert (pooled["events"], pooled["total"]) == expected
        assert len(counts.table) == 8 and counts.dropped.empty


@pytest.mark.parametrize("outcome", ["complete_response", "clinical_benefit", "progression"])
@pytest.mark.parametrize("not_evaluable", ["no event", "excluded", "event"])
def test_no_other_allocation_goes_beyond_the_extremes(tmp_path, outcome, not_evaluable):
    coarse = {"CR+PR": 2, "SD+PD+NE": 3}
    evidence = one(tmp_path, CR_PR=2, SD_PD_NE=3)
    events = OUTCOMES[outcome].events
    rates = set()
    for patients in product(*[k.split("+") for k, n in coarse.items() for _ in range(n)]):
        kept = [p for p in patients if p != "NE" or not_evaluable != "excluded"]
        happened = [p in events or (p == "NE" and not_evaluable == "event") for p in kept]
        rates.add(sum(happened) / len(kept))
    for ambiguous, extreme in (("low", min(rates)), ("high", max(rates))):
        counts = count(evidence, outcome, not_evaluable=not_evaluable, ambiguous=ambiguous)
        assert counts.table.at[0, "events"] / counts.table.at[0, "total"] == extreme


def test_a_coarse_count_of_nobody_harms_nothing(tmp_path):
    counts = count(one(tmp_path, CR_PR=0, SD_PD=6), "complete_response")
    assert sums(counts) == (0, 6)


def test_the_total_is_what_was_recorded_and_not_who_was_enrolled(tmp_path):
    counts = count(one(tmp_path, PR=1, PD=1), "objective_response")
    assert sums(counts) == (1, 2)
    assert counts.table.at[0, "enrolled"] == 4


def test_surgery_and_severe_adverse_events(reconciled):
    assert sums(count(reconciled, "surgery")) == (26, 55)
    severe = count(reconciled, "severe_adverse_event").table
    assert severe[["study", "events", "total"]].to_numpy().tolist() == [["Ugurel 2014", 4, 16]]


def test_rutkowski_by_dose():
    counts = count(load_evidence("reconciled_by_dose"), "objective_response")
    assert sums(counts) == (84, 144)
    assert counts.table["dose_mg"].to_list()[-2:] == [800, 400]


@pytest.mark.parametrize("name", ["mcarthur-2005", "McArthur 2005"])
def test_cohorts_are_left_out_by_name_or_label(review, name):
    for drop in ([name], name, iter([name])):
        counts = count(review, "objective_response", drop=drop)
        assert sums(counts) == (83, 142)
        assert counts.dropped.to_numpy().tolist() == [["McArthur 2005", "left out on request"]]


# What is refused or dropped


def refusal(*args, **options) -> str:
    with pytest.raises(DfspError) as caught:
        count(*args, **options)
    return str(caught.value)


def test_an_unknown_cohort_to_leave_out(review):
    message = refusal(review, "objective_response", drop=["han-2009", "hun-2009"])
    start = "drop: 'hun-2009' is not known (did you mean 'han-2009' or 'Han 2009'?); known: "
    assert message.startswith(start) and "ugurel-2014 | wang-2015" in message


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"outcome": "cure"}, "outcome 'cure' is not known; use one of objective_response, comp"),
        ({"not_evaluable": "NE"}, "'NE' is not known; use one of no event, excluded, event"),
        ({"ambiguous": "half"}, "ambiguous 'half' is not known; use one of drop, low, high"),
    ],
)
def test_unknown_options_list_the_known_ones(review, options, says):
    assert says in refusal(review, **{"outcome": "objective_response", **options})


def test_a_set_without_the_measure(review):
    assert refusal(review, "surgery") == (
        "evidence set 'review' cannot count surgery after imatinib: it has no cohort for the "
        "measure surgery; its measures: response, any_adverse_event, severe_adverse_event"
    )


@pytest.mark.parametrize("outcome", ["any_adverse_event", "severe_adverse_event"])
def test_an_aggregate_cannot_enter_a_fit(review, outcome):
    message = refusal(review, outcome)
    assert "no cohort is left" in message
    assert "All cohorts of the review (total only): a total over unknown cohorts" in message


def test_an_aggregate_beside_cohorts_is_dropped(tmp_path):
    evidence = made(
        tmp_path, **{"review-total": {"PR": 5, "PD": 5}, "han-2009": {"PR": 1, "PD": 2}}
    )
    counts = count(evidence, "objective_response")
    assert sums(counts) == (1, 3)
    assert "cannot enter a hierarchical fit" in counts.dropped.at[0, "reason"]


def test_no_cohort_left_says_why_for_each(review):
    cohorts = review.rows.loc[review.rows["measure"] == "response", "cohort"].unique()
    lines = refusal(review, "objective_response", drop=cohorts).splitlines()
    assert lines[0].endswith(
        "no cohort is left to count objective response (not evaluable: no event)"
    )
    assert lines[1:3] == [
        "  Ugurel 2014: left out on request",
        "  Wang 2015: left out on request",
    ]
    assert len(lines) == 11


@pytest.mark.parametrize(
    ("cells", "not_evaluable", "says"),
    [
        ({"CR": 0, "PR": 0, "SD": 0, "PD": 0, "NE": 4}, "excluded", "no patient is left to count"),
        ({"CR": 0, "PR": 0, "SD": 0, "PD": 0}, "no event", "no patient is left to count"),
        ({"CR": 1, "PR": 3}, "no event", "only CR, PR is recorded, so the total is not known"),
        ({"SD": 1, "PD": 3}, "no event", "no count of CR, PR is recorded"),
    ],
)
def test_a_cohort_without_a_usable_total_is_dropped(tmp_path, cells, not_evaluable, says):
    evidence = one(tmp_path, **cells)
    assert f"Han 2009: {says}" in refusal(
        evidence, "objective_response", not_evaluable=not_evaluable
    )


@pytest.fixture
def with_clusters(clustered_folder):
    return dfsp.load_evidence("mine", folder=clustered_folder)


def test_cohorts_say_themselves_which_belong_together(with_clusters):
    counts = dfsp.count(with_clusters, "objective_response")
    # One without an entry is by itself.
    assert counts.table["cluster"].to_list() == ["x", "Brown", "Clark"]
    assert "centre" in counts.table
    named = dfsp.count(with_clusters, "objective_response", cluster="centre")
    assert named.table["cluster"].to_list() == ["m", "m", "n"]
    assert dfsp.fit(named).as_dict()["n_clusters"] == 2


def test_models_of_categories_refuse_clusters(with_clusters):
    for fit in (dfsp.categories.fit, dfsp.ordinal.fit):
        with pytest.raises(dfsp.DfspError, match="does not model clusters"):
            fit(with_clusters)
