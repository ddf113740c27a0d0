"""Measure a case: its contenders turn by turn, each in its own process, the first call told apart from the later ones."""

import time
from statistics import median
from typing import Any

from tests.benchmarks.case import Bar, Case
from tests.benchmarks.worker import Here, Worker, names

SECONDS = 40.0  # for the later calls of a case
TURN = 0.25  # seconds that a contender calls before the next one has its turn


def measure(case: Case, quick: bool) -> dict[str, Any]:
    """The medians of a case's contenders in seconds, and the ratios it is held against."""
    contending = names(case.name, quick)
    firsts: dict[str, list[float]] = {name: [] for name in contending}
    laters: dict[str, list[float]] = {name: [] for name in contending}
    peaks: dict[str, float] = {}
    for _ in range(1 if quick else 3):
        workers = {name: Here(case.name, name) if quick else Worker(case.name, name, quick) for name in contending}
        for name, worker in workers.items():
            seconds, things, _ = worker.run()
            firsts[name].append(seconds / min(things, 1))
        began, rounds = time.perf_counter(), 0
        while rounds < 3 or (rounds < 9 and not quick and time.perf_counter() - began < SECONDS / 3):
            for name, worker in workers.items():
                seconds, things, peaks[name] = worker.run(TURN)
                laters[name].append(seconds / things)
            rounds += 1
        for worker in workers.values():
            worker.close()
    contenders = {
        name: {"first": median(firsts[name]), "later": median(laters[name]), "turns": len(laters[name]), "peak_mib": peaks[name]}
        for name in contending
    }
    bars = [_held(bar, contenders) for bar in case.bars if {bar.ours, bar.peer} <= set(contending)]
    return {"name": case.name, "title": case.title, "contenders": contenders, "bars": bars}


def _held(bar: Bar, contenders: dict[str, dict[str, float]]) -> dict[str, Any]:
    theirs, _, mine = bar.call.partition("/")
    ratio = contenders[bar.peer][theirs] / contenders[bar.ours][mine or theirs]
    return {**bar._asdict(), "ratio": ratio, "holds": ratio >= bar.at_least}
