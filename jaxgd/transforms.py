"""Transforms: parameters that have to lie in a domain, as functions of unconstrained numbers.

With `transform=` a run moves unconstrained numbers u, and the cost sees the parameters x = forward(u). Whatever u is, x lies in its
domain, so that no step can leave it:

    Positive()            numbers above 0             x = exp(u)
    Interval(low, high)   numbers between two limits  x = low + (high - low) / (1 + exp(-u))
    Ordered()             increasing numbers          x[0] = u[0],  x[i] = x[i - 1] + exp(u[i])
    Simplex()             shares of a whole           x = softmax(V u),  V an orthonormal basis of what sums to 0

A limit itself is never reached. Where the minimum may lie there, `bounds=` finds it exactly, and a transform only comes near.

B. Carpenter and others, Stan: a probabilistic programming language, J. Stat. Softw. 76 (2017), and the chapter on transforms in the
Stan Reference Manual; J. Egozcue and others, Isometric logratio transformations for compositional data analysis, Math. Geol. 35
(2003).
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgd._checks import check
from jaxgd._checks.check_arrays import first
from jaxgd._trees import is_traced, pytree

__all__ = ["Interval", "Ordered", "Positive", "Simplex", "Transform"]

_ROUNDINGS = 16.0  # by which the sum of a start's shares may differ from 1


class Transform:
    """The base class of transforms: a smooth map from unconstrained numbers to parameters, and its inverse.

    A transform of your own derives from it, is decorated with `jaxgd.pytree`, and has the methods `forward` and `inverse`, written
    with `jax.numpy`. The numbers that it needs are its fields. `forward` has to keep the precision, and to be twice differentiable.
    Where u has another shape than the parameters, `unconstrained_shape` says so, and where a finite inverse does not tell whether
    they lie in the domain, `contains` does.

    Attributes:
        domain: the domain in words, for the error of a start outside.
        elementwise: whether each parameter is a function of one unconstrained number, so that parts of an array can be fixed.

    >>> import jax.numpy as jnp, jaxgd
    >>> @jaxgd.pytree
    ... class AtLeast(jaxgd.transforms.Transform):
    ...     low: float
    ...     domain, elementwise = "a number above low", True
    ...     def forward(self, u):
    ...         return self.low + jnp.exp(u)
    ...     def inverse(self, x):
    ...         return jnp.log(x - self.low)
    >>> result = jaxgd.minimize(lambda x: x + 1 / (x - 2), 5.0, transform=AtLeast(2.0))
    >>> round(float(result.params), 3)
    3.0
    """

    domain: ClassVar[str] = "a value in the domain"
    elementwise: ClassVar[bool] = False

    def forward(self, u: jax.Array) -> jax.Array:
        """Return the parameters for unconstrained numbers."""
        raise NotImplementedError(f"{type(self).__name__}: a transform needs a method forward(u).")

    def inverse(self, x: jax.Array) -> jax.Array:
        """Return the unconstrained numbers for parameters in the domain."""
        raise NotImplementedError(f"{type(self).__name__}: a transform needs a method inverse(x).")

    def unconstrained_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the unconstrained numbers for parameters of a shape: the same unless a subclass says another.

        A shape that it can't have is a ValueError.
        """
        return shape

    def contains(self, x: np.ndarray) -> Any:
        """Return which parameters lie in the domain: unless a subclass says otherwise, those whose inverse is finite."""
        inside = np.isfinite(np.asarray(self.inverse(jnp.asarray(x))))
        return inside if inside.shape == x.shape else np.all(inside)


