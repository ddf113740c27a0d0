"""Run benchmarks, print them as a table, save them as JSON with the machine and the versions."""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

from tests.benchmarks.call_cases import kept_programs
from tests.benchmarks.cases import CASES
from tests.benchmarks.measure import measure

PACKAGES = ("jax", "jaxlib", "numpy", "optax", "optimistix", "scikit-learn", "scipy", "torch")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"cases to run, all by default: {', '.join(CASES)}")
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds: that everything runs, not how fast")
    parser.add_argument("--output", type=Path, default=Path(".benchmarks.json"), help="where to save the figures")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(CASES)
    if unknown:
        parser.error(f"no case named {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")

    about = {"date": datetime.date.today().isoformat(), "quick": arguments.quick, "machine": machine(), "versions": versions()}
    print(f"{about['machine']}; " + ", ".join(f"{name} {version}" for name, version in about["versions"].items()), flush=True)
    print(
        "\n| case | against | first call | later calls | peer's time / ours | at least (aim) |\n|---|---|---|---|---|---|",
        flush=True,
    )
    results = []
    for name in arguments.names or CASES:
        shutil.rmtree(kept_programs(os.getpid()), ignore_errors=True)
        results.append(measure(CASES[name], arguments.quick))
        shutil.rmtree(kept_programs(os.getpid()), ignore_errors=True)
        print("\n".join(rows(results[-1], arguments.quick)), flush=True)
        arguments.output.write_text(json.dumps({**about, "cases": results}, indent=1))


def rows(result: dict[str, Any], quick: bool) -> list[str]:
    """The lines of the table for one case: each contender's times, and beside a peer's the ratio that counts."""
    lines = []
    bars = {bar["peer"]: [other for other in result["bars"] if other["peer"] == bar["peer"]] for bar in result["bars"]}
    for index, (name, times) in enumerate(result["contenders"].items()):
        held = bars.get(name, [])
        ratios = "; ".join(f"{plain(bar['ratio'])}{'' if bar['call'] == 'later' else ' (' + bar['call'] + ')'}" for bar in held)
        limits = "; ".join(plain(bar["at_least"]) + (f" ({plain(bar['aim'])})" if bar["aim"] else "") for bar in held)
        misses = "" if quick or all(bar["holds"] for bar in held) else " (not reached)"
        title = result["title"] if index == 0 else ""
        lines.append(
            f"| {title} | {name} | {duration(times['first'])} | {duration(times['later'])} | {ratios} | {limits}{misses} |"
        )
    return lines


def plain(number: float) -> str:
    """A number to three digits, without an exponent."""
    return f"{number:.3g}" if number < 999.5 else f"{number:.0f}"


def duration(seconds: float) -> str:
    """A time with its unit, to three digits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def machine() -> str:
    """The processor, how many of its cores there are, and the system."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def versions() -> dict[str, str]:
    """The versions of what takes part, as far as it is installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
