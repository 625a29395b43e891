"""A slow reference for rows in clusters: plain sums that share no code with the package.

Effects of both levels are integrated in z by trapezoidal sums, x = mu + tau z and theta = x + omega
z; mu by another; sigma and phi, tau = sigma sin(phi) and omega = sigma cos(phi), at Gauss-Legendre
nodes.
"""

from math import comb

import numpy as np
from numpy.polynomial import legendre
from scipy import interpolate, stats
from scipy.special import expit


def gauss(low, high, number):
    nodes, weights = np.polynomial.legendre.leggauss(number)
    half = (high - low) / 2
    return low + half * (nodes + 1), half * weights


def normal_sum(spacing, reach=7.0):
    z = np.arange(-reach, reach + spacing / 2, spacing)
    return z, stats.norm.pdf(z) * spacing


def posterior(rows, *, mu, sigma, prior, phis=22, spacings=(0.35, 0.4), prior_sd=2.0):
    """Return a dict of reference values.

    `rows` holds for each cluster its (events, total); `mu` is an equidistant grid; `sigma` are nodes
    and weights, `prior` is the log density of sigma.
    """
    (outer, outer_weight), (inner, inner_weight) = (normal_sum(step) for step in spacings)
    sigmas, sigma_weights = sigma
    phi, phi_weight = gauss(0, np.pi / 2, phis)
    phi_weight = phi_weight * np.sin(2 * phi)
    shape = len(sigmas), len(phi), len(mu)
    joint = np.empty((len(rows), *shape))  # likelihood by cluster
    rates = [np.empty((len(cluster), *shape)) for cluster in rows]
    new_rows = np.empty_like(joint)  # rate of one more row of each cluster
    prior_mu = stats.norm.pdf(mu, 0, prior_sd) * (mu[1] - mu[0])
    first = np.empty((len(sigmas), len(mu)))
    most = max(n for cluster in rows for _, n in cluster)
    for i, scale in enumerate(sigmas):
        for k, angle in enumerate(phi):
            x = mu[:, None] + scale * np.sin(angle) * outer
            theta = x[..., None] + scale * np.cos(angle) * inner
            p, q = expit(theta), expit(-theta)
            powers = [(np.ones_like(p), np.ones_like(p))]
            for _ in range(most):
                powers.append((powers[-1][0] * p, powers[-1][1] * q))
            for c, cluster in enumerate(rows):
                own = []
                for r, n in cluster:
                    f = comb(n, r) * powers[r][0] * powers[n - r][1]
                    own.append((f @ inner_weight, (f * p) @ inner_weight))
                product = np.prod([f for f, _ in own], axis=0)
                joint[c, i, k] = product @ outer_weight
                new_rows[c, i, k] = (product * (p @ inner_weight)) @ outer_weight / joint[c, i, k]
                for j, (f, fp) in enumerate(own):
                    rates[c][j, i, k] = (product / f * fp) @ outer_weight / joint[c, i, k]
        z, weight = normal_sum(0.1)
        first[i] = expit(mu[:, None] + scale * z) @ weight
    prior_mass = np.exp(prior(sigmas)) * sigma_weights
    whole = prior_mass[:, None, None] * phi_weight[:, None] * prior_mu
    weight = np.prod(joint, axis=0) * whole
    total = weight.sum()
    weight /= total
    by_sigma, by_phi, by_mu = weight.sum((1, 2)), weight.sum((0, 2)), weight.sum((0, 1))
    pair = weight.sum(2)
    tau = np.outer(sigmas, np.sin(phi))
    omega = np.outer(sigmas, np.cos(phi))

    # A narrow normal's distribution function is a step between points of mu.
    fine = np.linspace(mu[0], mu[-1], 4001)
    fine_weight = interpolate.make_interp_spline(mu, weight.sum(1), k=7, axis=1)(fine)
    fine_weight *= (fine[1] - fine[0]) / (mu[1] - mu[0])

    def new_cdf(at):
        return np.sum(fine_weight * stats.norm.cdf((at - fine) / sigmas[:, None]))

    return {
        "log_marginal_likelihood": np.log(total),
        "mu": by_mu @ mu,
        "sigma": by_sigma @ sigmas,
        "rho": by_phi @ np.sin(phi) ** 2,
        "tau": np.sum(pair * tau),
        "omega": np.sum(pair * omega),
        "tau_sd": np.sqrt(np.sum(pair * tau**2) - np.sum(pair * tau) ** 2),
        "typical_rate": by_mu @ expit(mu),
        "mean_rate": np.sum(weight.sum(1) * first),
        "mu_cdf": interpolate.make_interp_spline(mu, by_mu / (mu[1] - mu[0]), k=7).antiderivative(),
        "rho_cdf": lambda rho: _below(by_phi / gauss(0, np.pi / 2, phis)[1], rho),
        "new_cdf": new_cdf,
        "rates": [np.sum(weight * row) for cluster in rates for row in cluster],
        "new_rows": [np.sum(weight * each) for each in new_rows],
        "left_out": [-np.log(np.sum(weight / each)) for each in joint],
    }


def _below(density, rho):
    """P(rho' < rho), the density of phi being the polynomial through its values at the nodes."""
    nodes, _ = np.polynomial.legendre.leggauss(len(density))
    polynomial = legendre.legint(legendre.legfit(nodes, density, len(density) - 1), lbnd=-1)
    at = 4 / np.pi * np.arcsin(np.sqrt(rho)) - 1
    return legendre.legval(at, polynomial) * np.pi / 4