@pytree
class Positive(Transform):
    """Numbers above 0: x = exp(u).

    The exponential, and not a softplus, since it knows no scale: parameters in other units are unconstrained numbers moved by a
    constant, and the run is the same. A step of 1 is a factor of e, for small numbers and large ones, and errors of u are relative
    errors of x. In return x comes near 0 by factors alone: where the minimum is at 0, a run ends at some small number, which
    `bounds=(0, None)` would not. x is at least the smallest normal number of its precision.

    >>> import jax.numpy as jnp, jaxgd
    >>> result = jaxgd.minimize(lambda x: x - jnp.log(x), 1e-6, transform=Positive())
    >>> round(float(result.params), 3)
    1.0
    """

    domain: ClassVar[str] = "a number > 0"
    elementwise: ClassVar[bool] = True

    def forward(self, u: jax.Array) -> jax.Array:
        return _at_least(jnp.exp(u), jnp.finfo(u.dtype).tiny)

    def inverse(self, x: jax.Array) -> jax.Array:
        return jnp.log(x)

    def contains(self, x: np.ndarray) -> Any:
        return x >= jnp.finfo(x.dtype).tiny


@pytree
class Interval(Transform):
    """Numbers between two limits: x = low + (high - low) / (1 + exp(-u)).

    Near each limit the distance to that limit is exp(±u) times the width, and keeps its precision as far as numbers near the limit
    do. x stays at least one rounding away from the limits.

    Args:
        low: the lower limit, finite: a number, or an array that broadcasts to the parameter.
        high: the upper limit, above the lower one.

    >>> import jax.numpy as jnp
    >>> Interval(-1, 9).forward(jnp.array([-1e9, 0.0, 1e9])).round(3).tolist()
    [-1.0, 4.0, 9.0]
    """

    low: Any
    high: Any

    elementwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            value = getattr(self, name)
            array = check.real(f"Interval: {name}", value, "a number or an array")
            if array is not None and not np.all(np.isfinite(array)):
                raise ValueError(f"Interval: {name}: expected finite numbers, got {check.show(value)}.")
            if isinstance(value, list | tuple):
                object.__setattr__(self, name, np.asarray(array))
        if is_traced(self.low, self.high):
            return
        try:
            low, high = np.broadcast_arrays(np.asarray(self.low, np.float64), np.asarray(self.high, np.float64))
        except ValueError:
            shapes = f"{np.shape(self.low)} and {np.shape(self.high)}"
            raise ValueError(f"Interval: expected limits of shapes that broadcast, got {shapes}.") from None
        index = first(low >= high)
        if index is not None:
            where = check.entry("low", index)
            raise ValueError(f"Interval: {where}: expected a number below high, {high[index]!s}, got {low[index]!s}.")

    @property
    def domain(self) -> str:  # type: ignore[override]
        """The domain in words."""
        return f"a number between {check.show(self.low)} and {check.show(self.high)}"

    def forward(self, u: jax.Array) -> jax.Array:
        low, high = jnp.asarray(self.low, u.dtype), jnp.asarray(self.high, u.dtype)
        half = high / 2 - low / 2  # the width itself may be beyond all numbers
        x = jnp.where(u < 0, low + half * (2 * jax.nn.sigmoid(u)), high - half * (2 * jax.nn.sigmoid(-u)))
        low, high = lax.stop_gradient((low, high))
        return -_at_least(-_at_least(x, _beside(low, high)), -_beside(high, low))

    def inverse(self, x: jax.Array) -> jax.Array:
        return jnp.log(x - jnp.asarray(self.low, x.dtype)) - jnp.log(jnp.asarray(self.high, x.dtype) - x)

    def unconstrained_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        limits = np.broadcast_shapes(np.shape(self.low), np.shape(self.high))
        if len(limits) > len(shape) or any(n not in (1, m) for n, m in zip(limits[::-1], shape[::-1], strict=False)):
            raise ValueError(
                f"Interval: expected limits that broadcast to the shape {shape} of the parameters, got shape {limits}."
            )
        return shape

    def contains(self, x: np.ndarray) -> Any:
        return (x > np.asarray(self.low, x.dtype)) & (x < np.asarray(self.high, x.dtype))


