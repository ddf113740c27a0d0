"""The penalties of a run: the argument `penalty` checked, and a cost with its penalty added.

A run sees the whole objective F = f + P as its cost, and the gradient of the smooth part f alone; methods ask the penalty for its
proximal operator. Where something has to vanish at a minimum, that is the *slope*: the element of least norm of the gradient of f
plus the subdifferential of P, and of the normal cone of the bounds.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path

from jaxgd._checks import check, check_arrays, check_trees
from jaxgd._compile.explained import explained
from jaxgd._compile.program import program_for
from jaxgd._objective.evaluation import value, value_and_gradient
from jaxgd._trees import (
    is_parameter,
    is_traced,
    largest,
    parameters_of,
    pytree,
    safe_divisor,
    static,
    with_fields,
    with_parameters,
    working_dtype,
)
from jaxgd.bounds import Bounds, at_active_bound
from jaxgd.penalties import Penalty, check_penalty, is_penalty


@pytree
class Penalties:
    """The penalties of the free parameters.

    Attributes:
        parts: the penalties of some leaves.
        constant: the penalty of what is fixed.
        places: the places of these leaves among the free ones.
    """

    parts: tuple[Any, ...]
    constant: Any
    places: tuple[int, ...] = static()

    def value(self, params: Any) -> jax.Array:
        """Return the penalty, in the precision of the parameters."""
        leaves, total = jax.tree.leaves(params), self.constant
        for part, k in zip(self.parts, self.places, strict=True):
            total = total + part.value(leaves[k]).astype(total.dtype)
        return total

    def prox(self, params: Any, steps: Any, bounds: Bounds | None = None) -> Any:
        """Return the proximal operator within bounds; `steps` is a number, or a pytree like the parameters."""
        leaves, structure = jax.tree.flatten(params)
        each = [steps] * len(leaves) if jax.tree.structure(steps) == jax.tree.structure(0) else structure.flatten_up_to(steps)
        for part, k in zip(self.parts, self.places, strict=True):
            leaves[k] = part.prox(leaves[k], jnp.asarray(each[k]).astype(leaves[k].dtype))
        moved = structure.unflatten(leaves)
        return moved if bounds is None else bounds.project(moved)

    def slope(self, params: Any, gradient: Any, bounds: Bounds | None = None) -> Any:
        """Return the slope, for the gradient of the cost."""
        leaves, structure = jax.tree.flatten(params)
        gradients, parts = structure.flatten_up_to(gradient), dict(zip(self.places, self.parts, strict=True))
        lows, highs = ([None] * len(leaves),) * 2
        if bounds is not None:
            lows, highs = map(structure.flatten_up_to, (bounds.lower, bounds.upper))
        found = [_slope(parts.get(k), *one) for k, one in enumerate(zip(leaves, gradients, lows, highs, strict=True))]
        return structure.unflatten(found)

    def scale(self, gradient: Any) -> jax.Array:
        """Return the least factor of all weights at which zero is the minimum, for the gradient of the cost there."""
        leaves = jax.tree.leaves(gradient)
        ratios = [part.scale(leaves[k]) for part, k in zip(self.parts, self.places, strict=True)]
        return jnp.max(jnp.stack([ratio.astype(self.constant.dtype) for ratio in ratios]))

    def project(self, params: Any) -> Any:
        """Return the nearest parameters at which the penalties of this package are finite."""
        leaves, structure = jax.tree.flatten(params)
        for part, k in zip(self.parts, self.places, strict=True):
            leaves[k] = part.project(leaves[k]) if hasattr(part, "project") else leaves[k]
        return structure.unflatten(leaves)

    @property
    def is_separable(self) -> bool:
        """Whether all of it is a sum of functions of one parameter each."""
        return all(_is_separable(part) for part in self.parts)


def _is_separable(penalty: Any) -> bool:
    return bool(getattr(penalty, "separable", False))


def _slope(penalty: Any, x: jax.Array, gradient: jax.Array, low: Any, high: Any) -> jax.Array:
    """Return the slope for one array.

    For a penalty of the user's it is (x - prox(x - t g, t)) / t, with t the ratio of the largest |x| to the largest |g|.
    """
    if penalty is None:
        return gradient if low is None else jnp.where(at_active_bound(x, gradient, low, high), jnp.zeros_like(gradient), gradient)
    if hasattr(penalty, "sides"):
        left, right = penalty.sides(x)
        if low is not None:
            left, right = jnp.where(x <= low, -jnp.inf, left), jnp.where(x >= high, jnp.inf, right)
        left, right = gradient + left.astype(gradient.dtype), gradient + right.astype(gradient.dtype)
        return jnp.where(left > 0, left, jnp.where(right < 0, right, 0))
    if hasattr(penalty, "slope"):
        return penalty.slope(x, gradient).astype(gradient.dtype)
    step = safe_divisor(largest(x, x.dtype)) / safe_divisor(largest(gradient, x.dtype))
    moved = penalty.prox(x - step * gradient, step)
    return (x - (moved if low is None else jnp.clip(moved, low, high))) / step


@pytree
class Penalised:
    """A function of the cost, its value or that with derivatives, whose value is that of cost and penalty together."""

    evaluate: Any
    penalty: Penalties

    def __call__(self, params: Any, *rest: Any) -> Any:
        found, more = self.evaluate(params, *rest), self.penalty.value(params)
        if isinstance(found, tuple):
            return found[0] + more.astype(found[0].dtype), *found[1:]
        return found + more.astype(found.dtype)

    @property
    def function(self) -> Any:
        """The traced function of the cost alone."""
        return getattr(self.evaluate, "function", self.evaluate)

    @property
    def shapes(self) -> Any:
        """The shapes and dtypes of what the function returns, where it was traced."""
        return getattr(self.evaluate, "shapes", None)

    @property
    def largest(self) -> int:
        """How many numbers the largest array has that the function computes, where it was traced."""
        return getattr(self.evaluate, "largest", 0)

    def with_values(self, values: Any) -> "Penalised":
        """Return the same function with other values of what is fixed."""
        return with_fields(self, evaluate=self.evaluate.with_values(values))


def of_whole(trace: Callable[..., Any], penalty: Penalties) -> Callable[..., Any]:
    """Return what makes functions of a cost, as one that adds the penalty to its values."""

    def traced(make: Callable[..., Any], *data: Any, **options: Any) -> Any:
        function = trace(make, *data, **options)
        return Penalised(function, penalty) if make in (value, value_and_gradient) else function

    return traced


def slope_of(penalty: Penalties, result: Any, box: Bounds | None) -> Any:
    """Return a result, in the free parameters, whose gradient is the slope."""
    arguments = penalty, result.params, result.gradient, box
    found = _slopes(*arguments) if is_traced(arguments) else program_for(_slopes, *arguments)(*arguments)
    return with_fields(result, gradient=found)


def _slopes(penalty: Penalties, params: Any, gradient: Any, box: Bounds | None) -> Any:
    return penalty.slope(params, gradient, box)


def slopes_of_each(penalty: Penalties, box: Bounds | None, each: Any, params: Any, gradient: Any) -> Any:
    """Return the slopes of many points; `each` holds the penalties and boxes that differ."""
    arguments = penalty, box, each.penalty, each.box, params, gradient
    return _slopes_of_each(*arguments) if is_traced(arguments) else program_for(_slopes_of_each, *arguments)(*arguments)


def _slopes_of_each(penalty: Any, box: Any, penalties: Any, boxes: Any, params: Any, gradient: Any) -> Any:
    def one(own: Any, walls: Any, params: Any, gradient: Any) -> Any:
        return (penalty if own is None else own).slope(params, gradient, box if walls is None else walls)

    return jax.vmap(one)(penalties, boxes, params, gradient)


def penalised(given: Any, penalty: Any, *, drawn: bool) -> Any:
    """Return a `Problem` with the argument `penalty`; a start that was `drawn` is moved to where the penalty is finite."""
    if penalty is None:
        return given
    found = penalties_of(penalty, given, drawn=drawn)
    if found is None or not drawn:
        return given if found is None else dataclasses.replace(given, penalty=found)
    return dataclasses.replace(given, penalty=found, params=found.project(given.params))


def penalty_of_each(penalty: Any, given: Any, rows: Any) -> Penalties | None:
    """Return the penalties of many runs, all numbers with a leading axis; None where they are the same.

    `rows` tells those that differ, `rows(numbers)` being the penalty of one run; None where none do. The penalty of what is fixed
    differs where the starts do.
    """
    starts = None if given.draws is None or given.frozen is None else parameters_of(given.draws)
    if penalty is None or (rows is None and starts is None):
        return None

    def one(numbers: Any, start: Any) -> Penalties | None:
        given_here = given if start is None else dataclasses.replace(given, start=with_parameters(given.start, start))
        own = penalty if rows is None else rows(numbers)
        return penalties_of(own, given_here, drawn=True)

    return jax.vmap(one)(None if rows is None else rows.rows, starts)


def penalties_of(penalty: Any, given: Any, *, drawn: bool = False) -> Penalties | None:
    """Check the argument `penalty`: None, or penalties for parameters or whole branches of the tree."""
    start, frozen, dtype = given.start, given.frozen, working_dtype(parameters_of(given.start))
    values = iter(check_trees.values_for("penalty", penalty, parameters_of(start), is_penalty))
    sides = [iter(jax.tree.leaves(side)) for side in (given.box.lower, given.box.upper)] if given.box else None
    parts, places, constant, place = [], [], np.zeros((), dtype), 0
    for k, (path, leaf) in enumerate(tree_flatten_with_path(start)[0]):
        held = False if frozen is None else frozen.held.leaves[k]
        if not is_parameter(leaf):
            continue
        is_free = held is False or isinstance(held, bytes)
        box = tuple(next(side) for side in sides) if sides and is_free else None
        one, place = next(values), place + is_free
        check_penalty(f"penalty{keystr(path)}", one)
        if one is None:
            continue
        if given.change is not None and k in given.change.places:
            raise ValueError(f"penalty{keystr(path)}: expected None for parameters that have a transform, got {check.show(one)}.")
        _check_parts(keystr(path), one, held, box)
        one = _in_precision(one, dtype)
        _check_shapes(keystr(path), one, leaf)
        if not drawn:
            _check_inside(f"start{keystr(path)}", one, leaf)
        free = _free_places(held, leaf.size)
        if free is not None and is_free:
            constant = constant + _restricted(one, leaf, ~free).value(leaf.reshape(-1)[~free])
            one = _restricted(one, leaf, free)
        elif free is not None:
            constant = constant + one.value(jnp.asarray(leaf))
        if is_free:
            parts.append(one)
            places.append(place - 1)
    return Penalties(tuple(parts), constant, tuple(places)) if parts else None


def _check_parts(path: str, penalty: Any, held: Any, box: Any) -> None:
    """Check that parts of an array that are fixed, and bounds, go with its penalty."""
    name = type(penalty).__name__
    if _is_separable(penalty):
        return
    if isinstance(held, bytes):
        raise ValueError(f"fixed{path}: expected all or nothing of an array with the penalty {name}, got a part of it.")
    if box is not None and (is_traced(box) or not all(np.all(np.isinf(side)) for side in box)):
        raise ValueError(f"bounds: expected none for params{path}, whose penalty {name} is not separable: pass None there.")


def _in_precision(penalty: Any, dtype: Any) -> Any:
    """Return a penalty with its numbers in one precision."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if isinstance(leaf, jax.Array) else np.array(leaf, dtype), penalty)


