"""What several test files share."""

import numpy as np
import pandas as pd
import pytest

import dfsp

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


@pytest.fixture(scope="session")
def make():
    """Counts from rows of study, events, total."""
    return lambda rows: dfsp.check_table(pd.DataFrame(rows, columns=["study", "events", "total"]))
