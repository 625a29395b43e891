"""Rows that belong to clusters: the exact engine against plain sums, against itself, and NUTS."""

import json
from dataclasses import replace

import jsonschema
import nested_dense
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import binom, norm

import dfsp
from dfsp.cli import cli
from dfsp.engine import nuts as sampling
from dfsp.engine.clusters import Clusters
from dfsp.engine.nested import NestedSurface, solve_nested, with_share
from dfsp.engine.posterior import Population, solve
from dfsp.errors import DfspError
from dfsp.evidence.tables import check_table
from dfsp.model.likelihood import log_likelihood
from dfsp.model.model import Model
from dfsp.model.priors import Fixed, HalfNormal, Normal
from dfsp.schemas import schema

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
    assert exact.new_rows[:, 0] == pytest.approx(dense["new_rows"], abs=2e-6)


def test_a_cluster_is_predicted_as_by_plain_sums(both):
    dense, exact = both
    # The sums' own error, where a cluster that half of the evidence comes from is taken out
    assert exact.leave_one_cluster_out_lpd == pytest.approx(dense["left_out"], abs=5e-6)


def test_rows_far_from_a_location_have_their_likelihood_still():
    # E[(1 - p)^n] = E[exp(-n theta)] = exp(-n mu + n^2 tau^2 / 2) where rates are all but 1
    events, total = np.zeros(2), np.array([5.0, 12.0])
    for tau in (0.5, 1.05, 3.0):
        found = log_likelihood(events, total, np.full(1, 400.0), np.full(1, tau))[:, 0]
        assert found == pytest.approx(-400 * total + total**2 * tau**2 / 2, rel=1e-9)


def test_nothing_but_events_or_nothing_but_none_leave_sigma_to_its_prior():
    none = solve_nested([0, 0, 0, 0], [10, 12, 20, 5], list("AABB"), Model())
    every = solve_nested([10, 12, 20, 5], [10, 12, 20, 5], list("AABB"), Model())
    assert none.log_marginal_likelihood == pytest.approx(every.log_marginal_likelihood, abs=1e-7)
    assert none.typical_rate.quantile(0.5) == pytest.approx(1 - every.typical_rate.quantile(0.5))
    # That of independent rows, and of clusters as one row each (up to the coefficients), enclose it.
    rows = solve([0, 0, 0, 0], [10, 12, 20, 5], Model()).log_marginal_likelihood
    sums = solve([0, 0], [22, 25], Model()).log_marginal_likelihood
    assert rows < none.log_marginal_likelihood < sums


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
    # P(tau < t) = E P(sigma < t / sqrt(rho)), by the midpoint rule over rho
    rho = (np.arange(20_000, 0, -1) - 0.5) / 20_000
    for part in (nested.tau, nested.omega):
        for q in (0.025, 0.5, 0.975):
            below = plain.tau.cdf_at(part.quantile(q)[0] / np.sqrt(rho)).mean()
            assert below == pytest.approx(q, abs=1e-5)


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
    # Added up in another order
    assert said["elpd_leave_one_study_out"] == pytest.approx(
        sum(exact.leave_one_cluster_out_lpd), rel=1e-15
    )
    assert "15 of 44 patients in 6 groups in 3 studies" in result.describe()
    assert "6 groups in 3 studies; mu ~ Normal(mean 0, sd 2), sigma ~ HalfNormal" in result.page()
    assert result.model.as_dict() == Model().as_dict()


def test_sigma_is_what_two_new_studies_differ_by(result):
    said = result.heterogeneity().describe()
    assert "standard deviation between rows of different clusters is" in said
    assert f"is {result.summary.loc['sigma', 'q50']:.2f} on the logit scale" in said


