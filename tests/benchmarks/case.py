"""What a benchmark is: a function that makes contenders, and the ratios that they are held against."""

import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

Run = Callable[[], Any]


class Per(NamedTuple):
    """A contender that does so many of the `things` whose time is wanted in one call; a part of one if it is slow."""

    run: Run
    things: float


class Bar(NamedTuple):
    """How many times as long a peer has to take as ours: at least, and what is aimed at.

    `call` is "later" for a warm call or "first" for the first in a process, which compiles; "first/later" holds our own first call
    against a later one.
    """

    peer: str
    at_least: float
    aim: float | None = None
    call: str = "later"
    ours: str = "jaxgd"


class Case(NamedTuple):
    name: str
    title: str
    make: Callable[[bool], dict[str, Run | Per]]
    bars: tuple[Bar, ...]


CASES: dict[str, Case] = {}


def case(*bars: Bar) -> Callable[[Any], Any]:
    """Register a function `quick -> {contender: run}` as a case: its docstring is the title, `bars` are what it has to show.

    What a run returns is waited for. `quick` asks for sizes that take seconds and say little.
    """

    def register(make: Callable[[bool], dict[str, Run | Per]]) -> Any:
        CASES[make.__name__] = Case(make.__name__, (make.__doc__ or "").strip().rstrip("."), make, bars)
        return make

    return register


def contender(made: dict[str, Run | Per], name: str) -> Per:
    """One contender of a case, with the number of things that a call of it does."""
    chosen = made[name]
    return chosen if isinstance(chosen, Per) else Per(chosen, 1)


def available(module: str) -> bool:
    """Whether a peer's library is installed."""
    return importlib.util.find_spec(module) is not None
