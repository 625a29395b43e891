"""Rates have the digits that they need, in one unit a page, at any size."""

import re
from dataclasses import replace
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import dfsp
from dfsp.cli import cli
from dfsp.engine.posterior import solve
from dfsp.rates import PERCENT, UNITS, stands_for, unit_of
from dfsp.runs.record import unit_of_runs
from dfsp.runs.report import _rate
from dfsp.text import table_of

# Births and patients with Duchenne dystrophy of 26 screening studies and registers (Crisafulli et
# al. 2020, doi:10.1186/s13023-020-01430-8), the counts alone.
BIRTHS = [
    (47, 177413), (66, 234396), (19, 91157), (2, 10000), (99, 532302), (105, 371698), (73, 301283),
    (110, 420374), (12, 71091), (156, 721163), (48, 176600), (76, 292637), (50, 261254), (5, 18000),
    (16, 72963), (20, 77654), (397, 1673791), (9, 34219), (29, 210324), (5, 30014), (21, 111703),
    (11, 62188), (51, 281214), (40, 190521), (6, 37649), (72, 369780),
]  # fmt: skip
SIZES = {
    "9 of three million": [(2, 1_000_000), (3, 1_000_000), (4, 1_000_000)],
    "none of 200": [(0, 200)],
    "births": BIRTHS,
    "nearly all": [(198, 200), (499, 500), (300, 300)],
    "all but 9 of three million": [(999_998, 1_000_000), (999_997, 1_000_000), (999_996, 10**6)],
    "half a percent": [(5, 1000), (7, 1400)],
    "ordinary": [(15, 22), (8, 16), (9, 25)],
}


def rows_of(pairs):
    return [(f"S{i}", *pair) for i, pair in enumerate(pairs)]


def page(pairs, *options):
    frame = pd.DataFrame(rows_of(pairs), columns=["study", "events", "total"])
    done = CliRunner().invoke(cli, ["fit", "-", *options], input=frame.to_csv(index=False))
    assert done.exit_code == 0, done.output
    return done.output


def numbers_in(text):
    return [float(found.replace(",", "")) for found in re.findall(r"\d[\d,]*(?:\.\d+)?", text)]


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("unit", UNITS)
def test_the_headline_can_be_read_back(make, name, unit):
    """Within 5 % of what is missing from 0 or from 1: two digits of it are there."""
    fit = dfsp.fit(replace(make(rows_of(SIZES[name])), unit=unit))
    said = numbers_in(fit.describe().split(": ", 1)[1].replace("95% interval", ""))
    whole = UNITS[unit].whole
    rows = fit.summary.T
    mean = rows["mean_rate"]
    wanted = [
        *rows["typical_rate"][["q50", "q2.5", "q97.5"]],
        *mean[[stands_for(mean), "q2.5", "q97.5"]],
        *rows["new_study_rate"][["q2.5", "q97.5"]],
    ]
    found = [each for each in said if each != whole or whole == 100]
    assert len(found) == len(wanted), fit.describe()
    for shown, rate in zip(found, wanted, strict=True):
        near = min(rate, 1 - rate)
        assert abs(shown / whole - rate) < 0.05 * near + 1e-15, (shown, rate)


def test_ordinary_rates_have_one_decimal_and_narrow_ones_more():
    assert PERCENT.numbers(0.628, 0.4786, 0.7873) == ["62.8", "47.9", "78.7"]
    # Two significant digits of half the width: 0.105 points, and 0.0105
    assert PERCENT.numbers(0.1234, 0.1223, 0.1244) == ["12.34", "12.23", "12.44"]
    assert PERCENT.numbers(0.1234, 0.12335, 0.12356) == ["12.340", "12.335", "12.356"]


def test_neither_0_nor_1_is_shown_unless_it_is():
    rng = np.random.default_rng(20261128)
    for unit in UNITS.values():
        for rate in [*10 ** rng.uniform(-12, 0, 200), 0.9995, 1e-300]:
            for each in (rate, 1 - rate):
                if 0 < each < 1:
                    said = unit.number(each).replace(",", "").lstrip("<>")
                    assert 0 < float(said) < unit.whole, (each, unit)
        assert float(unit.number(0)) == 0
        assert float(unit.number(1).replace(",", "")) == unit.whole
    assert PERCENT.number(float("nan")) == "-"


