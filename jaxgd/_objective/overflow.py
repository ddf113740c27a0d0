"""Integers of 64 bits in 32: whether what a traced function computes from them could overflow, by interval arithmetic.

NumPy's integers have 64 bits, and JAX, without its 64-bit flag, cuts them to 32, where x**2 overflows from 46 341 on. So the ranges
of columns that are cut are followed through the jaxpr of the cost. Indexing and comparing are always fine, and so is arithmetic
whose results fit in 32 bits, whatever the values in those ranges.
"""

import itertools
import math
import operator
import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxgd._checks.check_arrays import EXACT
from jaxgd._compile.jaxprs import constants_of, core, inside, opened, split_scan
from jaxgd._trees import is_traced

_SMALL = 2**16  # numbers of an array that a function closes over, up to which they are looked at
_MANY = 64  # ranges of the data of one function, for which the findings are kept
_LAPS = 3  # of a loop, after which a range that still grows may be anything


_found: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()  # of traced functions


class Range(NamedTuple):
    """The least and largest value of integers, and the columns that they were computed from."""

    low: int
    high: int
    columns: frozenset[int] = frozenset()


class Findings(NamedTuple):
    """Columns whose arithmetic could overflow, and those that become floats by which not all integers in their range are held."""

    overflowing: frozenset[int]
    rounded: frozenset[int]


