"""The source of non-finite numbers, found on the host after a run that they have ended.

Data may hold NaN that the cost masks. So they are named as the cause only where the cost and its gradient are not finite at the
start, and are finite there once other numbers replace such data.
"""

import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path

from jaxgd._checks.check import entry
from jaxgd._checks.check_arrays import first
from jaxgd._compile.program import program_for
from jaxgd._frozen import FrozenParameters
from jaxgd._run.in_chunks import InChunks
from jaxgd._shards import map_pieces, pieces
from jaxgd._trees import is_traced, with_fields
from jaxgd.methods.protocol import Point
from jaxgd.result import Result, Status


def diagnosed(result: Result, start: Point, evaluate: Any, fixed: FrozenParameters | None, *data: Any) -> Result:
    """Return the result of a run that diverged, with the cause if it lies in the start or the data.

    `evaluate` is the cost with its gradient, of the free parameters and the data.
    """
    found = cause(start, evaluate, fixed, *data)
    if found is None:
        return result
    return with_fields(result, cause=found.text, **({"code": Status.NONFINITE_DATA.code} if found.in_data else {}))


class Cause(NamedTuple):
    """The origin of a number that is not finite, in words, and whether it is in the data."""

    text: str
    in_data: bool


def cause(start: Point, evaluate: Any, fixed: FrozenParameters | None, *data: Any) -> Cause | None:
    """Return where numbers that are not finite come from, if that is in the start or the data; see `diagnosed`."""
    first_row = 0
    if isinstance(evaluate, InChunks):
        lost = evaluate.first_lost(start.params)
        if lost is None:
            return None
        evaluate, found, rows, first_row = lost
        start, data = Point(start.params, *found), (rows,)
    gradient = start.gradient if fixed is None else fixed.gradient(start.gradient)
    found = _at_start(start.cost, gradient)
    if found is None or is_traced(data):
        return None
    place = in_data("data", data[0], first_row) if data else None
    if place is None:
        return Cause(found, False)
    other = (start.params, jax.tree.map(filled, data[0]))
    traced = getattr(evaluate, "shapes", None) is not None
    cost, gradient, _ = (program_for(_called, evaluate, *other) if traced else _called)(evaluate, *other)
    if _at_start(cost, gradient) is not None:
        return Cause(found, False)
    masked = np.isfinite(np.asarray(start.cost).astype(np.float64))
    cure = "; a cost that masks it has to do so before it computes with it" if masked else ""
    return Cause(f"{place}; {found}{cure}", True)


def in_data(name: str, data: Any, first_row: int = 0) -> str | None:
    """Return the first number in data that is not finite, in words; `first_row` is the number of their first row."""
    for path, leaf in tree_flatten_with_path(data)[0]:
        if not jnp.issubdtype(leaf.dtype, jnp.inexact) or (isinstance(leaf, jax.Array) and not leaf.is_fully_addressable):
            continue
        found, count = [], 0
        for start, part in pieces(leaf):
            lost = ~np.isfinite(part)
            index = first(lost)
            if index is not None:
                found.append((tuple(map(operator.add, start, index)), part[index]))
                count += int(np.sum(lost))
        if found:
            index, value = min(found, key=operator.itemgetter(0))
            others = f" (the first of {count} such values there)" if count > 1 else ""
            index = (index[0] + first_row, *index[1:]) if index else index
            return f"{name}{keystr(path)}{_row(index)} is {word(value)}{others}"
    return None


def of_validation(result: Result, cost: Any, data: Any) -> Result:
    """Return the result, with the cause if the cost of the validation data was not finite."""
    if result.cause is not None or is_traced(cost) or np.isfinite(cost):
        return result
    place = in_data("validation", data)
    return with_fields(result, cause=place or f"the cost of the validation data is {word(cost)}")


def _called(function: Any, *arguments: Any) -> Any:
    return function(*arguments)


def _at_start(cost: Any, gradient: Any) -> str | None:
    """Return what is not finite at the start, in words."""
    if not np.isfinite(np.asarray(cost).astype(np.float64)):
        return f"the cost is {word(cost)} at the start"
    for path, leaf in tree_flatten_with_path(gradient)[0]:
        array = np.asarray(leaf).astype(np.float64)
        index = first(~np.isfinite(array))
        if index is not None:
            where = entry("params" + keystr(path), index)
            return f"the gradient with respect to {where} is {word(array[index])} at the start, where the cost is finite"
    return None


def _row(index: tuple[int, ...]) -> str:
    """Return a place in an array of data, in words."""
    if not index:
        return ""
    within = f", column {index[1]}" if len(index) == 2 else f" at {entry('', index[1:])}" if index[1:] else ""
    return f", row {index[0]}{within},"


def word(value: Any) -> str:
    """Return a number that is not finite, in words."""
    value = complex(value)
    return "NaN" if np.isnan(value) else "-inf" if value.real == -np.inf else "inf"


def filled(leaf: Any) -> Any:
    """Return an array whose numbers are finite: others are replaced by the first finite one of their column, or 1."""
    return map_pieces(_filled_part, leaf) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf


def _filled_part(array: np.ndarray) -> np.ndarray:
    columns = array.reshape(-1, array.shape[-1] if array.ndim > 1 else 1)
    finite = np.isfinite(columns)
    firsts = columns[np.argmax(finite, axis=0), np.arange(columns.shape[1])]
    fill = np.where(np.any(finite, axis=0), firsts, np.ones_like(firsts))
    return np.where(finite, columns, fill).astype(array.dtype).reshape(array.shape)
