"""What several test files share."""

import numpy as np
import pandas as pd
import pytest
from frozen import freeze

import dfsp

freeze()

# Files that take longest, in this order; begun first, so that none of them is left to one process
# at the end. From `--durations=0` of both tiers.
LONGEST = (
    "04_dose.ipynb", "07_calibration.ipynb", "test_nested_calibration.py", "test_nested.py",
    "test_notebooks.py", "test_clusters.py", "test_batches.py", "test_regression.py",
    "test_hostile_input.py", "test_moderators.py", "test_repeatability.py", "test_posterior.py",
    "test_by.py", "test_readme.py", "test_project.py", "test_cumulative.py", "test_effects.py",
    "test_brute_force.py", "test_thresholds.py",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest; kernels' warnings are no errors in notebooks."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
    for item in items:
        if item.path.suffix == ".ipynb":
            item.add_marker(pytest.mark.filterwarnings("default"))


# Ankylosing spondylitis, placebo response: Baeten 2013, doi:10.1016/S0140-6736(13)61134-4, as in
# the R package RBesT.
AS = pd.DataFrame(
    {
        "study": ["ATLAS", "Canadian AS", "Wyeth", "Calin", "Davis", "Gorman", "ASSERT", "Braun"],
        "events": [23, 12, 19, 9, 39, 6, 9, 10],
        "total": [107, 44, 51, 39, 139, 20, 78, 35],
    }
)


@pytest.fixture(scope="session")
def ankylosing() -> pd.DataFrame:
    return AS.copy()


@pytest.fixture(scope="session")
def review() -> "dfsp.Counts":
    return dfsp.count(dfsp.load_evidence("review"), "objective_response")


@pytest.fixture(scope="session")
def review_fit(review) -> "dfsp.Fit":
    return dfsp.fit(review)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20261123)


OWN = {
    "cohorts": "cohort,kind,label,year,design,setting,start_dose_mg,dose_escalation,enrolled,"
    "metastatic,fibrosarcomatous,fusion_positive,fusion_tested,treatment_months_median,"
    "followup_months_median,trial,reference\n"
    + "".join(
        f"{c.lower()},cohort,{c},,,,,,,,,,,,,,{c.lower()}\n" for c in ("Adams", "Brown", "Clark")
    ),
    "counts": "cohort,source,measure,population,category,count,status,reference,note\n"
    + "".join(
        f"{c},primary,response,all,{category},{count},printed,{c},\n"
        for c, counts in (("adams", (5, 7)), ("brown", (8, 12)), ("clark", (3, 6)))
        for category, count in zip(("CR+PR", "SD+PD"), counts, strict=True)
    ),
    "evidence_sets": "evidence_set,measure,cohort,source,reason\n"
    + "".join(f"mine,response,{c},primary,\n" for c in ("adams", "brown", "clark")),
    "overlaps": "cohort,other_cohort,judgement,handling,evidence\n",
    "published": "quantity,printed,numerator,denominator,arithmetic,traceable,reference,note\n",
    "references": "reference,citation,doi,pmid\n"
    + "".join(f"{c},A report,,\n" for c in ("adams", "brown", "clark")),
}


@pytest.fixture
def own_folder(tmp_path):
    """A minimal evidence folder: nothing published, no overlaps, coarse counts."""
    folder = tmp_path / "my_data"
    folder.mkdir()
    for name, text in OWN.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def clustered_folder(own_folder):
    """The same with a column `cluster` and another of such names, partly blank."""
    path = own_folder / "cohorts.csv"
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    own = zip(rows, ("x,m", ",m", ",n"), strict=True)
    lines = [f"{header},cluster,centre", *(f"{row},{names}" for row, names in own)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return own_folder


@pytest.fixture(scope="session")
def make():
    """Counts from rows of study, events, total."""
    return lambda rows: dfsp.Counts.of(pd.DataFrame(rows, columns=["study", "events", "total"]))