def follow(traced: Any, inputs: list[Range | None], n_rows: int) -> Findings:
    """Follow ranges through a traced function.

    The ranges are those of its last arguments, None for floating ones. Where it was traced for fewer rows than `n_rows`, sums over
    rows may go over all of those.
    """
    jaxpr = traced.code.jaxpr
    closed_over = [range_of(array) if np.size(array) <= _SMALL else None for array in traced.constants]
    unknown = [None] * (len(jaxpr.invars) - len(closed_over) - len(inputs))
    ranges = (*closed_over, *unknown, *inputs)
    seen = _found.setdefault(traced.code, {})
    if (ranges, n_rows) in seen:
        return seen[ranges, n_rows]
    shapes = [variable.aval.shape for variable in jaxpr.invars[len(jaxpr.invars) - len(inputs) :]]
    rows = max((shape[0] for shape in shapes if shape), default=1)
    walk = _Walk(rows, max(1, -(-n_rows // max(rows, 1))))
    walk.through(jaxpr, ranges)
    if len(seen) >= _MANY:
        seen.clear()
    found = seen[ranges, n_rows] = Findings(frozenset(walk.overflowing), frozenset(walk.rounded))
    return found


def range_of(array: Any, column: int | None = None) -> Range | None:
    """Return the range of the integers in an array, where they can be looked at; None for other numbers."""
    if not _is_integer(array) or is_traced(array) or not np.size(array):
        return None
    columns = frozenset() if column is None else frozenset((column,))
    return Range(int(np.min(array)), int(np.max(array)), columns)


def _is_integer(array: Any) -> bool:
    return hasattr(array, "dtype") and jnp.issubdtype(array.dtype, jnp.integer)


def _any(aval: Any, columns: frozenset[int] = frozenset()) -> Range | None:
    """Return all that a type can hold; None for what is no integer."""
    return Range(int(jnp.iinfo(aval.dtype).min), int(jnp.iinfo(aval.dtype).max), columns) if _is_integer(aval) else None


def hull(*ranges: Range) -> Range:
    """Return the smallest range that holds others."""
    return Range(min(r.low for r in ranges), max(r.high for r in ranges), frozenset().union(*(r.columns for r in ranges)))


class _Walk:
    """A walk through a jaxpr, and what was found on the way."""

    def __init__(self, rows: int, stretch: int) -> None:
        self.rows, self.stretch = rows, stretch
        self.overflowing: set[int] = set()
        self.rounded: set[int] = set()

    def through(self, jaxpr: Any, inputs: Iterable[Range | None]) -> list[Range | None]:
        """Return the ranges of what a jaxpr returns; its constants come first among the inputs."""
        variables = (*jaxpr.constvars, *jaxpr.invars)
        known = {v: found or _any(v.aval) for v, found in zip(variables, inputs, strict=True)}

        def read(atom: Any) -> Range | None:
            return range_of(np.asarray(atom.val, atom.aval.dtype)) if isinstance(atom, core().Literal) else known[atom]

        for eqn in jaxpr.eqns:
            known.update(zip(eqn.outvars, self.equation(eqn, [read(atom) for atom in eqn.invars]), strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def equation(self, eqn: Any, operands: list[Range | None]) -> list[Range | None]:
        """Return the ranges of what an equation computes."""
        name = eqn.primitive.name
        if name in ("scan", "while", "cond"):
            return {"scan": self.scan, "while": self.loop, "cond": self.branches}[name](eqn, operands)
        inner = inside(eqn)
        if len(inner) == 1 and len(opened(inner[0]).invars) == len(operands) and not name.startswith(("scatter", "reduce")):
            return self.call(inner[0], operands)
        if name in _SIDE_BY_SIDE and len(operands) == len(eqn.outvars):
            return operands
        return [self.result(name, eqn, operands, variable.aval) for variable in eqn.outvars]

    def result(self, name: str, eqn: Any, operands: list[Range | None], aval: Any) -> Range | None:
        """Return the range of one result of an equation that has no jaxpr inside."""
        ranges = [operand for operand in operands if operand is not None]
        columns = frozenset().union(*(operand.columns for operand in ranges))
        most, first = _any(aval, columns), operands[0] if operands else None
        if most is None:
            if name == "convert_element_type" and first and aval.dtype == jnp.float32 and max(-first.low, first.high) > EXACT:
                self.rounded |= columns
            return None
        if name in _CHOICES:
            return hull(*(operand or most for operand in operands[_CHOICES[name]]))
        if name == "convert_element_type":
            if eqn.invars[0].aval.dtype == bool:
                return Range(0, 1)
            return first if first and most.low <= first.low and first.high <= most.high else most
        if name not in _MONOTONIC | _ARITHMETIC or len(ranges) < len(operands):
            return _any(aval)  # what nothing is known of counts or places, as a rule
        low, high = _span(_MONOTONIC[name], *ranges) if name in _MONOTONIC else _ARITHMETIC[name](self, eqn, *ranges)
        if most.low <= low and high <= most.high:
            return Range(low, high, columns)
        self.overflowing |= columns
        return most

    def call(self, inner: Any, operands: list[Range | None]) -> list[Range | None]:
        """Return the ranges of what a jaxpr inside an equation returns."""
        closed_over = [range_of(array) if np.size(array) <= _SMALL else None for array in constants_of(inner)]
        return self.through(opened(inner), [*closed_over, *operands])

    def branches(self, eqn: Any, operands: list[Range | None]) -> list[Range | None]:
        """Return the ranges of a choice between jaxprs."""
        found = [self.call(branch, operands[1:]) for branch in eqn.params["branches"]]
        return [None if any(one is None for one in ranges) else hull(*ranges) for ranges in zip(*found, strict=True)]

    def scan(self, eqn: Any, operands: list[Range | None]) -> list[Range | None]:
        """Return the ranges of a loop over rows."""
        inner = eqn.params["jaxpr"]
        fixed, first, rows = split_scan(eqn, operands)
        carry = self.carried(inner, len(fixed), first, lambda carry: self.call(inner, [*fixed, *carry, *rows])[: len(first)])
        return [*carry, *self.call(inner, [*fixed, *carry, *rows])[len(first) :]]

    def loop(self, eqn: Any, operands: list[Range | None]) -> list[Range | None]:
        """Return the ranges of a loop with a condition."""
        inner, condition, body = eqn.params["body_jaxpr"], eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        fixed, first = operands[condition : condition + body], operands[condition + body :]
        return self.carried(inner, body, first, lambda carry: self.call(inner, [*fixed, *carry]))

    def carried(self, inner: Any, skip: int, carry: list[Range | None], lap: Callable[..., Any]) -> list[Range | None]:
        """Return the ranges of what a loop carries: those that still grow after a few laps may be anything."""
        variables = opened(inner).invars[skip : skip + len(carry)]
        for k in range(_LAPS + 1):
            after = [old if old is None or new is None else hull(old, new) for old, new in zip(carry, lap(carry), strict=True)]
            if after == carry:
                break
            carry = [
                new if new == old or new is None or k < _LAPS - 1 else _any(variable.aval, new.columns)
                for old, new, variable in zip(carry, after, variables, strict=True)
            ]
        return carry


def _count(walk: _Walk, eqn: Any, axes: Iterable[int]) -> int:
    """Return how many numbers are added up along some axes, at most."""
    lengths = [eqn.invars[0].aval.shape[axis] for axis in axes]
    return math.prod(lengths) * (walk.stretch if walk.rows in lengths else 1)


def _span(function: Callable[..., int], *ranges: Range) -> tuple[int, int]:
    """Return the extremes of a function that is monotonic in each argument, on either side of zero."""
    values = [function(*ends) for ends in itertools.product(*({r.low, r.high, min(max(r.low, 0), r.high)} for r in ranges))]
    return min(values), max(values)


def _times(a: Range, low: int, high: int) -> tuple[int, int]:
    return _span(operator.mul, a, Range(low, high))


def _remainder(a: Range, b: Range) -> tuple[int, int]:
    """Return what is left after division: of the sign of the dividend, and closer to zero than either."""
    size = max(-b.low, b.high, 1) - 1
    return max(min(a.low, 0), -size), min(max(a.high, 0), size)


def _scattered(walk: _Walk, eqn: Any, a: Range, _: Range, b: Range) -> tuple[int, int]:
    low, high = _times(b, 1, max(1, eqn.invars[2].aval.size))
    return a.low + min(low, 0), a.high + max(high, 0)


def _dot(walk: _Walk, eqn: Any, a: Range, b: Range) -> tuple[int, int]:
    count = _count(walk, eqn, eqn.params["dimension_numbers"][0][0])
    return _span(lambda x, y: x * y * count, a, b)


def _masked(eqn: Any, a: Range, b: Range) -> tuple[int, int]:
    """Return what `and` makes of integers: those that are not negative are not exceeded."""
    highs = [r.high for r in (a, b) if r.low >= 0]
    return (0, min(highs)) if highs else _whole(eqn)


def _joined(eqn: Any, a: Range, b: Range) -> tuple[int, int]:
    """Return what `or` and `xor` make of integers: none needs more bits than the larger."""
    return (0, 2 ** max(a.high, b.high).bit_length() - 1) if min(a.low, b.low) >= 0 else _whole(eqn)


def _whole(eqn: Any) -> tuple[int, int]:
    most = jnp.iinfo(eqn.outvars[0].aval.dtype)
    return int(most.min), int(most.max)


_SIDE_BY_SIDE = frozenset(("sort", "optimization_barrier", "device_put", "copy_p"))
_CHOICES = dict.fromkeys(
    "reshape squeeze transpose broadcast_in_dim slice dynamic_slice gather rev copy expand_dims split reduce_max reduce_min cummax "
    "cummin sharding_constraint".split(),
    slice(0, 1),
) | {"concatenate": slice(0, None), "pad": slice(0, 2), "select_n": slice(1, None), "dynamic_update_slice": slice(0, 2)}
_MONOTONIC: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "add_any": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "neg": operator.neg,
    "abs": abs,
    "sign": lambda a: (a > 0) - (a < 0),
    "square": lambda a: a * a,
    "max": max,
    "min": min,
    "clamp": lambda low, x, high: min(max(low, x), high),
    "shift_left": lambda a, b: a << min(max(b, 0), 64),
}
_ARITHMETIC: dict[str, Callable[..., tuple[int, int]]] = {
    "integer_pow": lambda walk, eqn, a: _span(lambda x: x ** eqn.params["y"], a),
    "div": lambda walk, eqn, a, b: _span(lambda x: x, Range(-(size := max(-a.low, a.high, 0)), size)),  # nothing further from zero
    "rem": lambda walk, eqn, a, b: _remainder(a, b),
    "shift_right_logical": lambda walk, eqn, a, b: (0, a.high) if a.low >= 0 else _whole(eqn),
    "shift_right_arithmetic": lambda walk, eqn, a, b: (min(a.low, 0), max(a.high, 0)),
    "and": lambda walk, eqn, a, b: _masked(eqn, a, b),
    "or": lambda walk, eqn, a, b: _joined(eqn, a, b),
    "xor": lambda walk, eqn, a, b: _joined(eqn, a, b),
    "reduce_sum": lambda walk, eqn, a: _times(a, count := _count(walk, eqn, eqn.params["axes"]), count),
    "cumsum": lambda walk, eqn, a: _times(a, 1, _count(walk, eqn, (eqn.params["axis"],))),
    "reduce_prod": lambda walk, eqn, a: _times(a, 1, 2 ** (64 if max(-a.low, a.high) > 1 else 0)),
    "scatter-add": _scattered,
    "dot_general": _dot,
    "iota": lambda walk, eqn: (0, eqn.outvars[0].aval.size),
    "argmax": lambda walk, eqn, a: (0, eqn.invars[0].aval.size),
    "argmin": lambda walk, eqn, a: (0, eqn.invars[0].aval.size),
}
