"""What every test runs under: strict dtype promotion, figures without a screen, and a way to count compilations."""

import contextlib
import gc
import itertools
import os
import pathlib
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import pytest

from jaxgd._compile import program

os.environ["MPLBACKEND"] = "Agg"  # matplotlib is imported where it is first needed
jax.config.update("jax_numpy_dtype_promotion", "strict")
signal.signal(signal.SIGINT, signal.default_int_handler)  # what is started in the background ignores it

_seen: dict[str, list[str]] = {"/jax/core/compile/backend_compile_duration": [], "/jax/core/compile/jaxpr_trace_duration": []}


def _listen(event: str, *_: Any, **about: Any) -> None:
    if event in _seen:
        _seen[event].append(str(about.get("fun_name")))


jax.monitoring.register_event_duration_secs_listener(_listen)


def _wait_for_programs() -> None:
    """Wait for what is compiled in the background."""
    for one in list(program._programs.values()):
        one.wait()


def _counter(event: str) -> Callable[[], contextlib.AbstractContextManager[list[str]]]:
    @contextlib.contextmanager
    def counted() -> Iterator[list[str]]:
        _wait_for_programs()
        before = len(_seen[event])
        inside: list[str] = []
        yield inside
        _wait_for_programs()
        inside.extend(_seen[event][before:])

    return counted


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--part K/N`, which runs every N-th of the chosen tests, beginning with number K, from 0 on."""
    parser.addoption("--part", default="0/1", metavar="K/N", help="run every N-th test, beginning with number K, from 0 on")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Mark all but a few cases of each sweep as slow, those that are kept evenly spread among them, and choose a part."""
    sweeps: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("sweep"):
            sweeps.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for cases in sweeps.values():
        keep = next(cases[0].iter_markers("sweep")).kwargs["keep"]
        kept = {k * len(cases) // keep for k in range(keep)}
        for k, item in enumerate(cases):
            if k not in kept:
                item.add_marker("slow")
    yield
    first, step = map(int, str(config.getoption("part")).split("/"))
    chosen = items[first::step]
    config.hook.pytest_deselected(items=list(set(items) - set(chosen)))
    items[:] = chosen


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    """No figure of matplotlib's outlives a test."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


_MAPS, _SIZES = pathlib.Path("/proc/self/maps"), pathlib.Path("/proc/self/statm")  # where the system is Linux
_MANY_MAPS = 25_000  # a process has 65 530 of them, and every compiled program takes some
_MANY_PAGES = 2**19  # in memory, of 4 kB each
_ended = itertools.count(1)


@pytest.fixture(autouse=True)
def few_programs() -> Iterator[None]:
    """Forget compiled programs before there are too many for one process, or for the memory."""
    yield
    if next(_ended) % 20 or not _MAPS.exists():
        return
    if _MAPS.read_bytes().count(b"\n") > _MANY_MAPS or int(_SIZES.read_text().split()[1]) > _MANY_PAGES:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def compilations() -> Callable[[], contextlib.AbstractContextManager[list[str]]]:
    """A context manager that lists what was compiled inside it."""
    return _counter("/jax/core/compile/backend_compile_duration")


@pytest.fixture
def traces() -> Callable[[], contextlib.AbstractContextManager[list[str]]]:
    """A context manager that lists what was traced inside it."""
    return _counter("/jax/core/compile/jaxpr_trace_duration")