def _check_shapes(path: str, penalty: Any, leaf: Any) -> None:
    """Check that the numbers of a penalty fit an array; of a penalty of the user, what it returns."""
    name, like = type(penalty).__name__, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    if type(penalty).__module__ == Penalty.__module__:
        if hasattr(penalty, "check_shape"):
            try:
                penalty.check_shape(leaf.shape)
            except ValueError as error:
                raise ValueError(f"penalty{path}: {name}: {error}") from None
        weight = getattr(penalty, "weight", None)
        shape = penalty.weights_shape(leaf.shape) if hasattr(penalty, "weights_shape") else leaf.shape
        if weight is not None and not _broadcasts(np.shape(weight), shape):
            raise ValueError(f"penalty{path}: {name}: weight: expected a number or shape {shape}, got shape {np.shape(weight)}.")
        return
    with explained("penalty"):
        steps = like if _is_separable(penalty) else jax.ShapeDtypeStruct((), leaf.dtype)
        found = {
            "value": jax.eval_shape(lambda penalty, x: penalty.value(x), penalty, like),
            "prox": jax.eval_shape(lambda penalty, x, step: penalty.prox(x, step), penalty, like, steps),
        }
    for method, shape in (("value", ()), ("prox", leaf.shape)):
        got = found[method]
        if getattr(got, "shape", None) != shape or got.dtype != leaf.dtype:
            shown = f"{got.dtype}{list(got.shape)}" if hasattr(got, "dtype") else check.show(got)
            raise ValueError(f"penalty{path}: expected {name}.{method} to return {leaf.dtype}{list(shape)}, got {shown}.")


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    return len(shape) <= len(to) and all(n in (1, m) for n, m in zip(shape[::-1], to[::-1], strict=False))


def _check_inside(name: str, penalty: Any, leaf: Any) -> None:
    """Check that a penalty of this package is finite at the start."""
    if not (type(penalty).__module__ == Penalty.__module__ and hasattr(penalty, "project")) or is_traced(leaf):
        return
    x = np.asarray(leaf)
    index = check_arrays.first(np.asarray(x < 0))
    if index is not None:
        raise ValueError(f"{check.entry(name, index)}: expected a number >= 0, with its penalty NonNegative, got {x[index]!s}.")


def _free_places(held: Any, size: int) -> np.ndarray | None:
    """Return which numbers of an array are free, as one of booleans; None where all are."""
    if held is False:
        return None
    return ~np.frombuffer(held, bool) if isinstance(held, bytes) else np.zeros(size, bool)


def _restricted(penalty: Any, leaf: Any, which: np.ndarray) -> Any:
    """Return a separable penalty for a part of an array."""

    def one(number: Any) -> Any:
        if not np.ndim(number):
            return number
        return (jnp if is_traced(number) else np).broadcast_to(number, leaf.shape).reshape(-1)[which]

    return jax.tree.map(one, penalty)
