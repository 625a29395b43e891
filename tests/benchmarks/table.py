"""Print the results of `make bench` as a Markdown table: python table.py RESULTS.json."""

import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

BASE = "test_exact"


def table(results: dict) -> str:
    """Return the machine and one row a benchmark, with the ratio to the exact fit of the run."""
    rows = {each["name"]: each["stats"]["median"] for each in results["benchmarks"]}
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "pymc", "nutpie"))
    processor = results["machine_info"].get("cpu", {}).get("brand_raw", platform.machine())
    lines = [
        f"{results['datetime'][:10]}; {processor}, {os.cpu_count()} cores; load "
        f"{os.getloadavg()[0]:.1f} at the end; Python {platform.python_version()}, {packages}",
        "",
        "| benchmark | median | times the exact fit |",
        "|---|---:|---:|",
    ]
    for name, seconds in rows.items():
        words = name.removeprefix("test_").replace("_", " ")
        lines.append(f"| {words} | {shown(seconds)} | {ratio(seconds / rows[BASE])} |")
    return "\n".join(lines)


def shown(seconds: float) -> str:
    """Return a time with a unit that suits it."""
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def ratio(value: float) -> str:
    """Return a ratio to two digits or as a whole number."""
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
