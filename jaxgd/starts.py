"""Random starts: functions of a key that return parameters.

A start may have a method `many(key, count)`, too, which returns the starts of `count` runs with a leading axis; `minimize` calls it
for `n_starts`. Any other is called with a key for each run.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import keystr

from jaxgd import _sobol
from jaxgd._checks import check, check_arrays, check_trees
from jaxgd._trees import is_traced

__all__ = ["normal", "sobol", "uniform"]


def normal(shape: Any = (), scale: float = 1.0) -> Callable[[jax.Array], Any]:
    """Return a random start: independent normal numbers of mean zero.

    Args:
        shape: an integer, a tuple of integers, or a pytree of such shapes.
        scale: the standard deviation, > 0.

    Returns:
        A function key -> params, to be passed as `start` together with `key`.

    Raises:
        TypeError, ValueError: for a shape that is none, or a scale that is not positive.

    >>> import jax
    >>> jax.tree.map(lambda leaf: leaf.shape, normal({"weights": (3, 2), "bias": ()})(jax.random.key(0)))
    {'bias': (), 'weights': (3, 2)}
    """
    check.positive("scale", scale)
    shapes, structure = check_shape("shape", shape)

    def draw(key: jax.Array) -> Any:
        keys = jax.random.split(_checked(key), len(shapes))
        dtype = jnp.result_type(float)
        draws = [
            jnp.asarray(scale, dtype) * jax.random.normal(one_key, one if isinstance(one, tuple) else (one,), dtype)
            for one_key, one in zip(keys, shapes, strict=True)
        ]
        return jax.tree.unflatten(structure, draws)

    return draw


def uniform(low: Any, high: Any) -> Callable[[jax.Array], Any]:
    """Return a random start: independent numbers, uniformly distributed between two limits.

    Args:
        low: the lower limits, finite: a number, an array, or a pytree of them.
        high: the upper limits, above the lower ones. The two are broadcast against each other, leaf by leaf and as branches of a
            tree, and have the structure and the shapes of the parameters then.

    Returns:
        A function key -> params, to be passed as `start` together with `key`. A number is one of 2**32 that lie evenly between the
        limits, half a step from these, or in 32 bits of 2**23. So none is at a limit, and a key gives the same start in 32 bits as
        in 64, to one part in 2**23 of the width.

    Raises:
        TypeError, ValueError: for limits that are not finite, or not in order, or do not go together; the message names the entry.
            When it is drawn, for limits that 32 bits can't tell apart.

    >>> import jax
    >>> jax.tree.map(lambda leaf: leaf.shape, uniform({"rate": 0.0, "weights": [-1.0, -2.0]}, 5.0)(jax.random.key(0)))
    {'rate': (), 'weights': (2,)}
    """
    box = _Box(low, high)

    def draw(key: jax.Array) -> Any:
        keys = jax.random.split(_checked(key), len(box.lows))
        return box.at([jax.random.bits(one, side.shape, jnp.uint32) for one, side in zip(keys, box.lows, strict=True)])

    return draw


def sobol(low: Any, high: Any) -> "Sobol":
    """Return starts that fill a box evenly: a scrambled Sobol sequence.

    Independent random points leave gaps and make clusters; of these points, each is in one of the largest gaps of those before it.
    They are most even where `n_starts` is a power of 2.

    Args:
        low: the lower limits, as in `uniform`, of 64 numbers at most.
        high: the upper limits.

    Returns:
        A start, to be passed together with `key` and `n_starts`: the runs begin at the points of one sequence, whose scrambling
        follows from the key. Point k is the same whatever `n_starts` is. Called with a key, the start gives the first point, and
        its method `many(key, count)` gives the first `count`, with a leading axis.

    Raises:
        TypeError, ValueError: as in `uniform`, and for more than 64 numbers, where `uniform` serves.

    I. M. Sobol, USSR Comput. Math. Math. Phys. 7 (1967), with the direction numbers of S. Joe and F. Kuo, SIAM J. Sci. Comput. 30
    (2008), in the order of `scipy.stats.qmc.Sobol`. The scrambling is, as there, by random matrices and shifts of binary digits
    (J. Matousek, J. Complexity 14, 1998), with other random numbers.

    >>> import jax
    >>> points = sobol([0.0, 0.0], 1.0).many(jax.random.key(0), 4)
    >>> (points * 4).astype(int).T.tolist()  # one point in each quarter of each side
    [[1, 2, 3, 0], [0, 2, 1, 3]]
    """
    return Sobol(_Box(low, high))


class Sobol:
    """A start whose many points are those of one sequence."""

    def __init__(self, box: "_Box") -> None:
        size = sum(side.size for side in box.lows)
        if size > _sobol.MOST:
            raise ValueError(
                f"low: expected at most {_sobol.MOST} numbers for a Sobol sequence, got {size}: pass jaxgd.uniform(low, high)."
            )
        self.box = box

    def __call__(self, key: jax.Array) -> Any:
        return jax.tree.map(lambda leaf: leaf[0], self.many(key, 1))

    def many(self, key: jax.Array, count: int) -> Any:
        """Return the first points of the sequence, all leaves with a leading axis."""
        shapes = [side.shape for side in self.box.lows]
        places = np.cumsum([0, *(side.size for side in self.box.lows)])
        rows = _sobol.scrambled(_checked(key), int(places[-1]), count)
        return self.box.at(
            [rows[:, at:end].reshape(count, *shape) for at, end, shape in zip(places[:-1], places[1:], shapes, strict=True)]
        )


class _Box:
    """The limits of parameters: arrays in the order of the leaves, with their names, and the structure."""

    def __init__(self, low: Any, high: Any) -> None:
        low, high = _alike(_arrays("low", low), _arrays("high", high))
        named, self.structure = jax.tree_util.tree_flatten_with_path(low)
        if not named:
            raise ValueError(f"low: expected at least one number, got {check.show(low)}.")
        self.names = [keystr(path) for path, _ in named]
        pairs = [_pair(name, a, b) for name, (_, a), b in zip(self.names, named, jax.tree.leaves(high), strict=True)]
        self.lows, self.highs = ([pair[k] for pair in pairs] for k in range(2))

    def at(self, bits: list[jax.Array]) -> Any:
        """Return the points whose places between the limits are given by 32 binary digits for each number."""
        return self.structure.unflatten(map(_between, self.names, self.lows, self.highs, bits))


def _arrays(name: str, side: Any) -> Any:
    """Return one side of a box, checked: arrays, of 64 bits unless they are traced."""
    named, structure = check_trees.flattened(name, side)
    arrays = []
    for path, leaf in named:
        where = name + keystr(path)
        array = check.real(where, leaf, "a number, an array, or a pytree of them")
        index = None if array is None else check_arrays.first(~np.isfinite(array))
        if array is not None and index is not None:
            raise ValueError(f"{check.entry(where, index)}: expected a finite number, got {array[index]!s}.")
        arrays.append(jnp.asarray(leaf) if array is None else array)
    return structure.unflatten(arrays)


def _alike(low: Any, high: Any) -> tuple[Any, Any]:
    """Return two trees, of which one may be that of branches of the other, in one structure."""
    try:
        return jax.tree.broadcast(low, high), high
    except ValueError:
        pass
    try:
        return low, jax.tree.broadcast(high, low)
    except ValueError:
        layouts = f"{check_trees.layout(low)} and {check_trees.layout(high)}"
        raise ValueError(f"high: expected a number, or a pytree like low, got {layouts}.") from None


def _pair(name: str, low: Any, high: Any) -> tuple[Any, Any]:
    """Return two limits of one parameter in its shape, checked."""
    try:
        shape = np.broadcast_shapes(low.shape, high.shape)
    except ValueError:
        expected = f"high{name}: expected a shape that broadcasts with that of low{name}"
        raise ValueError(f"{expected}, {low.shape}, got shape {high.shape}.") from None
    if is_traced(low, high):
        return jnp.broadcast_to(low, shape), jnp.broadcast_to(high, shape)
    low, high = np.broadcast_to(low, shape), np.broadcast_to(high, shape)
    index = check_arrays.first(low >= high)
    if index is not None:
        where, below = check.entry(f"low{name}", index), check.entry(f"high{name}", index)
        raise ValueError(f"{where}: expected a number below {below}, {high[index]!s}, got {low[index]!s}.")
    return low, high


def _between(name: str, low: Any, high: Any, bits: jax.Array) -> jax.Array:
    """Return numbers between two limits, in the present precision, from their places: binary digits behind the point.

    The places are in the middle of what these digits leave open, so that no number lies at a limit but by rounding.
    """
    dtype = jnp.result_type(float)
    if not is_traced(low, high):
        sides = [check_arrays.cast(f"{side}{name}", one, dtype) for side, one in (("low", low), ("high", high))]
        index = check_arrays.first(sides[0] >= sides[1])
        if index is not None:
            got = f"{low[index]!s} and {high[index]!s}"
            raise ValueError(
                f"{check.entry(f'low{name}', index)}: expected limits that {dtype} can tell apart, got {got}: pass dtype='float64'."
            )
    low, high = jnp.asarray(low, dtype), jnp.asarray(high, dtype)
    digits = min(jnp.finfo(dtype).nmant, 32)
    place = ((bits >> (32 - digits)).astype(dtype) + 0.5) * 2.0**-digits
    points = 2 * (low / 2 + (high / 2 - low / 2) * place)  # the width itself may be beyond all numbers
    return jnp.clip(points, low, jnp.nextafter(lax.stop_gradient(high), lax.stop_gradient(low)))


def _checked(key: Any) -> jax.Array:
    """Return the key of a start as one of the new style."""
    checked = check.random_key(key)
    if checked is None:
        check.missing_key("a random start")
    return jax.random.key(checked) if isinstance(checked, int) else checked


def check_shape(name: str, shape: Any) -> tuple[list[Any], Any]:
    """Check a pytree of shapes, and return its leaves, integers and tuples of them, and its structure."""
    if isinstance(shape, jax.Array) and jnp.issubdtype(shape.dtype, jax.dtypes.prng_key):
        raise TypeError("start: expected a function key -> params, got jaxgd.normal itself: call it with a shape, as in normal(3).")
    shapes, structure = jax.tree.flatten(shape, is_leaf=_is_shape)
    if not shapes:
        raise ValueError(f"{name}: expected at least one shape, got {check.show(shape)}.")
    for one in shapes:
        for size in one if isinstance(one, tuple) else (one,):
            if not isinstance(size, int | np.integer) or isinstance(size, bool):
                expected = "an integer, a tuple of integers, or a pytree of such shapes"
                raise TypeError(f"{name}: expected {expected}, got {check.show(shape)}.")
            check.integer(name, size, 0)
    return shapes, structure


def _is_shape(node: Any) -> bool:
    return isinstance(node, tuple) and all(isinstance(size, int | np.integer) for size in node)
