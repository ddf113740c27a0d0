"""Copies of a function in which the numbers that it closes over are others, wherever they are."""

import contextlib
import copy
import functools
import types
from collections.abc import Callable
from itertools import islice
from typing import Any

import jax
import numpy as np

from jaxgd._compile.closures import JITTED, MOST, globals_of, parts, places, remade

_LARGE = 2.0**64


class Closure:
    """A function with all that it looks at: the numbers and arrays at the ends, and those in the code of functions."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.leaves: list[tuple[Any, int]] = []  # numbers and arrays, each with the identity of what looks at it
        self.code: set[float] = set()
        self._seen: dict[int, Any] = {}  # kept alive, so that the identities stay theirs
        self._above: dict[int, list[int]] = {}  # the identities of what looks at a thing
        left = [function]
        while left and len(self._seen) < MOST:
            value = left.pop()
            if id(value) in self._seen:
                continue
            self._seen[id(value)] = value
            if isinstance(value, types.FunctionType):
                self.code |= _constants(value.__code__)
            with contextlib.suppress(Exception):  # whatever objects of the user's do when they are looked at
                for part in parts(value):
                    if isinstance(part, int | float | np.generic | np.ndarray | jax.Array):
                        self.leaves.append((part, id(value)))
                    self._above.setdefault(id(part), []).append(id(value))
                    left.append(part)

    def varied(self, change: Callable[[Any], Any]) -> Any:
        """Return a copy of the function with its numbers and arrays changed; itself if nothing changes."""
        leading, left = set(), [above for leaf, above in self.leaves if change(leaf) is not leaf]
        while left:
            one = left.pop()
            if one not in leading:
                leading.add(one)
                left += self._above.get(one, ())
        return _Copying(change, leading)(self.function)


class _Copying:
    """Makes copies of what leads to numbers that change. What looks at itself is known by its copy before that is filled."""

    def __init__(self, change: Callable[[Any], Any], leading: set[int]) -> None:
        self.change = change
        self.leading = leading
        self.copies: dict[int, Any] = {}

    def __call__(self, value: Any) -> Any:
        if id(value) not in self.leading:
            return self.change(value)
        if id(value) not in self.copies:
            self.copies[id(value)] = value
            with contextlib.suppress(Exception):  # what can't be copied stays
                self.copies[id(value)] = self._copied(value)
        return self.copies[id(value)]

    def _copied(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return remade(value, map(self, value))
        if isinstance(value, types.MethodType):
            return types.MethodType(self(value.__func__), self(value.__self__))
        if isinstance(value, JITTED):
            return jax.jit(self(value.__wrapped__))
        if hasattr(type(value), "__del__"):  # what is freed twice may be closed twice
            return value
        new = self.copies[id(value)] = _shallow(value)
        holders = {id(theirs): mine for theirs, mine in zip(_holders(value), _holders(new), strict=True)}
        for holder, name, get, put in islice(places(value), MOST):
            with contextlib.suppress(ValueError, AttributeError):  # a variable without a value yet
                put(holders[id(holder)], name, self(get(holder, name)))
        return new


def _shallow(value: Any) -> Any:
    """Return a list, a dict, a `functools.partial`, a function or an object like another, with places of its own."""
    if isinstance(value, list | dict):
        return copy.copy(value)
    if isinstance(value, functools.partial):
        return functools.partial(value.func, *value.args, **value.keywords)
    if not isinstance(value, types.FunctionType):
        return object.__new__(type(value))
    scope = dict(value.__globals__) if globals_of(value) else value.__globals__
    cells = tuple(types.CellType() for _ in value.__closure__ or ())
    new = types.FunctionType(value.__code__, scope, value.__name__, None, cells)
    new.__dict__.update(value.__dict__)
    return new


def _holders(value: Any) -> list[Any]:
    """Return the holders of the `places` in a value."""
    if isinstance(value, types.FunctionType):
        return [value, value.__globals__, *(value.__closure__ or ())]
    return [value, getattr(value, "__dict__", None)]


@functools.lru_cache(1024)
def _constants(code: types.CodeType) -> frozenset[Any]:
    """Return the numbers in a function's code, with those of the functions that it makes."""
    found: set[Any] = set()
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _constants(constant)
        parts: tuple[Any, ...] = constant if isinstance(constant, tuple) else (constant,)
        found.update(float(part) for part in parts if type(part) in (int, float) and abs(part) < _LARGE)
    return frozenset(found)
