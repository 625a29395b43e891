"""How the posterior is computed: integrated exactly, or sampled."""

VERSION = 2
"""Raised by hand when a change moves a number that `dfsp.analyses.calibration.store` keeps."""