def test_one_more_row_of_a_cluster_has_a_rate_of_its_own(result):
    table = result.new_rows()
    assert table.index.to_list() == ["A", "B", "C"]
    assert (table.to_numpy() == result.exact.new_rows).all()
    # Less certain than a row with patients, and nearer to its cluster than a new study
    rates = result.studies.set_index("study")["sd"]
    assert table.loc["B", "sd"] > rates["B 1"]
    assert table.loc["C", "mean"] < result.summary.loc["new_study_rate", "mean"]


def test_rho_is_identified_by_two_clusters_of_two_rows(path):
    counts = dfsp.read_table(path, cluster="trial")
    verdict = {check.name: check for check in dfsp.fit(counts).checks}["identification of rho"]
    assert (verdict.passed, verdict.value, verdict.limit) == (True, 2, 2)
    few = replace(counts, table=counts.table.drop(index=[0]).reset_index(drop=True))
    verdict = {check.name: check for check in dfsp.fit(few).checks}["identification of rho"]
    assert (verdict.passed, verdict.value) == (None, 1)
    assert verdict.says.startswith("rho is not identified: 1 cluster has two rows or more, where")
    assert verdict.says.endswith("how much of the variance is between clusters is its prior's.")


def test_effects_other_than_normal_and_other_analyses_refuse_clusters(path, result):
    counts = dfsp.read_table(path, cluster="trial")
    for effects in ("student-t", "exnex", "beta-binomial"):
        with pytest.raises(DfspError, match=f"{effects} effects: rows that belong to clusters"):
            dfsp.fit(counts, Model(effects=effects))
    with pytest.raises(DfspError, match="this analysis does not model clusters"):
        dfsp.calibration.coverage(counts)
    with pytest.raises(DfspError, match="a meta-regression does not model clusters"):
        dfsp.regression.regress(counts, "dose_mg")
    with pytest.raises(DfspError, match="does not model clusters"):
        dfsp.sensitivity.all_subsets(counts)
    with pytest.raises(DfspError, match="does not model clusters"):
        dfsp.sensitivity.leave_two_out(counts)
    with pytest.raises(DfspError, match="does not model clusters"):
        dfsp.sensitivity.influence(result)
    with pytest.raises(DfspError, match="no independent draws"):
        result.draws()
    plain = dfsp.fit(counts.table[["study", "events", "total"]])
    with pytest.raises(DfspError, match="no clusters"):
        plain.new_rows()


def test_priors_of_rho_by_its_moments(result):
    """Under Beta(2, 1), of density 2 rho, the evidence is 2 E[rho] times as large, and so on."""
    found = result.rho_priors()
    assert list(found.index) == ["Uniform(0, 1)", "Beta(2, 1)", "Beta(1, 2)"]
    own, typical = result.summary.loc["rho"], result.summary.loc["typical_rate"]
    assert found.loc["Uniform(0, 1)", ["low", "typical_rate", "high"]].to_list() == pytest.approx(
        typical[["q2.5", "q50", "q97.5"]].to_list(), abs=1e-7
    )
    log_evidence = found["log_marginal_likelihood"].to_numpy()
    assert np.diff(log_evidence[:2])[0] == pytest.approx(np.log(2 * own["mean"]), abs=1e-6)
    assert log_evidence[2] - log_evidence[0] == pytest.approx(np.log(2 - 2 * own["mean"]), abs=1e-6)
    square = own["sd"] ** 2 + own["mean"] ** 2
    assert with_share(result.exact, 2, 1).rho.mean == pytest.approx(square / own["mean"], abs=1e-6)
    assert found.loc["Beta(1, 2)", "rho"] < own["q50"] < found.loc["Beta(2, 1)", "rho"]


def test_without_clusters_of_several_rows_rho_moves_nothing_else():
    posterior = solve_nested([7, 4, 9], [15, 22, 18], list("ABC"), Model())
    other = with_share(posterior, 2, 1)
    assert other.rho.mean == pytest.approx(2 / 3, abs=1e-6)
    assert other.typical_rate.mean == posterior.typical_rate.mean


