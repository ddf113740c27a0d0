"""Frozen dataclasses that are pytrees, and the few tree operations that everything else shares."""

import copy
import dataclasses
import functools
import importlib
import itertools
import operator
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax

_Class = TypeVar("_Class", bound=type)
_TRACER = jax.core.Tracer


def static(default: Any = dataclasses.MISSING) -> Any:
    """Return a dataclass field that belongs to the structure of the pytree: another value means another program."""
    return dataclasses.field(default=default, metadata={"static": True})


def untracked(default: Any) -> Any:
    """Return a dataclass field that is no part of the pytree: None wherever JAX has rebuilt it."""
    return dataclasses.field(default=default, compare=False, repr=False, metadata={"aside": True})


@dataclass_transform(frozen_default=True, field_specifiers=(static, untracked, dataclasses.field))
def pytree(cls: _Class) -> _Class:
    """Make a class a frozen dataclass that is a pytree, for methods, schedules and rules.

    A field made by `dataclasses.field(metadata={"static": True})` belongs to the structure instead: another value of it means
    another program, where another value of a child does not. Rebuilding an object from its children skips `__init__` and
    `__post_init__`, so that checks there see what a person wrote and never a placeholder of JAX itself.

    >>> import jax, jaxgd
    >>> @jaxgd.pytree
    ... class Point:
    ...     x: float
    ...     y: float
    >>> jax.tree.map(lambda leaf: 2 * leaf, Point(1.0, 2.0)) == Point(2.0, 4.0)
    True
    """
    if not isinstance(cls, type):
        raise TypeError(f"pytree: expected a class, got {cls!r}.")
    cls = dataclasses.dataclass(frozen=True)(cls)
    asides = [field.name for field in dataclasses.fields(cls) if field.metadata.get("aside")]
    fields = [field for field in dataclasses.fields(cls) if field.name not in asides]
    children = tuple(field.name for field in fields if not field.metadata.get("static"))
    structure = tuple(field.name for field in fields if field.metadata.get("static"))

    children_of, structure_of = _getter(children), _getter(structure)

    def flatten_with_keys(node: Any) -> tuple[Any, Any]:
        keyed = tuple((jax.tree_util.GetAttrKey(name), value) for name, value in zip(children, children_of(node), strict=True))
        return keyed, structure_of(node)

    def flatten(node: Any) -> tuple[Any, Any]:
        return children_of(node), structure_of(node)

    def unflatten(values: Any, leaves: Any) -> Any:
        node = object.__new__(cls)
        for name, value in zip(children + structure, tuple(leaves) + tuple(values), strict=True):
            object.__setattr__(node, name, value)
        for name in asides:
            object.__setattr__(node, name, None)
        return node

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function that gives the values of some fields of an object."""
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda node: tuple([getattr(node, name) for name in names])


def with_fields(node: Any, **fields: Any) -> Any:
    """Return a copy of a pytree dataclass with some fields changed; unlike `dataclasses.replace` it checks nothing again."""
    changed = copy.copy(node)
    for name, value in fields.items():
        object.__setattr__(changed, name, value)
    return changed


def at_least_float32(leaf: Any) -> jax.Array:
    """Return an array in at least 32 bits, to sum and to remember in."""
    return leaf.astype(jnp.float32) if jnp.dtype(leaf.dtype).itemsize < 4 else jnp.asarray(leaf)


def pack(tree: Any) -> jax.Array:
    """Return all numbers of a tree in one vector, in the tree's `working_dtype`."""
    dtype = working_dtype(tree)
    return jnp.concatenate([jnp.asarray(leaf).reshape(-1).astype(dtype) for leaf in jax.tree.leaves(tree)])


def unpack(vector: jax.Array, like: Any) -> Any:
    """Return a vector as a tree of the structure, shapes and dtypes of another: the inverse of `pack`."""
    leaves, structure = jax.tree.flatten(like)
    parts, place = [], 0
    for leaf in leaves:
        parts.append(vector[place : place + leaf.size].reshape(leaf.shape).astype(leaf.dtype))
        place += leaf.size
    return structure.unflatten(parts)


def bundled(tree: Any, dtype: Any) -> tuple[jax.Array, ...]:
    """Return a tree of many arrays as few: those of one shape stacked, in one precision.

    A loop carries few arrays faster than many.

    >>> import jax.numpy as jnp
    >>> parts = jnp.zeros(()), jnp.ones(3), jnp.asarray(True)
    >>> [part.shape for part in bundled(parts, jnp.float32)]
    [(2,), (1, 3)]
    >>> bool(unbundled(bundled(parts, jnp.float32), parts)[2])
    True
    """
    leaves = jax.tree.leaves(tree)
    shapes = dict.fromkeys(leaf.shape for leaf in leaves)
    return tuple(jnp.stack([leaf.astype(dtype) for leaf in leaves if leaf.shape == shape]) for shape in shapes)


