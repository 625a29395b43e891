"""Random numbers by name."""

import numpy as np
import pytest

from dfsp.errors import DfspError
from dfsp.seeds import generator, integer, seed_for


def test_a_named_step_does_not_depend_on_the_steps_before_it():
    alone = generator(1, "prior").normal(size=3)
    generator(1, "posterior").normal(size=5)
    np.testing.assert_array_equal(generator(1, "prior").normal(size=3), alone)


def test_names_and_seeds_separate_the_streams():
    seeds = {integer(seed, name) for seed in range(20) for name in ("prior", "nuts", "new study")}
    assert len(seeds) == 60
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_the_seeds_are_the_same_on_every_machine():
    assert seed_for(1, "prior").entropy == [1, 3853445138]
    assert integer(1, "prior") == 3649103922


@pytest.mark.parametrize("seed", [-1, 1.5, True, "1", None])
def test_a_seed_that_cannot_be_used_is_refused(seed):
    with pytest.raises(DfspError, match=r"seed = .*whole number of 0 or more"):
        generator(seed, "prior")


def test_any_size_of_seed_can_be_used():
    assert integer(np.int64(7), "nuts") == integer(7, "nuts")
    assert integer(10**30, "nuts") != integer(10**30 + 1, "nuts")