def test_clusters_are_left_out_as_a_whole(path, result):
    counts = dfsp.read_table(path, cluster="trial")
    found = result.leave_one_out()
    clusters = list(dict.fromkeys(counts.table["cluster"]))
    assert list(found.index) == clusters
    for cluster in clusters[:2]:
        gone = counts.table.loc[counts.table["cluster"] == cluster, "study"]
        rest = dfsp.fit(dfsp.without(counts, gone)).summary
        assert found.loc[cluster, ["low", "typical_rate", "high"]].to_list() == pytest.approx(
            rest.loc["typical_rate", ["q2.5", "q50", "q97.5"]].to_list(), abs=1e-9
        )
        assert found.loc[cluster, "sigma"] == pytest.approx(rest.loc["sigma", "q50"], abs=1e-9)


def test_the_command_line_names_the_column(path):
    found = CliRunner().invoke(cli, ["fit", str(path), "--cluster", "trial", "--json"])
    assert found.exit_code == 0
    assert json.loads(found.stdout)["n_clusters"] == 3
    found = CliRunner().invoke(cli, ["fit", str(path), "--cluster", "trial"])
    assert "6 groups in 3 studies" in found.stdout and "rho" in found.stdout


# ------------------------------------------------------------------------- a published table

# Camels with antibodies against MERS coronavirus: the groups of 24 papers, a paper a line. Maximum
# likelihood by lme4 (Bates et al. 2015, doi:10.18637/jss.v067.i01), glmer with a binomial family:
# rows independent, logit of the typical rate 1.523 with standard error 0.279; nested, 1.519 with
# 0.326, standard deviations 1.05 between papers and 1.45 within.
CAMELS = """1329/1586 72/447 124/181 5/17 655/754 28/28 219/350 89/150
792/1163
871/1031
1808/2541
31/38
584/891
72/86 35/43 52/60
502/570
103/110
118/194 41/141
160/165 11/11
228/774
118/194 41/141
738/1041 167/380
29/31 152/157 337/358
336/407 30/73
48/52
126/131
444/525 632/632 341/343
401/456 2/45
37/63
146/152 38/38
51/87
4/4 294/365"""


def camels():
    cells = [line.split() for line in CAMELS.splitlines()]
    events, total = np.array([cell.split("/") for line in cells for cell in line], dtype=float).T
    return events, total, np.repeat(np.arange(len(cells)), [len(line) for line in cells])


def standard_error(minus_log_likelihood, best, steps):
    """Standard error of the first parameter, from second differences at the minimum."""
    hessian = np.empty((len(best), len(best)))
    for i, j in np.ndindex(hessian.shape):
        ends = [
            minus_log_likelihood(
                best + a * np.eye(len(best))[i] * steps[i] + b * np.eye(len(best))[j] * steps[j]
            )
            for a in (1, -1)
            for b in (1, -1)
        ]
        hessian[i, j] = (ends[0] - ends[1] - ends[2] + ends[3]) / (4 * steps[i] * steps[j])
    return np.linalg.inv(hessian)[0, 0] ** 0.5


def test_maximum_likelihood_of_camels_is_that_of_lme4():
    events, total, paper = camels()
    clusters = Clusters(events, total, paper)

    def nested(at):
        found = clusters.log_likelihood(at[:1, None], np.exp(at[1:2]), np.exp(at[2:]), 2)
        return -found.sum()

    def flat(at):
        return -log_likelihood(events, total, at[:1], np.exp(at[1:])).sum()

    best = minimize(nested, [1.5, 0.0, 0.3], method="Nelder-Mead").x
    # lme4's by Laplace's approximation
    assert [best[0], *np.exp(best[1:])] == pytest.approx([1.519, 1.05, 1.45], rel=0.005)
    assert standard_error(nested, best, [0.02, 0.03, 0.03]) == pytest.approx(0.326, rel=0.01)
    best = minimize(flat, [1.5, 0.5], method="Nelder-Mead").x
    assert best[0] == pytest.approx(1.523, rel=0.005)
    assert standard_error(flat, best, [0.02, 0.03]) == pytest.approx(0.279, rel=0.01)


