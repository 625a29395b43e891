"""What `data/` holds can be used, whatever studies are in it."""

import pandas as pd
import pytest
from frozen import REAL

import dfsp
from dfsp.evidence.load import TABLES

SETS = pd.read_csv(REAL / "evidence_sets.csv")["evidence_set"].unique()


@pytest.mark.parametrize("name", SETS)
def test_every_set_can_be_read(name):
    evidence = dfsp.load_evidence(name, folder=REAL)
    assert not evidence.rows.empty
    assert evidence.rows["reference"].isin(evidence.references["reference"]).all()


def test_the_dictionary_describes_every_column():
    dictionary = (REAL / "README.md").read_text(encoding="utf-8")
    for table in TABLES:
        section = dictionary.split(f"## `{table}.csv`")[1].split("\n## ")[0]
        header = (REAL / f"{table}.csv").read_text(encoding="utf-8").splitlines()[0]
        assert [name for name in header.split(",") if f"`{name}`" not in section] == []
