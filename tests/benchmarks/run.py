"""Time the benchmarks and print a Markdown table: python run.py [REVISION].

With a revision, a clone of it in a temporary folder is timed in the same run, with its own
benchmarks: file by file in turn, so that whatever else the machine does slows both.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNIT = "test_exact"


def timed(checkout: Path, file: Path) -> dict:
    """Return what pytest-benchmark says of a file of benchmarks with a checkout's own package."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "bench.json"
        words = [
            "-q",
            "--benchmark-only",
            "--benchmark-quiet",
            "--benchmark-json",
            str(out),
            "-p",
            "no:cacheprovider",
        ]
        subprocess.run(
            [sys.executable, "-m", "pytest", *words, str(checkout / file)],
            cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)}, check=True,
        )  # fmt: skip
        return json.loads(out.read_text(encoding="utf-8"))


def stats(results: list[dict]) -> dict[str, dict]:
    """Return seconds by benchmark, and by what they are: median, min, ..."""
    return {each["name"]: each["stats"] for part in results for each in part["benchmarks"]}


def table(results: list[dict], base: list[dict], revision: str) -> str:
    """Return the machine and a row a benchmark, with ratios to the exact fit and to the base.

    The fastest rounds are compared with the base's, since other work only ever makes them slower.
    """
    now, then = stats(results), stats(base)
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "pymc", "nutpie"))
    first = results[0]
    processor = first["machine_info"].get("cpu", {}).get("brand_raw", platform.machine())
    titles = ["benchmark", "median", "times the exact fit"]
    titles += ["fastest", f"fastest of {revision}", "ratio"] if revision else []
    lines = [
        f"{first['datetime'][:10]}; {processor}, {os.cpu_count()} cores; load "
        f"{os.getloadavg()[0]:.1f} at the end; Python {platform.python_version()}, {packages}",
        "",
        f"| {' | '.join(titles)} |",
        "|---" + "|---:" * (len(titles) - 1) + "|",
    ]
    for name, seconds in now.items():
        cells = [name.removeprefix("test_").replace("_", " "), shown(seconds["median"])]
        cells.append(ratio(seconds["median"] / now[UNIT]["median"]))
        if name in then:
            new, old = seconds["min"], then[name]["min"]
            cells += [shown(new), shown(old), ratio(new / old)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def shown(seconds: float) -> str:
    """Return a time with a unit that suits it."""
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def ratio(value: float) -> str:
    """Return a ratio to two digits or as a whole number."""
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def main(revision: str) -> None:
    """Run the benchmarks, beside those of a revision if one is given."""
    results, base = [], []
    with tempfile.TemporaryDirectory() as folder:
        older = Path(folder) / "dfsp"
        if revision:
            words = ["git", "rev-parse", "--verify", f"{revision}^{{commit}}"]
            commit = subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
            subprocess.run(["git", "clone", "-q", "--no-checkout", ROOT, older], check=True)
            words = ["git", "checkout", "-q", "--detach", commit.stdout.strip()]
            subprocess.run(words, cwd=older, check=True)
        for path in sorted((ROOT / "tests/benchmarks").glob("test_*.py")):
            file = path.relative_to(ROOT)
            if revision and (older / file).is_file():
                try:
                    base.append(timed(older, file))
                except subprocess.CalledProcessError:
                    print(f"{file} of {revision} fails with these packages", file=sys.stderr)
            results.append(timed(ROOT, file))
    print(table(results, base, revision))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
