"""Copies of a function in which the numbers that it closes over are others, wherever they are."""

import contextlib
import copy
import functools
import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxgd._compile.closures import JITTED, MOST, attributes, globals_of, parts

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
                    self._note(part, id(value))
                    left.append(part)

    def _note(self, part: Any, above: int) -> None:
        if isinstance(part, int | float | np.generic | np.ndarray | jax.Array):
            self.leaves.append((part, above))
        self._above.setdefault(id(part), []).append(above)

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
            items = map(self, value)
            return value._make(items) if hasattr(value, "_make") else type(value)(items)  # type: ignore[attr-defined]
        if isinstance(value, functools.partial):
            return functools.partial(self(value.func), *self(value.args), **self(value.keywords))
        if isinstance(value, types.MethodType):
            return types.MethodType(self(value.__func__), self(value.__self__))
        if isinstance(value, JITTED):
            return jax.jit(self(value.__wrapped__))
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, list | dict):
            new = self.copies[id(value)] = copy.copy(value)
            for key, item in list(enumerate(value) if isinstance(value, list) else value.items())[:MOST]:
                new[key] = self(item)
            return new
        if hasattr(type(value), "__del__"):  # what is freed twice may be closed twice
            return value
        new = self.copies[id(value)] = object.__new__(type(value))
        for name, item in attributes(value).items():
            object.__setattr__(new, name, self(item))
        return new

    def _function(self, function: types.FunctionType) -> Any:
        looked_up, cells = globals_of(function), tuple(types.CellType() for _ in function.__closure__ or ())
        scope = dict(function.__globals__) if looked_up else function.__globals__
        new = self.copies[id(function)] = types.FunctionType(function.__code__, scope, function.__name__, None, cells)
        new.__defaults__, new.__kwdefaults__ = self(function.__defaults__), self(function.__kwdefaults__)
        new.__qualname__, new.__module__ = function.__qualname__, function.__module__
        new.__dict__.update(function.__dict__)
        for mine, theirs in zip(function.__closure__ or (), cells, strict=True):
            with contextlib.suppress(ValueError):  # a variable without a value yet
                theirs.cell_contents = self(mine.cell_contents)
        scope.update({name: self(item) for name, item in looked_up.items()})
        return new


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
