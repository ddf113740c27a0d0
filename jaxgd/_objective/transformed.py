"""A change of variables: a run moves unconstrained numbers, and the cost sees the parameters that they stand for.

What is fixed as a whole is left as it is. Where a part of an array is fixed, its unconstrained numbers are 0 and mean nothing: the
parameters get the fixed values, to the bit.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path

from jaxgd._checks import check, check_arrays, check_trees
from jaxgd._compile.closures import fresh, unjitted
from jaxgd._compile.explained import explained
from jaxgd._compile.memory import traced
from jaxgd._compile.program import apply, program_for
from jaxgd._frozen import FrozenParameters
from jaxgd._objective.half_precision import narrowed
from jaxgd._products import matmul
from jaxgd._trees import is_leaf, is_parameter, is_traced, pack, parameters_of, pytree, replaced, safe_divisor, static, unpack
from jaxgd.bounds import Bounds
from jaxgd.squares import of_others
from jaxgd.transforms import Transform

_EXPECTED = "a transform of jaxgd.transforms, or None"


@pytree
class Change:
    """A change of variables.

    Attributes:
        transforms: the transforms of some leaves.
        values: of each of these leaves the array whose fixed numbers are kept; None where all are free.
        masks: which of its numbers are fixed; None where all are free.
        places: the places of these leaves among all.
    """

    transforms: tuple[Transform, ...]
    values: tuple[Any, ...]
    masks: tuple[bytes | None, ...] = static()
    places: tuple[int, ...] = static()

    def forward(self, tree: Any) -> Any:
        """Return the parameters for unconstrained numbers."""
        return self._mapped(_forward, tree)

    def forward_each(self, tree: Any) -> Any:
        """Return the parameters of many points, all arrays with a leading axis.

        Arrays of NumPy, as histories are, are lengthened to a power of 2, so that few programs serve them all.
        """
        leaves, structure = jax.tree.flatten(tree)
        some = [leaves[k] for k in self.places]
        if all(isinstance(leaf, np.ndarray) for leaf in some):
            count = len(some[0])
            longer = [leaf[np.minimum(np.arange(1 << (count - 1).bit_length()), count - 1)] for leaf in some]
            found = [np.asarray(leaf)[:count] for leaf in self._computed(_forward_each, longer)]
        else:
            found = self._computed(_forward_each, some)
        return structure.unflatten(replaced(leaves, self.places, found))

    def inverse(self, tree: Any) -> Any:
        """Return the unconstrained numbers for parameters."""
        return self._mapped(_inverse, tree)

    def inverse_each(self, tree: Any) -> Any:
        """Return the unconstrained numbers of many points."""
        return self._mapped(_inverse_each, tree)

    def jacobians(self, tree: Any) -> tuple[jax.Array | None, ...]:
        """Return the derivatives of each parameter with respect to its unconstrained numbers, a matrix; None where it has none."""
        leaves = jax.tree.leaves(tree)
        some = [leaves[k] for k in self.places]
        matrices = dict(zip(self.places, self._computed(_jacobians, some), strict=True))
        return tuple(matrices.get(k) for k, leaf in enumerate(leaves) if is_parameter(leaf))

    def of_own(self, cost: Callable[..., Any]) -> Callable[..., Any]:
        """Return a cost as a function of the unconstrained numbers."""

        def change(function: Callable[..., Any]) -> Callable[..., Any]:
            return functools.partial(_called, function, self.places, self.transforms, self.masks, self.values)

        return of_others(cost, change)

    def _mapped(self, function: Callable[..., Any], tree: Any) -> Any:
        """Return a tree with some leaves changed by a function of the transforms and these leaves."""
        leaves, structure = jax.tree.flatten(tree)
        found = self._computed(function, [leaves[k] for k in self.places])
        return structure.unflatten(replaced(leaves, self.places, found))

    def _computed(self, function: Callable[..., Any], some: list[Any]) -> Any:
        """Return what a function makes of the transforms and their leaves, by a program where nobody traces."""
        bound = functools.partial(function, self.transforms, self.masks, self.values)
        if is_traced(self, some):
            return bound(some)
        ready = traced(_afresh, bound, some, name="transform")
        return program_for(apply, ready, some)(ready, some)


def _afresh(function: Any) -> Callable[..., Any]:
    """Return a function that sees its arrays afresh."""

    def call(leaves: list[Any]) -> Any:
        with fresh(function):
            return function(leaves)

    return call


def _called(cost: Any, places: Any, transforms: Any, masks: Any, values: Any, params: Any, *data: Any, **given: Any) -> Any:
    leaves, structure = jax.tree.flatten(params)
    own = _forward(transforms, masks, values, [leaves[k] for k in places])
    return unjitted(cost)(structure.unflatten(replaced(leaves, places, own)), *data, **given)


def _forward(transforms: Any, masks: Any, values: Any, leaves: list[Any]) -> list[Any]:
    found = [transform.forward(jnp.asarray(u)) for transform, u in zip(transforms, leaves, strict=True)]
    return [x if mask is None else jnp.where(_mask(mask, x), value, x) for x, mask, value in zip(found, masks, values, strict=True)]


def _inverse(transforms: Any, masks: Any, values: Any, leaves: list[Any]) -> list[Any]:
    del values
    found = []
    for transform, mask, leaf in zip(transforms, masks, leaves, strict=True):
        x = jnp.asarray(leaf)
        if mask is None:
            found.append(transform.inverse(x))
        else:
            held = _mask(mask, x)
            inside = jnp.where(held, transform.forward(jnp.zeros_like(x)), x)  # fixed values may lie anywhere
            found.append(jnp.where(held, 0, transform.inverse(inside)))
    return found


def _forward_each(transforms: Any, masks: Any, values: Any, leaves: list[Any]) -> list[Any]:
    return jax.vmap(functools.partial(_forward, transforms, masks, values))(leaves)


def _inverse_each(transforms: Any, masks: Any, values: Any, leaves: list[Any]) -> list[Any]:
    return jax.vmap(functools.partial(_inverse, transforms, masks, values))(leaves)


def _jacobians(transforms: Any, masks: Any, values: Any, leaves: list[Any]) -> list[Any]:
    def block(transform: Any, mask: Any, value: Any, u: Any) -> jax.Array:
        def own(numbers: jax.Array) -> jax.Array:
            return _forward([transform], [mask], [value], [numbers.reshape(u.shape)])[0].reshape(-1)

        return jax.jacfwd(own)(jnp.asarray(u).reshape(-1))

    return [block(*one) for one in zip(transforms, masks, values, leaves, strict=True)]


def _mask(mask: bytes, like: Any) -> np.ndarray:
    return np.frombuffer(mask, bool).reshape(like.shape)


class Parts(NamedTuple):
    """The parts of a problem: all parameters, with what else stands among them, the free, the fixed, and the box of the free."""

    start: Any
    params: Any
    frozen: FrozenParameters | None
    box: Bounds | None


def transformed(given: Any, transform: Any) -> Any:
    """Return a `Problem` whose run moves unconstrained numbers, by the argument `transform`."""
    change = change_of(transform, given.start, given.frozen)
    if change is None:
        return given
    draws = given.draws
    start = given.start if draws is None else draws
    check_inside("start", change, start if given.types is None else narrowed(start, given.types), each=draws is not None)
    if draws is not None:
        if given.frozen is not None:
            given.frozen.check_alike(draws)
        draws = change.inverse_each(draws)
    moved = unconstrained(change, Parts(given.start, given.params, given.frozen, given.box))
    return dataclasses.replace(given, cost=change.of_own(given.cost), draws=draws, change=change, **moved._asdict())


def unconstrained(change: Change, parts: Parts) -> Parts:
    """Return the parts of a problem for the unconstrained numbers, from those for the parameters."""
    box = None if parts.box is None else _box(change, parts)
    start, frozen = change.inverse(parts.start), parts.frozen
    if frozen is None:
        return Parts(start, start, None, box)
    held = zip(jax.tree.leaves(start), frozen.held.leaves, strict=True)
    values = tuple(jnp.asarray(leaf) for leaf, one in held if one is True or isinstance(one, bytes))
    frozen = FrozenParameters(values, frozen.held)
    return Parts(start, frozen.free(start), frozen, box)


def change_of(transform: Any, start: Any, frozen: FrozenParameters | None) -> Change | None:
    """Check the argument `transform`: None, or transforms for parameters or whole branches of the tree."""
    if transform is None:
        return None
    given = iter(check_trees.values_for("transform", transform, parameters_of(start), _is_transform))
    named, _ = tree_flatten_with_path(start)
    found = []
    for k, (path, leaf) in enumerate(named):
        if not is_parameter(leaf):
            continue
        one, held = _checked(f"transform{keystr(path)}", next(given)), False if frozen is None else frozen.held.leaves[k]
        if one is None or held is True:
            continue
        _check_shapes(keystr(path), one, leaf)
        if held is False:
            found.append((one, None, None, k))
        elif one.elementwise:
            found.append((one, jnp.asarray(leaf), held, k))
        else:
            raise ValueError(
                f"fixed{keystr(path)}: expected all or nothing of an array with the transform {type(one).__name__}, "
                "whose numbers depend on each other, got a part of it."
            )
    return Change(*zip(*found, strict=True)) if found else None


def _is_transform(node: Any) -> bool:
    return node is None or isinstance(node, Transform)


def _checked(name: str, value: Any) -> Any:
    """Check that a value is a transform or None."""
    if isinstance(value, type) and issubclass(value, Transform):
        raise TypeError(f"{name}: expected an instance, as in {value.__name__}(...), got the class {value.__name__}.")
    if not _is_transform(value):
        raise TypeError(f"{name}: expected {_EXPECTED}, got {check.show(value)}.")
    if value is not None and is_leaf(value):
        raise TypeError(
            f"{name}: expected a transform that is a pytree: decorate the class {type(value).__name__} with jaxgd.pytree."
        )
    return value


def _check_shapes(path: str, transform: Transform, leaf: Any) -> None:
    """Check the shapes that a transform makes of those of a parameter."""
    try:
        shape = transform.unconstrained_shape(leaf.shape)
    except ValueError as error:
        raise ValueError(f"transform{path}: {error}") from None
    if type(transform).__module__ == Transform.__module__:
        return
    for name, came, wanted in (("forward", shape, leaf.shape), ("inverse", leaf.shape, shape)):
        with explained("transform"):
            found = jax.eval_shape(getattr(transform, name), jax.ShapeDtypeStruct(came, leaf.dtype))
        if getattr(found, "shape", None) != wanted or found.dtype != leaf.dtype:
            expected = f"{leaf.dtype}{list(wanted)} for {leaf.dtype}{list(came)}"
            got = f"{found.dtype}{list(found.shape)}" if hasattr(found, "dtype") else check.show(found)
            raise ValueError(f"transform{path}: expected {type(transform).__name__}.{name} to return {expected}, got {got}.")


def check_inside(name: str, change: Change, params: Any, *, each: bool = False) -> None:
    """Check that parameters, or those of `each` of many runs, lie in the domains of their transforms."""
    named, _ = tree_flatten_with_path(params)
    for transform, mask, k in zip(change.transforms, change.masks, change.places, strict=True):
        path, leaf = named[k]
        if is_traced(leaf, transform) or not getattr(leaf, "is_fully_addressable", True):
            continue
        for x in np.asarray(leaf) if each else [np.asarray(leaf)]:
            inside = np.broadcast_to(transform.contains(x), x.shape)
            index = check_arrays.first(~inside if mask is None else ~(inside | _mask(mask, x)))
            if index is not None:
                where = index if transform.elementwise else index[:-1]
                got = check.show(x[where].tolist())
                of = f"the domain of its transform {type(transform).__name__}"
                raise ValueError(f"{check.entry(name + keystr(path), where)}: expected {transform.domain}, {of}, got {got}.")


def _box(change: Change, parts: Parts) -> Bounds:
    """Return the box for the unconstrained numbers, which has no walls for those of a transform. Bounds on these are refused."""
    box: Any = parts.box
    paths = [path for path, _ in tree_flatten_with_path(parts.start)[0]]
    structure, sides = jax.tree.structure(parts.start), []
    for sign, side in ((-1, box.lower), (1, box.upper)):
        leaves = structure.flatten_up_to(side)
        for k, transform, mask in zip(change.places, change.transforms, change.masks, strict=True):
            if is_traced(leaves[k]) or not np.all(np.isinf(leaves[k])):
                cure = "pass None there, or the bounds as jaxgd.transforms.Interval(low, high)"
                of = f"params{keystr(paths[k])}, which has the transform {type(transform).__name__}"
                raise ValueError(f"bounds: expected none for {of}: {cure}.")
            if mask is None:
                leaves[k] = np.full(transform.unconstrained_shape(leaves[k].shape), sign * np.inf, leaves[k].dtype)
        sides.append(structure.unflatten(leaves))
    return Bounds(*sides)


def in_own_parameters(change: Change, start: Any, fields: dict[str, Any], params: Any) -> dict[str, Any]:
    """Return the standard errors, the covariance and the correlations of parameters from those of unconstrained numbers.

    This is the delta method, J C transpose(J). What depends on a number that is not determined is not determined itself.
    """
    plan = change.jacobians(start), params, fields["correlation"], pack(fields["standard_errors"])
    return (_propagated if is_traced(plan) else program_for(_propagated, *plan))(*plan)


def _propagated(blocks: Any, params: Any, correlation: jax.Array, errors: jax.Array) -> dict[str, Any]:
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    blocks = [jnp.eye(size) if block is None else block for block, size in zip(blocks, sizes, strict=True)]
    jacobian = jax.scipy.linalg.block_diag(*[block.astype(errors.dtype) for block in blocks])
    lost = jnp.isnan(errors)
    lost_too = jnp.any((jacobian != 0) & lost, axis=1)
    moves = jacobian * jnp.where(lost, 0, errors)
    matrix = matmul(matmul(moves, jnp.where(jnp.isnan(correlation), 0, correlation)), moves.T)
    spread = jnp.sqrt(jnp.maximum(jnp.diagonal(matrix), 0))
    size, held = safe_divisor(spread), (spread == 0) & ~lost_too
    correlation = jnp.where(jnp.eye(len(spread), dtype=bool), 1, jnp.clip(matrix / size[:, None] / size, -1, 1))
    correlation = jnp.where(lost_too[:, None] | lost_too, jnp.nan, correlation)
    correlation = jnp.where(held[:, None] | held, 0, correlation)
    errors = jnp.where(lost_too, jnp.nan, spread)
    matrix = jnp.where(held[:, None] | held, 0, correlation * errors[:, None] * errors)
    return {"matrix": matrix, "correlation": correlation, "standard_errors": unpack(errors, params)}