def unbundled(bundles: tuple[jax.Array, ...], like: Any) -> Any:
    """Return the inverse of `bundled`: a tree of the structure, shapes and dtypes of another."""
    leaves, structure = jax.tree.flatten(like)
    shapes = dict.fromkeys(leaf.shape for leaf in leaves)
    rows = {shape: iter(jnp.unstack(bundle)) for shape, bundle in zip(shapes, bundles, strict=True)}
    return structure.unflatten([next(rows[leaf.shape]).astype(leaf.dtype) for leaf in leaves])


def select(condition: Any, chosen: Any, other: Any) -> Any:
    """`chosen` where the scalar `condition` holds, else `other`, leaf by leaf."""

    def pick(a: Any, b: Any) -> jax.Array:
        a, b = jnp.asarray(a), jnp.asarray(b)
        weak = (getattr(one, "weak_type", False) for one in (a, b))  # keys have none
        alike = a.shape == b.shape and a.dtype == b.dtype and next(weak) == next(weak)
        return lax.select(condition, a, b) if alike else jnp.where(condition, a, b)  # select is traced much faster

    condition = jnp.asarray(condition)
    return jax.tree.map(pick, chosen, other)


def put(array: jax.Array, place: Any, value: jax.Array, axis: int = 0) -> jax.Array:
    """Return an array with another row at a place, which lies within it; with another column for axis 1.

    Written with `at`, it would be a scatter, of which XLA makes a loop of its own.
    """
    return lax.dynamic_update_index_in_dim(array, value, place, axis, allow_negative_indices=False)


def taken(array: jax.Array, place: Any, axis: int = 0) -> jax.Array:
    """Return the row of an array at a place, which lies within it; the column for axis 1.

    Written with brackets, it would be more operations, for places that are negative.
    """
    return lax.dynamic_index_in_dim(array, place, axis, keepdims=False, allow_negative_indices=False)


def add(params: Any, update: Any) -> Any:
    """`params + update`, leaf by leaf, in the precision of the parameters."""
    return jax.tree.map(lambda x, u: x + u.astype(x.dtype), params, update)


def all_of(test: Any, *trees: Any) -> jax.Array:
    """Return whether `test` holds for every number in the trees (`test` maps leaves to an array of booleans)."""
    holds = jnp.asarray(True)
    for results in jax.tree.leaves(jax.tree.map(test, *trees)):
        holds = holds & jnp.all(results)
    return holds


def all_finite(scalar: jax.Array, *trees: Any) -> jax.Array:
    """Return whether a scalar and every number in some trees of one structure are finite.

    A number less itself is zero unless it is not finite: so one comparison serves two numbers, or more. The answer is handed from
    one reduction to the next, so that it comes out of the last, once: were it the conjunction of several, XLA would compute it
    again in each of the many places that look at it.
    """
    finite = jnp.isfinite(scalar)
    for leaves in sorted(zip(*map(jax.tree.leaves, trees), strict=True), key=lambda leaves: leaves[0].size):
        if leaves[0].size:  # all of nothing would forget the answer so far
            first, *others = [leaf - leaf for leaf in leaves]
            finite = jnp.all((first == (functools.reduce(jnp.add, others) if others else 0)) & finite)
    return finite


def largest(tree: Any, dtype: Any) -> jax.Array:
    """Return the largest absolute value in a tree, in `dtype`; NaN if there is one."""
    largest = jnp.zeros((), dtype)
    for leaf in jax.tree.leaves(tree):
        if leaf.size:
            largest = jnp.maximum(largest, jnp.max(jnp.abs(leaf)).astype(dtype))
    return largest


def safe_divisor(size: jax.Array) -> jax.Array:
    """Return a size to divide by: itself, or 1 where it is zero or not finite."""
    return jnp.where((size > 0) & (size < jnp.inf), size, 1)


def norm(tree: Any, dtype: Any) -> jax.Array:
    """Return the Euclidean norm of all numbers in a tree, in `dtype`; its squares neither overflow nor vanish."""
    scale = safe_divisor(largest(tree, dtype))
    total = jnp.zeros((), dtype)
    for leaf in jax.tree.leaves(tree):
        total = total + jnp.sum(jnp.square(leaf.astype(dtype) / scale))
    return scale * jnp.sqrt(total)


def inner(a: Any, b: Any, size: jax.Array, dtype: Any) -> jax.Array:
    """Return the inner product of a / size and b, in `dtype`; dividing first keeps it from overflowing."""
    products = jax.tree.map(lambda x, y: jnp.sum(x.astype(dtype) / safe_divisor(size) * y.astype(dtype)), a, b)
    return sum(jax.tree.leaves(products), start=jnp.zeros((), dtype))


