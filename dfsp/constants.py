"""Choices made once for the whole package and passed explicitly to every library call."""

CI_PROB = 0.95
"""Probability of every interval; all intervals are equal-tailed."""

CI_KIND = "eti"

QUANTILES = (0.025, 0.25, 0.5, 0.75, 0.975)
"""Quantiles of every summary; the outer two bound the interval of `CI_PROB`."""

ENDS = (QUANTILES[0], QUANTILES[-1])
MEDIAN_AND_ENDS = (0.5, *ENDS)
"""Probabilities at the ends of that interval."""

STATISTICS = ("mean", "sd", *(f"q{100 * q:g}" for q in QUANTILES))
"""Names of the columns of every summary: mean, sd, q2.5, q25, q50, q75, q97.5."""

CHAINS, TUNE, DRAWS, TARGET_ACCEPT = 4, 1000, 2000, 0.99

SEED = 20190301
"""Default seed; every random number of a run is derived from its seed by name."""