def test_camels_are_less_certain_nested_than_as_independent_rows():
    events, total, paper = camels()
    nested, flat = (
        solve_nested(events, total, paper.tolist(), Model()),
        solve(events, total, Model()),
    )
    assert (nested.mu.sd, flat.mu.sd) == pytest.approx((0.326, 0.279), rel=0.02)
    assert nested.log_marginal_likelihood > flat.log_marginal_likelihood
    assert nested.error < 1e-5
    # A row's own 1,586 patients outweigh its paper.
    assert nested.studies[0, 0] == pytest.approx(1329 / 1586, abs=0.001)
    # Of 4 of 4 in a paper whose other group is 294 of 365
    alone = solve([*events[-2:]], [*total[-2:]], Model(mu=Normal(0, 100), tau=Fixed(10)))
    assert nested.studies[-2, 0] < alone.studies[0, 0]


# ------------------------------------------------------------------------- NUTS


# Serious toxicity of sorafenib at several doses, events/total; a line a trial
SORAFENIB = """\
0/4 0/3 1/5 1/10 7/12 1/3
0/3 0/3 1/4 1/6 3/3
0/3 1/6 0/8 3/7
1/5 1/6 0/15 4/14 2/7
0/12 1/14
0/3 1/12 0/6 1/6
8/34 6/20
0/4 1/6 0/6 1/6
0/3 1/6 0/3 2/6
0/3 0/15 2/8
0/3 1/7 2/6
0/3 1/6 0/3 1/5 3/3
0/3 1/16
"""


@pytest.mark.slow
@pytest.mark.parametrize("counts", [CAMELS, SORAFENIB], ids=["camels", "sorafenib"])
def test_nuts_agrees(counts):
    rows = [line.split() for line in counts.splitlines()]
    table = pd.DataFrame(
        [
            (f"{i} {j}", *map(int, cell.split("/")), str(i))
            for i, line in enumerate(rows)
            for j, cell in enumerate(line)
        ],
        columns=["study", "events", "total", "paper"],
    )
    result = dfsp.fit(check_table(table, cluster="paper"), engine="both")
    checks = {check.name: check for check in result.checks}
    for name in ("mu", "sigma", "tau", "omega", "rho", "typical_rate", "new_study_rate"):
        assert checks[f"agreement of {name}"].passed, checks[f"agreement of {name}"].says
    assert checks["agreement of interval ends"].passed
    rates = sampling.study_rates(result.sampled.draws)
    z = (rates["mean"].to_numpy() - result.studies["mean"].to_numpy()) / rates[
        "mcse_mean"
    ].to_numpy()
    assert np.abs(z).max() < 4.5  # of 45 or 49 rows: 3e-4
    ends = (rates["q2.5"].to_numpy() - result.studies["q2.5"].to_numpy()) / rates[
        "mcse_q2.5"
    ].to_numpy()
    assert np.abs(ends).max() < 5


def test_a_frame_says_itself_which_rows_belong_together():
    rows = {"study": list("abc"), "events": [1, 2, 3], "total": [10, 20, 9]}
    frame = pd.DataFrame(rows | {"cluster": ["x", "x", "z"]})
    named = dfsp.fit(check_table(frame, cluster="cluster"))
    assert dfsp.fit(frame).summary.equals(named.summary)
    with pytest.raises(dfsp.DfspError, match="does not model clusters"):
        dfsp.sensitivity.all_subsets(frame)


# ------------------------------------------------------- rare rates and large totals


