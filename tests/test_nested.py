"""Rows that belong to clusters: the exact engine against plain sums, against itself, and NUTS."""

import json
from dataclasses import replace

import jsonschema
import nested_dense
import numpy as np
import pytest
from click.testing import CliRunner
from scipy.special import logit

import dfsp
from dfsp.cli import cli
from dfsp.engine.nested import solve_nested
from dfsp.engine.posterior import solve
from dfsp.errors import DfspError
from dfsp.model.model import Model
from dfsp.model.priors import HalfNormal
from dfsp.schemas import schema
from dfsp.summaries import report

QUANTITIES = ("mu", "sigma", "tau", "omega", "rho", "typical_rate", "mean_rate")
# Events and total of the rows of each cluster, with rows of 0/n and of n/n
DESIGNS = {
    "three clusters": [[(3, 8), (1, 6)], [(4, 7), (5, 8), (2, 9)], [(0, 6)]],
    "all or nothing": [[(0, 5), (0, 7)], [(6, 6), (5, 6)]],
}


def flat(rows):
    events, total = np.array([row for cluster in rows for row in cluster]).T
    return events, total, [c for c, cluster in enumerate(rows) for _ in cluster]


@pytest.fixture(scope="module", params=DESIGNS)
def both(request):
    rows = DESIGNS[request.param]
    prior = HalfNormal(0.6)
    dense = nested_dense.posterior(
        rows,
        mu=np.linspace(-10, 10, 91),
        sigma=nested_dense.gauss(0, 4, 24),  # the prior's log density is -22 at 4
        prior=prior.logpdf,
    )
    return dense, solve_nested(*flat(rows), Model(tau=prior))


def test_population_is_that_of_plain_sums(both):
    dense, exact = both
    assert exact.log_marginal_likelihood == pytest.approx(
        dense["log_marginal_likelihood"], abs=1e-6
    )
    for name in QUANTITIES:
        assert getattr(exact, name).mean == pytest.approx(dense[name], abs=2e-6), name
    assert exact.tau.sd == pytest.approx(dense["tau_sd"], abs=2e-6)
    assert exact.error < 1e-5


def test_medians_and_ends_are_those_of_plain_sums(both):
    dense, exact = both
    for q in (0.025, 0.5, 0.975):
        assert dense["mu_cdf"](exact.mu.quantile(q)[0]) == pytest.approx(q, abs=2e-6)
        assert dense["new_cdf"](logit(exact.new_study_rate.quantile(q)[0])) == pytest.approx(
            q, abs=2e-6
        )
        assert dense["rho_cdf"](exact.rho.quantile(q)[0]) == pytest.approx(q, abs=2e-6)


def test_rates_of_rows_are_those_of_plain_sums(both):
    dense, exact = both
    assert exact.studies[:, 0] == pytest.approx(dense["rates"], abs=2e-6)


def test_a_cluster_is_predicted_as_by_plain_sums(both):
    dense, exact = both
    # The sums' own error, where a cluster that half of the evidence comes from is taken out
    assert exact.leave_one_cluster_out_lpd == pytest.approx(dense["left_out"], abs=5e-6)


# ------------------------------------------------------------------------- one row a cluster


def test_with_one_row_a_cluster_all_is_as_without_clusters():
    counts = [3, 0, 9, 5, 7], [10, 9, 12, 21, 30]
    nested, plain = solve_nested(*counts, list("abcde"), Model()), solve(*counts, Model())
    assert nested.log_marginal_likelihood == plain.log_marginal_likelihood
    for name in ("mu", "typical_rate", "mean_rate", "new_study_rate"):
        assert (getattr(nested, name).summary() == getattr(plain, name).summary()).all(), name
    assert (nested.sigma.summary() == plain.tau.summary()).all()
    assert (nested.studies == plain.studies).all()
    assert (nested.leave_one_out_lpd == plain.leave_one_out_lpd).all()
    # rho has its prior: uniform, of standard deviation 1 / sqrt(12)
    assert nested.rho.quantile([0.025, 0.5, 0.975]) == pytest.approx([0.025, 0.5, 0.975], abs=1e-6)
    assert (nested.rho.mean, nested.rho.sd) == pytest.approx((0.5, 12**-0.5), abs=1e-9)
    # E sqrt(rho) = E sqrt(1 - rho) = 2/3
    expected = 2 / 3 * plain.tau.mean
    assert (nested.tau.mean, nested.omega.mean) == pytest.approx((expected, expected), abs=1e-6)