def test_quantiles_at_the_ends_of_double_precision_are_bounds():
    """Of studies of 1 of 1 and 0 of 1 the logit is quite likely beyond 36, where 1 - p is 1e-16."""
    effects = dfsp.BetaBinomialShapes(0.05)
    for events, said in ([1], ">99.999999"), ([0], "<0.000001"):
        rate = solve(events, [1], dfsp.Model(effects=effects)).new_study_rate.quantile(
            [0.025, 0.975]
        )
        assert PERCENT.number(float(rate[events[0]])) == said
    assert PERCENT.number(10 / 10) == "100.0"


def test_what_rounds_up_keeps_its_digits():
    assert [PERCENT.number(rate) for rate in (0.000499, 0.000996, 0.00996, 0.9995)] == [
        "0.050", "0.10", "1.0", "99.950",
    ]  # fmt: skip


def test_the_unit_follows_the_size_of_the_rates(make):
    chosen = {name: make(rows_of(pairs)).unit for name, pairs in SIZES.items()}
    assert chosen == {
        "9 of three million": "per-1000000", "none of 200": "percent", "births": "per-100000",
        "nearly all": "percent", "all but 9 of three million": "percent",
        "half a percent": "percent", "ordinary": "percent",
    }  # fmt: skip
    assert unit_of(0.002).name == "per-1000"
    with pytest.raises(dfsp.DfspError, match="unit 'dozen' is not known; use one of percent"):
        replace(make([("A", 1, 2)]), unit="dozen")


def test_counts_made_from_counts_keep_their_unit(make):
    counts = make([("A", 1, 10_000), ("B", 0, 100), ("C", 8, 90_000)])
    assert counts.unit == "per-100000"
    assert dfsp.without(counts, ["A", "C"]).unit == "per-100000"


def test_births_are_said_per_100_000():
    """Medians and intervals by quadrature of others' making: 2.230e-4 [2.044e-4, 2.410e-4]."""
    says = page(BIRTHS)
    assert "rate of a typical study is 22.3 per 100,000 (95% interval 20.4 to 24.1)" in says
    row = next(line for line in says.split("\n") if line.startswith("typical rate"))
    assert numbers_in(row)[2:] == [20.4, 22.3, 24.1]
    assert "%" not in says.replace("95% interval", "")


@pytest.mark.parametrize("name", SIZES)
def test_a_page_has_one_unit_and_the_reader_may_choose_it(name):
    for unit in UNITS.values():
        says = page(SIZES[name], "--unit", unit.name)
        assert says.count(f"rates {'in ' * (unit is PERCENT)}{unit.sign}") == 2
        others = {other.sign for other in UNITS.values()} - {unit.sign}
        # A larger unit's sign begins with that of a smaller one.
        left = says.replace(unit.sign, "").replace("95% interval", "")
        assert not any(other in left for other in others), says
    refused = CliRunner().invoke(cli, ["fit", "-", "--unit", "dozen"], input="")
    assert refused.exit_code == 2


def test_the_json_has_raw_rates_whatever_the_unit():
    said = [page(BIRTHS, "--json", "--unit", unit) for unit in ("percent", "per-1000")]
    assert said[0] == said[1]
    assert pd.read_json(StringIO(said[0]), typ="series")["typical_rate"]["q50"] < 3e-4


def test_the_median_stands_for_a_skewed_posterior(make):
    """Posterior mean 0.0224 of the mean rate, whose median is 0.00226; none of 200 has 0.0269."""
    few = dfsp.fit(replace(make(rows_of(SIZES["9 of three million"])), unit="percent"))
    assert "mean over studies (median of a skewed posterior) 0.23 %" in few.describe()
    assert "true rate of a new study has median 0.0079 %" in few.new_study().describe()
    none = dfsp.fit(make(rows_of(SIZES["none of 200"])))
    assert "mean over studies (median of a skewed posterior) 2.7 %" in none.describe()
    ordinary = dfsp.fit(make(rows_of(SIZES["ordinary"])))
    mean = PERCENT.number(ordinary.summary.loc["mean_rate", "mean"])
    assert f"the mean over studies {mean} %" in ordinary.describe()