def by_fourier(rows, sd, sigmas, phis):
    """Return log marginal likelihood, means of sigma and rho and rates by sums over one theta grid.

    Normal effects multiply Fourier coefficients by exp(-(omega k)^2 / 2), exactly for any omega.
    """
    theta = np.linspace(-70, 50, 2048, endpoint=False)
    step = theta[1] - theta[0]
    k = 2 * np.pi * np.fft.rfftfreq(len(theta), step)
    (sigma, in_sigma), (phi, in_phi) = sigmas, phis
    prior = np.sqrt(2 / np.pi) / sd * np.exp(-0.5 * (sigma / sd) ** 2)
    weight = np.outer(prior * in_sigma, np.sin(2 * phi) * in_phi).ravel()
    tau, omega = (np.outer(sigma, f(phi)).reshape(-1, 1) for f in (np.sin, np.cos))
    rate = expit(theta)
    own, shifted = [], []
    for cluster in rows:
        f = [binom.pmf(r, n, rate) for r, n in cluster]
        smooth = np.exp(-0.5 * (omega * k) ** 2)
        own.append([np.fft.irfft(np.fft.rfft(each) * smooth) for each in f])
        shifted.append([np.fft.irfft(np.fft.rfft(each * rate) * smooth) for each in f])
    outer = np.exp(-0.5 * (tau * k) ** 2)

    def likelihood(factors):
        return np.fft.irfft(np.fft.rfft(np.prod(factors, axis=0), axis=-1) * outer)

    by_cluster = [likelihood(f) for f in own]
    mass = np.prod(by_cluster, axis=0) * norm.pdf(theta, 0, 2) * step * weight[:, None]
    total = mass.sum()
    by_pair = mass.sum(1).reshape(len(sigma), len(phi)) / total
    rates = []
    for c, f in enumerate(own):
        others = [each for other, each in enumerate(by_cluster) if other != c]
        rest = np.prod(others, axis=0) * norm.pdf(theta, 0, 2) * step * weight[:, None]
        for j in range(len(f)):
            replaced = likelihood([*f[:j], shifted[c][j], *f[j + 1 :]])
            rates.append(np.sum(rest * replaced) / total)
    means = by_pair.sum(1) @ sigma, by_pair.sum(0) @ np.sin(phi) ** 2
    return np.log(total), *means, np.array(rates)


@pytest.mark.slow
def test_a_few_events_in_a_million_are_as_by_sums_over_a_grid():
    rows = [[(2, 1e6), (3, 1e6)], [(4, 1e6), (5, 1e6), (40, 1e6)]]
    # The prior's log density is -32 at 8.
    nodes = nested_dense.gauss(0, 8, 28), nested_dense.gauss(0, np.pi / 2, 40)
    log_total, sigma, rho, rates = by_fourier(rows, 1.0, *nodes)
    exact = solve_nested(*flat(rows), Model(tau=HalfNormal(1.0)))
    assert exact.log_marginal_likelihood == pytest.approx(log_total, abs=1e-5)
    assert exact.sigma.mean == pytest.approx(sigma, abs=1e-5)
    assert exact.rho.mean == pytest.approx(rho, abs=1e-5)
    assert exact.studies[:, 0] == pytest.approx(rates, rel=1e-4)
    assert exact.error < 1e-5


@pytest.mark.parametrize("events", [[2, 3, 4, 5, 40], [10**6, 999_998, 10**6, 999_990, 999_999]])
def test_far_from_rare_rates_the_likelihood_of_clusters_falls_on(events):
    # Normal effects keep the likelihood of a row log-concave (Prekopa): with one mode.
    clusters = Clusters(np.array(events, float), np.full(5, 1e6), np.array([0, 0, 1, 1, 1]))
    phi, sigma = np.meshgrid(nested_dense.gauss(0, np.pi / 2, 6)[0], np.geomspace(0.01, 8, 10))
    tau, omega = (sigma * f(phi) for f in (np.sin, np.cos))
    mu = np.tile(np.linspace(-20.0, 20.0, 81), (60, 1))
    tau, omega = tau.ravel(), omega.ravel()
    for level in (0, 1, 2):
        found = clusters.log_likelihood(mu, tau, omega, level)
        best = found.argmax(-1)
        slope = np.diff(found) * np.where(np.arange(80) < best[..., None], 1, -1)
        assert slope.min() > 0


