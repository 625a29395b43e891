"""A family of effects and a prior of tau that are defined here alone work everywhere."""

import json
from dataclasses import dataclass

import jsonschema
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import stats
from scipy.special import comb, expit, gammaincinv

import dfsp
from dfsp.cli import cli
from dfsp.engine.predictive import prior_of
from dfsp.explorer import before
from dfsp.model.effects import FAMILIES, Effects, NormalEffects
from dfsp.model.priors import TAU_FAMILIES, Prior
from dfsp.schemas import schema

EVENTS = np.array([2, 0, 4, 9, 7, 11])
TOTAL = np.array([15, 6, 5, 13, 10, 24])
SCALE = 0.3


def laplace():
    """Define effects: theta = mu + tau z, z of density exp(-|z|) / 2."""

    @dataclass(frozen=True)
    class LaplaceEffects(Effects):
        family = "own-laplace"
        reach = 35.0

        def components(self, mu, tau):
            # z is N(0, 2 v) with v ~ Exponential(1): a trapezoidal sum over log(v)
            # (the rule's error falls as exp(-pi^2 / step); below -16 there is 1e-7 of the weight)
            y = np.arange(-16, 3.9, 0.6)
            weight = np.exp(y - np.exp(y))
            log_weight = np.log(weight / weight.sum())
            return [
                (w, mu, s * tau) for w, s in zip(log_weight, np.sqrt(2 * np.exp(y)), strict=True)
            ]

        def log_density(self, theta, mu, tau):
            return -np.abs(theta - mu) / tau - np.log(2 * tau)

        def cdf(self, theta, mu, tau):
            return stats.laplace.cdf((theta - mu) / tau)

        def draw(self, mu, tau, rng):
            return rng.laplace(mu, tau)

        def pymc_standard(self, pm):
            return pm.Laplace("z", 0, 1, dims="study")

    return LaplaceEffects


def hump():
    """Define a prior: tau ~ Gamma(2, scale)."""

    @dataclass(frozen=True)
    class Hump(Prior):
        family = "own-hump"
        scale: float = 0.5

        def pymc(self, pm, name):
            return pm.Gamma(name, alpha=2, beta=1 / self.scale)

        def _log_density(self, x):
            return np.log(x) - x / self.scale - 2 * np.log(self.scale)

        def _quantile(self, q):
            return self.scale * gammaincinv(2, q)

    return Hump


@pytest.fixture(scope="module")
def own():
    """The two classes; forgotten afterwards, since other tests list what is known."""
    before_ = dict(FAMILIES), dict(TAU_FAMILIES)
    yield laplace(), hump()
    for known, kept in zip((FAMILIES, TAU_FAMILIES), before_, strict=True):
        known.clear()
        known.update(kept)


@pytest.fixture(scope="module")
def model(own):
    effects, prior = own
    return dfsp.Model(tau=prior(SCALE), effects=effects())


@pytest.fixture(scope="module")
def table():
    rows = {"study": list("abcdef"), "events": EVENTS, "total": TOTAL}
    return dfsp.Counts.of(pd.DataFrame(rows))


@pytest.fixture(scope="module")
def both(table, model):
    return dfsp.fit(table, model, engine="both", draws=2000)


@pytest.fixture(scope="module")
def dense():
    """Sums over mu, tau and each effect that share no code with the package.

    They are within 1e-9 of those with twice the nodes in each direction.
    """
    u, weight = np.polynomial.legendre.leggauss(40)
    tau, weight = 6 * (u + 1) ** 2 / 4, weight * 6 * (u + 1) / 2  # of (0, 6), dense near 0
    weight *= stats.gamma(2, scale=SCALE).pdf(tau)
    mu = np.linspace(-9, 9, 91)
    # Both sides of z, whose density has a kink, in panels of Gauss-Legendre nodes
    x, w = np.polynomial.legendre.leggauss(8)
    edges = np.linspace(0, 32, 33)
    z = (edges[:-1, None] + (x + 1) / 2 * np.diff(edges)[:, None]).ravel()
    phi = np.exp(-z) / 2 * np.tile(w / 2, len(edges) - 1)
    z, phi = np.concatenate([-z, z]), np.concatenate([phi, phi])
    joint = np.empty((len(tau), len(mu)))
    first = np.empty_like(joint)
    own = np.empty((len(EVENTS), *joint.shape))
    for row, t in enumerate(tau):
        theta = mu[:, None] + t * z
        p, log_no = expit(theta), -np.logaddexp(0, theta)
        first[row] = p @ phi
        likelihood = np.stack(
            [
                comb(n, r) * np.exp(r * theta + n * log_no)
                for r, n in zip(EVENTS, TOTAL, strict=True)
            ]
        )
        total = likelihood @ phi
        own[:, row] = (likelihood * p) @ phi / total
        joint[row] = total.prod(0) * stats.norm.pdf(mu, 0, 2) * (mu[1] - mu[0]) * weight[row]
    evidence = joint.sum()
    joint /= evidence
    return {
        "log_marginal_likelihood": np.log(evidence),
        "mu": joint.sum(0) @ mu,
        "tau": joint.sum(1) @ tau,
        "typical_rate": joint.sum(0) @ expit(mu),
        "mean_rate": (joint * first).sum(),
        "studies": (joint * own).sum((1, 2)),
    }


