"""How long an update of the explorer takes: `make bench`."""

from itertools import cycle

import pytest

from dfsp.explorer import explorer
from dfsp.model.effects import FAMILIES


@pytest.fixture
def box():
    return explorer()


def test_slider(benchmark, box):
    """A prior not seen before: fit, prior and picture are new; names and axes stay."""
    controls = box.children[0].children[0].children
    slider = next(each for each in controls if each.description == "tau scale")
    scales = cycle(round(0.1 + 0.01 * step, 2) for step in range(200))

    def run():
        slider.value = next(scales)

    benchmark.pedantic(run, rounds=100, warmup_rounds=5)


@pytest.mark.parametrize("effects", list(FAMILIES))
def test_each_family_of_effects(benchmark, box, effects):
    """The slider again, or without a tau a study's box, under each family."""
    left, right = box.children[0].children
    controls = {each.description: each for each in left.children}
    controls["effects"].value = effects
    scales, ticked = cycle(round(0.1 + 0.05 * step, 2) for step in range(40)), right.children[0]

    def run():
        if controls["tau scale"].disabled:
            ticked.value = not ticked.value
        else:
            controls["tau scale"].value = next(scales)

    benchmark.pedantic(run, rounds=20, warmup_rounds=2)


def test_tick_box(benchmark, box):
    """The rows change, so that names and axes are drawn, too."""
    ticked = box.children[0].children[1].children[0]

    def run():
        ticked.value = not ticked.value

    benchmark.pedantic(run, rounds=50, warmup_rounds=5)