def test_points_where_no_cluster_counts_make_no_difference(monkeypatch):
    events, total = np.array([3e5, 3.1e5, 3.0, 5.0]), np.array([1e6, 1e6, 12.0, 20.0])
    mu = np.tile(np.linspace(-9, 9, 12), (4, 1))
    tau, omega = np.array([0.05, 1.0, 3.0, 8.0]), np.array([2e-3, 1e-3, 0.02, 1e-4])

    def found():
        return Clusters(events, total, np.array([0, 0, 1, 1])).log_likelihood(mu, tau, omega, 2)

    fewer = found()
    monkeypatch.setattr("dfsp.engine.clusters.FAR_BELOW", np.inf)
    assert fewer == pytest.approx(found(), rel=1e-12)


HOSTILE = {
    "rare and certain rows of one cluster": [
        [(1, 1000), (999, 1000)],
        [(2, 1000), (1, 30)],
        [(3, 10)],
    ],
    "rows of all sizes": [[(0, 295), (0, 3)], [(25, 39)], [(377, 392), (5, 7), (12, 22)]],
}


@pytest.mark.slow
@pytest.mark.parametrize("rows", HOSTILE.values(), ids=HOSTILE)
def test_hostile_clusters_are_as_by_sums_over_a_grid(rows):
    # Sigma's posterior is below 1e-12 of its maximum at 16.
    nodes = nested_dense.gauss(0, 16, 60), nested_dense.gauss(0, np.pi / 2, 40)
    log_total, sigma, rho, rates = by_fourier(rows, 1.0, *nodes)
    exact = solve_nested(*flat(rows), Model(tau=HalfNormal(1.0)))
    assert exact.log_marginal_likelihood == pytest.approx(log_total, abs=1e-7)
    assert exact.sigma.mean == pytest.approx(sigma, abs=1e-7)
    assert exact.rho.mean == pytest.approx(rho, abs=1e-7)
    assert exact.studies[:, 0] == pytest.approx(rates, rel=5e-6)
    rest = [rows[:c] + rows[c + 1 :] for c in range(len(rows))]
    left = [log_total - by_fourier(each, 1.0, *nodes)[0] for each in rest]
    assert exact.leave_one_cluster_out_lpd == pytest.approx(left, abs=1e-7)


def test_modes_that_are_far_are_reached_in_few_looks(monkeypatch):
    # Where sigma is small, the rates of these clusters leave mu's mode hundreds of its standard
    # deviations from where a look begins; in steps of four it was reached in 184 looks, or never.
    events = [4086, 95670, 737, 11, 304, 16, 6, 12, 515, 134, 59, 45043, 275]
    total = [4159, 96323, 17061, 49608, 346282, 736, 6, 23, 49270, 39702, 21840, 49233, 6536]
    looks = []
    inner = NestedSurface.__call__
    monkeypatch.setattr(NestedSurface, "__call__", lambda *of: looks.append(1) or inner(*of))
    solve_nested(events, total, list("aaaabbcccddee"), Model())
    assert len(looks) < 60


def test_marginal_likelihoods_need_no_grid_for_leaving_out(monkeypatch):
    # Without the second cluster a narrow peak is left, and without the first what is 10 wide
    rows = [[(300, 1000), (310, 1000)], [(500, 1000), (505, 1000)], [(3, 10)]]
    columns = []
    inner = Population.log_marginal_likelihood.fget

    def told(population):
        columns.append(population.grid.columns)
        return inner(population)

    monkeypatch.setattr(Population, "log_marginal_likelihood", property(told))
    solve_nested(*flat(rows), Model()).leave_one_cluster_out_lpd  # noqa: B018
    assert max(columns) <= 44  # 256 where the grid also held what is left without one more