def test_the_exact_engine_against_dense_sums(both, dense):
    for name in ("mu", "tau", "typical_rate", "mean_rate"):
        assert both.summary.loc[name, "mean"] == pytest.approx(dense[name], abs=1e-5), name
    assert both.summary.loc["new_study_rate", "mean"] == pytest.approx(dense["mean_rate"], abs=1e-5)
    # The kink of the density of effects is smoothed where tau is small: 2.2e-5 off at the most
    assert both.studies["mean"].to_numpy() == pytest.approx(dense["studies"], abs=5e-5)
    assert both.exact.log_marginal_likelihood == pytest.approx(
        dense["log_marginal_likelihood"], abs=1e-5
    )


def test_both_engines_agree(both):
    assert [str(check) for check in both.checks if not check.passed] == []
    assert [c.name for c in both.checks if c.name.startswith("agreement")] == [
        *(f"agreement of {name}" for name in Effects.quantities), "agreement of interval ends",
    ]  # fmt: skip
    assert "own-laplace effects" in repr(both)


def test_words_and_pictures(both, model):
    assert "The scale of the differences between studies is 0." in both.heterogeneity().describe()
    assert list(both.leave_one_out().columns)[1:] == ["typical_rate", "low", "high", "tau"]
    assert dfsp.plots.forest(both) and dfsp.plots.prior(both)
    quick, exact = before(model).new_study_rate, prior_of(model).new_study_rate
    for rate in (0.1, 0.5, 0.8):
        assert quick.prob_above(rate) == pytest.approx(exact.prob_above(rate), abs=1e-3)


@pytest.fixture(scope="module")
def drawn(both):
    return both.draws(20_000)["posterior"]


def test_two_new_studies_apart(both, drawn):
    """By simulation from independent draws of the posterior, ten pairs of studies for each."""
    mu, tau = (np.repeat(drawn[name].to_numpy().ravel(), 10) for name in ("mu", "tau"))
    rng = np.random.default_rng(3)
    first, second = (expit(rng.laplace(mu, tau)) for _ in range(2))
    share = np.mean(np.abs(first - second) > 0.2)
    assert both.heterogeneity(0.2).probability == pytest.approx(share, abs=0.008)


def test_draws_given_counts(both, drawn):
    mean = drawn["rate"].mean(("chain", "draw"))
    assert mean.to_numpy() == pytest.approx(both.studies["mean"].to_numpy(), abs=0.004)


def test_no_sample_size_is_claimed(both):
    """What a family does not say of its tails is not taken from normal effects."""
    found = dfsp.planning.effective_sample_size(both)
    assert (found.value, found.says) == (None, "not computed for own-laplace effects")
    assert both.model.tau.tail_sd == np.inf


def test_what_needs_normal_effects_refuses(table, model):
    with pytest.raises(dfsp.DfspError, match="own-laplace effects: a meta-regression has"):
        dfsp.regression.regress(table, "dose_mg", model=model)


def test_many_analyses(table, own, both):
    effects, prior = own
    result = dfsp.multiverse.fit(
        table,
        effects={"normal": NormalEffects(), "own-laplace": effects()},
        taus={"own-hump": prior(SCALE), "half-normal": dfsp.HalfNormal(1)},
        mus={"usual": dfsp.Normal(0, 2)},
    )
    assert len(result.table) == 4
    row = result.table.query("effects == 'own-laplace' and tau == 'own-hump'").iloc[0]
    for column, name in (("typical", "typical_rate"), ("new", "new_study_rate")):
        expected = both.summary.loc[name, ["q50", "q2.5", "q97.5"]].to_numpy(float)
        found = row[[column, f"{column}_low", f"{column}_high"]].to_numpy(float)
        assert found == pytest.approx(expected, abs=1e-4)
    assert row["mean"] == pytest.approx(both.summary.loc["mean_rate", "mean"], abs=1e-5)


