"""Random numbers by name: every random step of a run has a seed of its own.

A seed that depends on a name instead of on an order stays the same when a step is added before it.
"""

from zlib import crc32

import numpy as np

from dfsp.errors import DfspError


def seed_for(seed: int, name: str) -> np.random.SeedSequence:
    """Return the seed of one named random step.

    Parameters
    ----------
    seed : int
        The run's seed, 0 or more.
    name : str
        What the random numbers are for.

    Raises
    ------
    DfspError
        `seed` is not a whole number of 0 or more.
    """
    check_seed(seed)
    return np.random.SeedSequence([int(seed), crc32(name.encode())])


def check_seed(seed: int) -> None:
    """Refuse what is no seed.

    Raises
    ------
    DfspError
        `seed` is not a whole number of 0 or more.
    """
    whole = isinstance(seed, (int, np.integer)) and not isinstance(seed, bool)
    if not whole or seed < 0:
        raise DfspError(f"seed = {seed!r}; give a whole number of 0 or more")


def generator(seed: int, name: str) -> np.random.Generator:
    """Return NumPy's generator for one named random step; see `seed_for`."""
    return np.random.default_rng(seed_for(seed, name))


def integer(seed: int, name: str) -> int:
    """Return a 32-bit seed for a library that takes a number; see `seed_for`."""
    return int(seed_for(seed, name).generate_state(1)[0])
