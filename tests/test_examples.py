"""Every name that a user calls shows how, in an example of its docstring.

`make test` runs the examples; those that take long are skipped there, and run here.
"""

import doctest
import inspect
from functools import wraps
from types import ModuleType

import pytest

import dfsp

TAKE_LONG = {
    "Fit.pymc_model": "PyMC",
    "Fit.new_rows": "clusters take seconds",
    "ordinal.Cumulative": "NUTS",
    "ordinal.fit": "NUTS",
    "ordinal.proportional_odds": "NUTS",
    "plots.agreement": "NUTS",
    "plots.energy": "NUTS",
    "plots.ranks": "NUTS",
    "review.Claims": "fits of each claim, set and change",
    "review.compare_claims": "fits of each claim, set and change",
}
"""Why the examples of some names are skipped."""

CHAPTERS = {
    name: chapter for name in dfsp.__all__ if isinstance(chapter := getattr(dfsp, name), ModuleType)
}
NAMES = [name for name in dfsp.__all__ if name not in CHAPTERS] + [
    f"{name}.{each}" for name, chapter in CHAPTERS.items() for each in chapter.__all__
]


def named(path):
    found = dfsp
    for name in path.split("."):
        found = getattr(found, name)
    return found


def examples(path):
    return doctest.DocTestParser().get_doctest(
        inspect.cleandoc(named(path).__doc__ or ""), {}, path, None, 0
    )


@pytest.mark.parametrize("path", [name for name in NAMES if callable(named(name))])
def test_every_name_has_an_example_that_shows_something(path):
    shown = [each for each in examples(path).examples if each.want]
    assert shown, f"{path} has no example with a result"
    skipped = all(each.options.get(doctest.SKIP) for each in shown)
    assert skipped == (path in TAKE_LONG), path


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_shows_its_own_names(name):
    shown = dir(CHAPTERS[name])
    assert shown == sorted(CHAPTERS[name].__all__)
    assert {"pd", "np", "DfspError", "Table", "table_of"}.isdisjoint(shown)


def test_the_face_shows_its_own_names():
    assert dir(dfsp) == sorted([*dfsp.__all__, "__version__"])


def remembered(function):
    """Return a function that does the same work once; what it is given prints as what it is."""
    kept = {}

    @wraps(function)
    def call(*args, **how):
        key = repr((args, how))
        if key not in kept:
            kept[key] = function(*args, **how)
        return kept[key]

    return call


@pytest.fixture(scope="module")
def shared():
    """Several examples begin with the same fit."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((dfsp, "fit"), (dfsp.ordinal, "fit"), (dfsp.review, "compare_claims")):
            patch.setattr(module, name, remembered(getattr(module, name)))
        yield


@pytest.mark.slow
@pytest.mark.parametrize("path", TAKE_LONG)
def test_examples_that_take_long_hold_too(path, shared):
    test = examples(path)
    for each in test.examples:
        each.options.pop(doctest.SKIP, None)
    doctest.DebugRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