def test_an_average(table, own, both):
    named = {"normal": NormalEffects(), "own": own[0]()}
    fits = dfsp.sensitivity.fit_with_effects(table, dfsp.Model(tau=both.model.tau), named)
    assert fits["own"].summary.equals(both.summary)
    assert dfsp.sensitivity.average(fits).models["probability"].sum() == pytest.approx(1)


def test_the_command_line(own, table, tmp_path, both):
    file = tmp_path / "mine.csv"
    table.table.to_csv(file, index=False)
    words = [
        "--effects",
        "own-laplace",
        "--tau-family",
        "own-hump",
        "--tau-scale",
        str(SCALE),
        "--json",
    ]
    done = CliRunner().invoke(cli, ["fit", str(file), *words])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    jsonschema.validate(found, schema("fit"))
    assert found["model"]["effects"] == "own-laplace"
    assert found["model"]["tau"] == {"family": "own-hump", "scale": SCALE}
    assert found["mean_rate"]["mean"] == both.summary.loc["mean_rate", "mean"]
    for option, known in (("--effects", FAMILIES), ("--tau-family", TAU_FAMILIES)):
        done = CliRunner().invoke(cli, ["fit", str(file), option, "magic"])
        assert done.exit_code == 2
        assert all(repr(name) in done.output for name in known)
    text = " ".join(CliRunner().invoke(cli, ["fit", "--help"]).output.split())
    assert "own-laplace]" in text and "own-hump]" in text


def test_messages(own):
    with pytest.raises(dfsp.DfspError, match=r"use one of normal, .*, own-laplace$"):
        dfsp.Model(effects="magic")
    with pytest.raises(
        dfsp.DfspError, match="own-laplace effects have no df; they take no parameter"
    ):
        dfsp.model.effects.effects_of("own-laplace", df=4)
    with pytest.raises(dfsp.DfspError, match=r"use one of half-normal, .*, own-hump$"):
        dfsp.tau_prior("magic")
    with pytest.raises(dfsp.DfspError, match=r"give one of HalfNormal, .*, Hump$"):
        dfsp.Model(tau=1)
    with pytest.raises(dfsp.DfspError, match="'own-hump' has no df; it takes scale"):
        dfsp.tau_prior("own-hump", df=4)
    with pytest.raises(dfsp.DfspError, match="Hump: scale = -1; give a number above 0"):
        own[1](-1)


def test_a_class_defined_again_replaces_itself_and_nothing_else(own):
    again = laplace(), hump()
    assert FAMILIES["own-laplace"] is again[0] is not own[0]
    assert TAU_FAMILIES["own-hump"] is again[1] is not own[1]
    with pytest.raises(dfsp.DfspError, match="Mine: the name 'normal' is that of NormalEffects"):
        type("Mine", (Effects,), {"family": "normal"})
    with pytest.raises(dfsp.DfspError, match="Mine: the name 'fixed' is that of Fixed"):
        type("Mine", (Prior,), {"family": "fixed"})


def test_what_has_no_variable_is_not_sampled(own, table, monkeypatch):
    effects, prior = own
    monkeypatch.setattr(effects, "pymc_standard", Effects.pymc_standard)
    with pytest.raises(
        dfsp.DfspError, match="own-laplace effects have no PyMC variable: use the exact"
    ):
        dfsp.fit(table, dfsp.Model(effects=effects()), engine="nuts")
    monkeypatch.setattr(prior, "pymc", Prior.pymc)
    with pytest.raises(dfsp.DfspError, match=r"Hump has no PyMC variable: .* to sample tau"):
        dfsp.fit(table, dfsp.Model(tau=prior()), engine="nuts")


def test_a_family_need_not_lie_as_much_above_mu_as_below_it():
    """Expected: E[p] of a mixture of two normals, each summed on a fine grid."""
    known = dict(FAMILIES)

    @dataclass(frozen=True)
    class Lopsided(Effects):
        family = "lopsided"

        def components(self, mu, tau):
            return [(np.log(0.7), mu - 0.5 * tau, 0.6 * tau), (np.log(0.3), mu + 1.5 * tau, tau)]

    try:
        mu, tau = np.array([-2.0, -0.3, 0.4, 3.0]), np.full(4, 0.8)
        z = np.linspace(-12, 12, 4001)
        phi = stats.norm.pdf(z) * (z[1] - z[0])
        expected = sum(
            np.exp(w) * (expit(at[:, None] + sd[:, None] * z) @ phi)
            for w, at, sd in Lopsided().components(mu, tau)
        )
        found = Lopsided().logit_mean_rate(mu, tau)
        assert expit(found) == pytest.approx(expected, abs=1e-8)
    finally:
        FAMILIES.clear()
        FAMILIES.update(known)
