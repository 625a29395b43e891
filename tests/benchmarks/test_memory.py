"""How much memory the largest problems take, each in a process of its own: `make bench`."""

import growth
import pytest

MOST = 1_000  # megabytes


@pytest.mark.parametrize(
    ("case", "size"),
    [("studies of 20 patients", 10_000), ("analyses", 10_450), ("runs in a report", 5_000)],
)
def test_peak(benchmark, case, size):
    found = benchmark.pedantic(growth.measured, (case, size), rounds=1)
    benchmark.extra_info["megabytes"] = found["megabytes"]
    assert found["megabytes"] < MOST
