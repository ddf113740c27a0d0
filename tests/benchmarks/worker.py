"""One contender in a process of its own: so the first call compiles everything that it needs, and memory is its alone."""

import gc
import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

_spawn = multiprocessing.get_context("spawn")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # the threads of a contender that waits for its turn shall not spin


def names(case: str, quick: bool) -> list[str]:
    """The contenders of a case whose libraries are installed, as a process of its own finds them, unless it shall be quick."""
    if quick:
        return _names(case, quick)
    with _spawn.Pool(1) as pool:
        return pool.apply(_names, (case, quick))


class Here:
    """A contender that runs in this process: quick, and its first call may find what another one has compiled."""

    def __init__(self, case: str, contender: str) -> None:
        self.call = _runner(case, contender, True)

    def run(self, seconds: float = 0.0) -> tuple[float, float, float]:
        """As `Worker.run`, one call."""
        del seconds
        return self.call(0.0)

    def close(self) -> None:
        """Nothing is left to do."""


class Worker:
    """A process that has made a case's contender and runs it when asked."""

    def __init__(self, case: str, contender: str, quick: bool) -> None:
        self.pipe, other = _spawn.Pipe()
        self.process = _spawn.Process(target=_serve, args=(other, case, contender, quick), daemon=True)
        self.process.start()

    def run(self, seconds: float = 0.0) -> tuple[float, float, float]:
        """The seconds of a call, how many things it does, and the process's peak memory so far in MiB.

        Calls are made for so many seconds, one at least, and the median of their times is given: the first after a rest takes
        longer, while the system finds places for the threads again, and the more so the longer the others took.
        """
        self.pipe.send(seconds)
        return self.pipe.recv()

    def close(self) -> None:
        self.pipe.send(None)
        self.process.join()


def _names(case: str, quick: bool) -> list[str]:
    from tests.benchmarks.cases import CASES

    return list(CASES[case].make(quick))


def _serve(pipe: Connection, case: str, name: str, quick: bool) -> None:
    call = _runner(case, name, quick)
    while (seconds := pipe.recv()) is not None:
        pipe.send(call(seconds))


def _runner(case: str, name: str, quick: bool) -> Callable[[float], tuple[float, float, float]]:
    """A function that runs a contender for some time, and says what `Worker.run` does."""
    import jax

    from tests.benchmarks.case import contender
    from tests.benchmarks.cases import CASES

    run, things = contender(CASES[case].make(quick), name)
    jax.block_until_ready(jax.numpy.zeros(3) + 1)  # JAX itself has been started
    gc.collect()
    gc.freeze()  # what the peers' libraries left on the heap is not searched for garbage while a call is timed

    def call(seconds: float) -> tuple[float, float, float]:
        times: list[float] = []
        while not times or sum(times) < seconds:
            began = time.perf_counter()
            _wait(run())
            times.append(time.perf_counter() - began)
        return median(times), things, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    return call


def _wait(result: Any) -> None:
    import jax

    jax.block_until_ready([leaf for leaf in jax.tree.leaves(result) if isinstance(leaf, jax.Array)])