@pytree
class Ordered(Transform):
    """Increasing numbers along the last axis: x[0] = u[0], x[i] = x[i - 1] + exp(u[i]).

    Neighbours whose difference is less than the spacing of numbers there come out equal.

    >>> import jax.numpy as jnp
    >>> Ordered().forward(jnp.zeros(3)).tolist()
    [0.0, 1.0, 2.0]
    """

    domain: ClassVar[str] = "increasing numbers along the last axis"

    def forward(self, u: jax.Array) -> jax.Array:
        return jnp.cumsum(jnp.concatenate([u[..., :1], jnp.exp(u[..., 1:])], axis=-1), axis=-1)

    def inverse(self, x: jax.Array) -> jax.Array:
        return jnp.concatenate([x[..., :1], jnp.log(jnp.diff(x, axis=-1))], axis=-1)

    def unconstrained_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return _with_axis("Ordered", shape, 1)

    def contains(self, x: np.ndarray) -> Any:
        return np.concatenate([np.ones_like(x[..., :1], bool), np.diff(x, axis=-1) > 0], axis=-1)


@pytree
class Simplex(Transform):
    """Shares of a whole: k numbers above 0 along the last axis, of sum 1, by k - 1 unconstrained ones.

    These are the isometric log-ratios of the shares, J. Egozcue and others, Math. Geol. 35 (2003), with Helmert's basis V:

        x = softmax(V u)        u = transpose(V) log(x)

    In contrast to the breaking of a stick (M. Betancourt, Cruising the simplex, 2012), all shares are treated alike, and equal
    shares are u = 0. A share is at least the smallest normal number of its precision.

    >>> import jax.numpy as jnp, jaxgd
    >>> counts = jnp.array([1.0, 2.0, 5.0])
    >>> result = jaxgd.minimize(lambda p: -jnp.sum(counts * jnp.log(p)), [0.2, 0.3, 0.5], transform=Simplex())
    >>> result.params.round(3).tolist()
    [0.125, 0.25, 0.625]
    """

    domain: ClassVar[str] = "numbers > 0 that sum to 1 along the last axis"

    def forward(self, u: jax.Array) -> jax.Array:
        places, weights = _helmert(u.shape[-1], u.dtype)
        scaled = u * weights
        nothing = jnp.zeros((*u.shape[:-1], 1), u.dtype)
        ahead = jnp.concatenate([jnp.flip(jnp.cumsum(jnp.flip(scaled, -1), axis=-1), -1), nothing], axis=-1)
        logs = ahead - jnp.concatenate([nothing, places * scaled], axis=-1)
        return _at_least(jax.nn.softmax(logs, axis=-1), jnp.finfo(u.dtype).tiny)

    def inverse(self, x: jax.Array) -> jax.Array:
        places, weights = _helmert(x.shape[-1] - 1, x.dtype)
        logs = jnp.log(x)
        return (jnp.cumsum(logs[..., :-1], axis=-1) - places * logs[..., 1:]) * weights

    def unconstrained_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        *others, count = _with_axis("Simplex", shape, 2)
        return (*others, count - 1)

    def contains(self, x: np.ndarray) -> Any:
        far = np.abs(np.sum(x, axis=-1, keepdims=True, dtype=np.float64) - 1) > _ROUNDINGS * float(jnp.finfo(x.dtype).eps)
        return (x >= jnp.finfo(x.dtype).tiny) & ~far


def _at_least(x: jax.Array, least: Any) -> jax.Array:
    """Return numbers moved up to a least one, with the derivatives that they had."""
    return x + lax.stop_gradient(jnp.maximum(least - x, 0))


def _beside(limit: jax.Array, other: jax.Array) -> jax.Array:
    """Return the next normal number from a limit to another."""
    tiny = jnp.asarray(jnp.finfo(limit.dtype).tiny, limit.dtype)
    return jnp.where(jnp.abs(limit) < tiny, jnp.sign(other - limit) * tiny, jnp.nextafter(limit, other))


def _helmert(count: int, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """Return n and 1 / sqrt(n * (n + 1)) for n = 1, 2, ...: column n of V has n times the latter, and then -n times it."""
    places = np.arange(1, count + 1)
    return jnp.asarray(places, dtype), jnp.asarray(1 / np.sqrt(places * (places + 1.0)), dtype)


def _with_axis(name: str, shape: tuple[int, ...], least: int) -> tuple[int, ...]:
    """Check that a shape has a last axis of some length."""
    if not shape or shape[-1] < least:
        raise ValueError(f"{name}: expected an array with at least {least} along the last axis, got shape {shape}.")
    return shape