def working_dtype(tree: Any) -> Any:
    """Return the precision for scalars that go with these arrays: float64 if any of them has it, else float32."""
    wide = any(jnp.dtype(leaf.dtype).itemsize == 8 for leaf in jax.tree.leaves(tree))
    return jnp.dtype(jnp.float64 if wide else jnp.float32)


def number_names(params: Any) -> tuple[str, ...]:
    """Return where each number is in the parameters, such as "params['w'][2]", in the order of their leaves."""
    found = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        place = "params" + jax.tree_util.keystr(path)
        found += [place + (f"[{','.join(map(str, index))}]" if index else "") for index in np.ndindex(np.shape(leaf))]
    return tuple(found)


def short_name(name: str) -> str:
    """Return a shorter form of the name of a number among the parameters.

    >>> short_name("params['w'][2]"), short_name("params['line']['slope']"), short_name("params[0]"), short_name("params")
    ('w[2]', 'line.slope', 'params[0]', 'params')
    """
    return re.sub(r"""\[(['"])(.*?)\1\]""", r".\2", name).removeprefix("params.")


def is_traced(*trees: Any) -> bool:
    """Return whether any leaf is being traced by an outer `jit`, `vmap` or `grad`."""
    return any([isinstance(leaf, _TRACER) for leaf in jax.tree.leaves(trees)])  # a list is faster here than a generator


def in_64_bits() -> bool:
    """Return whether JAX computes in 64 bits in this thread."""
    return bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined]


_calls = itertools.count()


def is_staged() -> bool:
    """Return whether what is computed here is traced into an outer program, as `jax.jit`, loops and `jax.checkpoint` do it.

    Later calls ask JAX, which takes a microsecond. The first, of which there may be no second, does not wait for that import.
    """
    if next(_calls) > 0:
        state, at_once = _state_of_trace()
        if state() == at_once:
            return False
    return is_traced(jax.device_put(np.zeros(())))  # which compiles nothing, but takes its time


@functools.cache
def _state_of_trace() -> tuple[Callable[[], Any], Any]:
    """Return what tells how JAX applies an operation, and what it tells where operations are applied at once: in a new thread."""
    state = importlib.import_module("jax.extend.core").get_opaque_trace_state
    with ThreadPoolExecutor(1) as thread:
        return state, thread.submit(state).result()


def detached(tree: Any) -> Any:
    """Return a tree of which an outer derivative sees constants alone."""

    def one(leaf: Any) -> Any:
        if not is_traced(leaf):
            return leaf
        constant = lax.stop_gradient(leaf)
        return constant if isinstance(constant, jax.Array) else jnp.asarray(constant)  # Python's numbers come as such

    return jax.tree.map(one, tree) if is_traced(tree) else tree


def integer(value: Any) -> Any:
    """Return a count as a Python integer, or as it is while traced."""
    return value if isinstance(value, jax.core.Tracer) else np.asarray(value).item()


def is_parameter(leaf: Any) -> bool:
    """Return whether a leaf of a checked start is a parameter: an array of floating numbers."""
    return isinstance(leaf, np.ndarray | jax.Array) and is_floating(leaf.dtype)


def is_floating(dtype: Any) -> bool:
    """Return whether a dtype is one of real floating numbers: what `jnp.issubdtype` says, sooner."""
    return isinstance(dtype, np.dtype) and (dtype.kind == "f" or (dtype.kind == "V" and jnp.issubdtype(dtype, jnp.floating)))


def replaced(leaves: list[Any], places: tuple[int, ...], others: Iterable[Any]) -> list[Any]:
    """Return leaves with others in some places."""
    new = dict(zip(places, others, strict=True))
    return [new.get(k, leaf) for k, leaf in enumerate(leaves)]


def parameters_of(tree: Any) -> Any:
    """Return a tree with None in the places of the leaves that are no parameters."""
    return jax.tree.map(lambda leaf: leaf if is_parameter(leaf) else None, tree)


def with_parameters(tree: Any, params: Any) -> Any:
    """Return a tree with other parameters in the places of its own: the inverse of `parameters_of`."""
    leaves, structure = jax.tree.flatten(tree)
    values = iter(jax.tree.leaves(params))
    return structure.unflatten([next(values) if is_parameter(leaf) else leaf for leaf in leaves])


def is_leaf(value: Any) -> bool:
    """Return whether a value is no pytree of its own."""
    return jax.tree.structure(value) == jax.tree.structure(0)


def is_number(value: Any) -> bool:
    """Return whether `value` is one real number, concrete or traced."""
    if isinstance(value, bool | np.bool_):
        return False
    if isinstance(value, int | float | np.integer | np.floating):
        return True
    return isinstance(value, jax.Array | np.ndarray) and value.shape == () and jnp.issubdtype(value.dtype, jnp.number)
