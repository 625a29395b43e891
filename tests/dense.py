"""A slow reference for the exact engine: brute-force sums that share none of its code.

Study effects are integrated in z, theta = mu + tau z, by a trapezoidal sum; mu by another over a
range given by the caller; tau by the nodes and weights that the caller gives.
"""

import numpy as np
from scipy import interpolate, stats
from scipy.special import expit, gammaln, log_expit


def binomials(events, total, theta):
    """Yield the probability of each study's counts at logit rates."""
    log_p, log_q = log_expit(theta), log_expit(-theta)
    for r, n in zip(events, total, strict=True):
        choose = gammaln(n + 1) - gammaln(r + 1) - gammaln(n - r + 1)
        yield np.exp(choose + r * log_p + (n - r) * log_q)


def posterior(events, total, *, mu, tau, tau_density, prior_sd=2.0, z_points=801, z_reach=9.5):
    """Return a dict of reference values.

    `mu` is an equidistant grid; `tau` and `tau_density` are nodes and prior density times
    quadrature weight.
    """
    z = np.linspace(-z_reach, z_reach, z_points)
    phi = stats.norm.pdf(z) * (z[1] - z[0])
    step = mu[1] - mu[0]
    prior = stats.norm.pdf(mu, 0, prior_sd) * step
    log_joint = np.empty((len(tau), len(mu)))
    first = np.empty((len(tau), len(mu)))
    rates = np.empty((len(events), len(tau), len(mu)))
    likelihood = np.empty_like(rates)
    for t, scale in enumerate(tau):
        theta = mu[:, None] + scale * z
        p = expit(theta)
        first[t] = p @ phi
        for i, values in enumerate(binomials(events, total, theta)):
            likelihood[i, t] = values @ phi
            with np.errstate(invalid="ignore", divide="ignore"):
                rates[i, t] = np.nan_to_num(((values * p) @ phi) / likelihood[i, t])
        with np.errstate(divide="ignore"):
            log_joint[t] = np.log(likelihood[:, t]).sum(0) + np.log(prior * tau_density[t])
    top = log_joint.max()
    weight = np.exp(log_joint - top)
    evidence = weight.sum()
    weight /= evidence
    marginal = weight.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        left_out = [-np.log(np.sum(np.where(weight > 0, weight / row, 0))) for row in likelihood]
    return {
        "log_marginal_likelihood": np.log(evidence) + top,
        "mu": marginal @ mu,
        "typical_rate": marginal @ expit(mu),
        "typical_cdf": typical_cdf(mu, marginal),
        "mean_rate": np.sum(weight * first),
        "tau": weight.sum(1) @ tau,
        "rates": np.array([np.sum(weight * row) for row in rates]),
        "left_out": np.array(left_out),
    }


def typical_cdf(mu, marginal):
    """Rates and their distribution function, by integrating a spline of the density of mu."""
    cdf = interpolate.CubicSpline(mu, marginal).antiderivative()
    fine = np.linspace(mu[0], mu[-1], 200_001)
    values = cdf(fine)
    return expit(fine), values / values[-1]


def new_study_cdf(events, total, rate, **options):
    """Return P(new-study rate < rate), from the same sums."""
    z = np.linspace(-8, 8, 241)
    phi = stats.norm.pdf(z) * (z[1] - z[0])
    mu, tau = options["mu"], options["tau"]
    weight = np.empty((len(tau), len(mu)))
    for t, scale in enumerate(tau):
        theta = mu[:, None] + scale * z
        weight[t] = stats.norm.pdf(mu, 0, 2) * options["tau_density"][t]
        for values in binomials(events, total, theta):
            weight[t] *= values @ phi
    cut = np.log(rate / (1 - rate))
    below = stats.norm.cdf((cut - mu) / tau[:, None])
    return np.sum(weight * below) / weight.sum()