# ------------------------------------------------------------------------- what a fit says

TABLE = """study,events,total,trial
A 1,3,8,A
A 2,1,6,A
B 1,4,7,B
B 2,5,8,B
B 3,2,9,B
C,0,6,
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("nested") / "arms.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def result(path):
    return dfsp.fit(dfsp.read_table(path, cluster="trial"))


def test_a_fit_knows_the_clusters_of_its_rows(result):
    said = result.as_dict()
    jsonschema.validate(said, schema("fit"))
    assert (said["n_studies"], said["n_clusters"]) == (6, 3)
    assert [row["cluster"] for row in said["studies"]] == ["A", "A", "B", "B", "B", "C"]
    exact = solve_nested([3, 1, 4, 5, 2, 0], [8, 6, 7, 8, 9, 6], list("AABBBC"), Model())
    for name in ("sigma", "tau", "omega", "rho", "typical_rate"):
        assert list(said[name].values()) == getattr(exact, name).summary().tolist(), name
    lpd = [row["leave_one_out_lpd"] for row in said["studies"]]
    assert lpd[:5] == [None] * 5  # a cluster is left out as a whole
    assert lpd[5] == exact.leave_one_cluster_out_lpd[2]
    assert said["elpd_leave_one_study_out"] == sum(exact.leave_one_cluster_out_lpd)
    assert "15 of 44 patients in 6 groups in 3 studies" in dfsp.conclude(result)
    assert "6 groups in 3 studies; mu ~ Normal(mean 0, sd 2), sigma ~ HalfNormal" in report(result)
    assert result.model.as_dict() == Model().as_dict()


def test_sigma_is_what_two_new_studies_differ_by(result):
    said = dfsp.describe_heterogeneity(result)
    assert "standard deviation between rows of different clusters is" in said
    assert f"is {result.summary.loc['sigma', 'q50']:.2f} on the logit scale" in said


def test_rho_is_identified_by_two_clusters_of_two_rows(path):
    counts = dfsp.read_table(path, cluster="trial")
    verdict = {check.name: check for check in dfsp.fit(counts).checks}["rho is identified"]
    assert (verdict.passed, verdict.value, verdict.limit) == (True, 2, 2)
    few = replace(counts, table=counts.table.drop(index=[0]).reset_index(drop=True))
    verdict = {check.name: check for check in dfsp.fit(few).checks}["rho is identified"]
    assert (verdict.passed, verdict.value) == (None, 1)
    assert verdict.says.endswith("how much of the variance is between clusters is its prior's.")


def test_effects_other_than_normal_and_other_analyses_refuse_clusters(path, result):
    counts = dfsp.read_table(path, cluster="trial")
    for effects in ("student-t", "exnex", "beta-binomial"):
        with pytest.raises(DfspError, match=f"{effects} effects: rows that belong to clusters"):
            dfsp.fit(counts, Model(effects=effects))
    with pytest.raises(DfspError, match="this analysis does not model clusters"):
        dfsp.coverage(counts)
    with pytest.raises(DfspError, match="this analysis does not model clusters"):
        dfsp.regress(counts, "dose_mg")
    with pytest.raises(DfspError, match="does not model clusters"):
        dfsp.all_subsets(counts)
    with pytest.raises(DfspError, match="does not model clusters"):
        dfsp.leave_two_out(counts)
    with pytest.raises(DfspError, match="does not model clusters"):
        dfsp.leave_one_out(result)
    with pytest.raises(DfspError, match="does not model clusters"):
        dfsp.influence(result)
    with pytest.raises(DfspError, match="no independent draws"):
        dfsp.draws(result.exact)


def test_the_command_line_names_the_column(path):
    found = CliRunner().invoke(cli, ["fit", str(path), "--cluster", "trial", "--json"])
    assert found.exit_code == 0
    assert json.loads(found.stdout)["n_clusters"] == 3
    found = CliRunner().invoke(cli, ["fit", str(path), "--cluster", "trial"])
    assert "6 groups in 3 studies" in found.stdout and "rho" in found.stdout