@pytest.mark.parametrize("mean", [0.02, 0.5, 0.98])
def test_a_mean_of_twice_the_odds_of_the_median_is_no_summary(mean):
    for times, stands in ((1.9, "mean"), (2.1, "q50"), (1 / 1.9, "mean"), (1 / 2.1, "q50")):
        odds = mean / (1 - mean) / times
        wide = {"q25": 0.0, "q75": 1.0}
        assert stands_for({"mean": mean, "q50": odds / (1 + odds), **wide}) == stands


@pytest.mark.parametrize("flipped", [False, True])
def test_a_mean_outside_the_middle_half_is_no_summary(flipped):
    """Under Normal(0, 20) the mean of the mean rate is 5.2 per million, its upper quartile 4.5."""
    counts = [2, 3, 4], [1_000_000] * 3
    if flipped:
        counts = [n - r for r, n in zip(*counts, strict=True)], counts[1]
    columns = dict(zip(("events", "total"), counts, strict=True))
    fit = dfsp.fit(
        pd.DataFrame({"study": list("ABC"), **columns}), dfsp.Model(mu=dfsp.Normal(0, 20))
    )
    rate = fit.summary.loc["mean_rate"]
    assert not rate["q25"] <= rate["mean"] <= rate["q75"]
    assert stands_for(rate) == "q50"
    assert "mean over studies (median of a skewed posterior)" in fit.describe()


def test_tables_tell_rates_from_0_and_1():
    table = table_of({"x": [2.23e-4, 0.9999, 0.25, -0.0004, 3.2e-9, 0.0]}, digits=3, rates=True)
    assert repr(table).split()[1:] == [
        "0.00022", "0.99990", "0.250", "-0.00040", "3.2e-09", "0.000",
    ]  # fmt: skip
    assert table.head(1).rates and table.head(1)["x"][0] == 2.23e-4


def test_the_tables_of_rare_rates_show_them(make):
    fit = dfsp.fit(make(rows_of(BIRTHS)))
    zero = re.compile(r"(^|\s)[01]\.0+(\s|$)")
    assert not zero.search(repr(fit.summary)) and not zero.search(repr(fit.counts.pooled()))
    assert not zero.search(repr(fit.studies)) and not zero.search(repr(fit.leave_one_out()))


def test_the_index_of_a_report_has_one_unit(make):
    births, ordinary = (dfsp.fit(make(rows_of(SIZES[name]))) for name in ("births", "ordinary"))
    runs = [{"numbers": fit.as_dict(), "unit": fit.counts.unit} for fit in (births, ordinary)]
    assert unit_of_runs(runs[:1]).name == "per-100000" and unit_of_runs(runs) is PERCENT
    assert _rate(runs[0], "typical_rate", births.unit) == "22.3 per 100,000 (20.4 to 24.1)"
    assert _rate(runs[0], "typical_rate", PERCENT) == "0.0223 % (0.0204 to 0.0241 %)"
    assert unit_of_runs([{"numbers": {}, "unit": None}]) is PERCENT


def test_rates_that_differ_by_rounding_alone_have_no_more_digits_for_it():
    """Analyses of ten studies, half of them 0 of 20 and half 20 of 20: one half, to 1e-9."""
    assert PERCENT.numbers(0.499999999996, 0.5000000000004) == ["50.0", "50.0"]
    assert PERCENT.numbers(0.49999, 0.50001) == ["49.9990", "50.0010"]
    # A millionth of a rare rate is as little as one of a half; a tenth of it is not.
    assert UNITS["per-1000000"].numbers(3e-6, 3.0000001e-6) == ["3.0", "3.0"]
    assert UNITS["per-1000000"].numbers(3e-6, 3.3e-6) == ["3.00", "3.30"]


@pytest.mark.parametrize(
    ("difference", "said"),
    # 99.99903 and 99.971 % are 0.03 points apart, which is not none
    [(-0.00028, "-0.03 points"), (0.0088, "+0.9 points"), (0.0, "+0.0 points")],
)
def test_a_difference_that_is_not_none_is_not_shown_as_none(difference, said):
    assert PERCENT.apart(difference, sign=True) == said
