"""What a fit says of its priors: numbers in the JSON, one sentence where a prior decides."""

import jsonschema
import pandas as pd
import pytest
from click.testing import CliRunner

import dfsp
from dfsp.cli import cli
from dfsp.engine.powers import power_scaling
from dfsp.evidence.tables import Counts
from dfsp.fitting import LOCATION_LIMIT
from dfsp.project import project_folder
from dfsp.schemas import schema

RARE = "study,events,total\nA,2,1000000\nB,3,1000000\nC,4,1000000\n"
NONE = "study,events,total\nA,0,200\n"


def table(**columns):
    return pd.DataFrame({"study": list("ABCDEFGH")[: len(columns["events"])], **columns})


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
    nested = dfsp.fit(
        Counts(counts.assign(cluster=["x", "x", "y"], shares_patients_with=""))
    ).as_dict()
    jsonschema.validate(nested, schema("fit"))
    assert nested["prior_sensitivity"] is None


def test_a_prior_that_decides_is_named_with_its_way_and_what_to_do():
    """9 of three million: the prior of mu, which expects one half, pulls upwards by far."""
    says = page(RARE)
    assert "The prior of mu decides: it pulls the mean rate up (location +6.43" in says
    assert "--mu-sd, and report both" in says
    assert "The prior of mu decides: it pulls the mean rate up" in page(NONE)
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
    assert "typical study is 0.014 %" in page(RARE)  # 1.414e-4 by quadrature of others' making
