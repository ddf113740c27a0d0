"""Penalties: functions of the parameters with kinks, which a run minimises together with a smooth cost.

With `penalty=` a run minimises F(x) = f(x) + P(x), f the cost and P the penalty. P need not have a gradient, but its proximal
operator has to be known:

    prox(x, t) = the z of least P(z) + |z - x|**2 / (2 t)

    L1(w)              w * sum(|x|)                                  sparse parameters: the lasso
    ElasticNet(w, r)   w * (r * sum(|x|) + (1 - r) * sum(x**2) / 2)  sparse, and of similar columns all a little
    GroupLasso(w)      w * sum over groups of |x of the group|       groups of parameters that are zero together
    NonNegative()      0 for x >= 0, else infinite                   parameters that are not negative

Weights are leaves of a pytree: another weight compiles nothing, `jax.vmap` maps over weights, and `jax.grad` finds derivatives with
respect to them.

N. Parikh, S. Boyd, Proximal algorithms, Found. Trends Optim. 1 (2014).
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._checks import check
from jaxgd._trees import pytree, safe_divisor, static

__all__ = ["L1", "ElasticNet", "GroupLasso", "NonNegative", "Penalty"]


class Penalty:
    """The base class of penalties: a value and a proximal operator, for one array of parameters.

    A penalty of your own has the methods `value` and `prox`, written with `jax.numpy`, and is a pytree: decorate it with
    `jaxgd.pytree`. It need not derive from this class. The numbers that it needs are its fields.

    Attributes:
        separable: whether the penalty is a sum over the parameters of functions of one parameter each. Then `prox` has to take an
            array of steps, one for each parameter, and bounds, parts of an array that are fixed, and methods with a step for each
            parameter go with it.

    >>> import jax.numpy as jnp, jaxgd
    >>> @jaxgd.pytree
    ... class NearIntegers(jaxgd.penalties.Penalty):
    ...     weight: float
    ...     separable = True
    ...     def value(self, x):
    ...         return self.weight * jnp.sum(jnp.abs(x - jnp.round(x)))
    ...     def prox(self, x, step):
    ...         near = jnp.round(x)
    ...         return near + jnp.sign(x - near) * jnp.maximum(jnp.abs(x - near) - step * self.weight, 0)
    >>> result = jaxgd.minimize(lambda x: jnp.sum((x - 2.1) ** 2), [1.9, 2.4], penalty=NearIntegers(0.3))
    >>> result.params.round(6).tolist()
    [2.0, 2.0]
    """

    separable: ClassVar[bool] = False

    def value(self, x: jax.Array) -> jax.Array:
        """Return the penalty of an array of parameters, a scalar."""
        raise NotImplementedError(f"{type(self).__name__}: a penalty needs a method value(x).")

    def prox(self, x: jax.Array, step: jax.Array) -> jax.Array:
        """Return the z of least value(z) + |z - x|**2 / (2 step)."""
        raise NotImplementedError(f"{type(self).__name__}: a penalty needs a method prox(x, step).")


class _Sided(Penalty):
    """A separable penalty that knows its derivatives to either side."""

    separable: ClassVar[bool] = True

    def sides(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the derivatives of the penalty of each parameter to the left and to the right."""
        raise NotImplementedError


def _number(value: Any, like: jax.Array) -> jax.Array:
    """Return a number of a penalty in the precision of the parameters."""
    return jnp.asarray(value).astype(like.dtype)


def _check_weight(penalty: Any) -> None:
    """Check that a weight, or each of several, is finite and not negative; a list of them becomes an array."""
    name, value = f"{type(penalty).__name__}: weight", penalty.weight
    array = check.real(name, value, "a number or an array")
    if array is not None and not np.all((array >= 0) & np.isfinite(array)):
        raise ValueError(f"{name}: expected finite numbers >= 0, got {check.show(value)}.")
    if isinstance(value, list | tuple):
        object.__setattr__(penalty, "weight", np.asarray(array) if array is not None else jnp.asarray(value))


def _shrunk(x: jax.Array, by: jax.Array) -> jax.Array:
    """Return numbers moved towards zero, at most to it."""
    return jnp.sign(x) * jnp.maximum(jnp.abs(x) - by, 0)


@pytree
class L1(_Sided):
    """The sum of the absolute values, times a weight: w * sum(|x|).

    Parameters that gain less than the weight are exactly zero at the minimum.

    Args:
        weight: w >= 0: a number, or an array that broadcasts to the parameters. scikit-learn's `alpha` of a `Lasso`, whose cost is
            sum((y - X w)**2) / (2 n); 1 / (C n) of a `LogisticRegression`, whose cost here is the mean over the n rows.

    R. Tibshirani, Regression shrinkage and selection via the lasso, J. R. Stat. Soc. B 58 (1996).

    >>> import jax.numpy as jnp, jaxgd
    >>> result = jaxgd.minimize(lambda x: jnp.sum((x - jnp.array([3.0, 0.5])) ** 2) / 2, [1.0, 1.0], penalty=L1(1.0))
    >>> result.params.tolist(), float(result.cost)
    ([2.0, 0.0], 2.625)
    """

    weight: Any

    def __post_init__(self) -> None:
        _check_weight(self)

    def value(self, x: jax.Array) -> jax.Array:
        return jnp.sum(_number(self.weight, x) * jnp.abs(x))

    def prox(self, x: jax.Array, step: jax.Array) -> jax.Array:
        return _shrunk(x, step * _number(self.weight, x))

    def sides(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        weight = _number(self.weight, x)
        return jnp.where(x > 0, weight, -weight), jnp.where(x < 0, -weight, weight)

    def scale(self, gradient: jax.Array) -> jax.Array:
        """Return the least factor of the weight at which zero is the minimum, for the gradient there."""
        return _largest_ratio(jnp.abs(gradient), _number(self.weight, gradient))


@pytree
class ElasticNet(_Sided):
    """A mixture of the absolute values and the squares: w * (r * sum(|x|) + (1 - r) * sum(x**2) / 2).

    Args:
        weight: w >= 0, as in `L1`; scikit-learn's `alpha`.
        l1_ratio: r in [0, 1], the share of the absolute values: 1 is `L1`, and 0 leaves no parameter at zero.

    H. Zou, T. Hastie, Regularization and variable selection via the elastic net, J. R. Stat. Soc. B 67 (2005), in the form of J.
    Friedman, T. Hastie, R. Tibshirani, Regularization paths for generalized linear models via coordinate descent, J. Stat. Softw.
    33 (2010).

    >>> import jax.numpy as jnp, jaxgd
    >>> result = jaxgd.minimize(lambda x: (x - 3.0) ** 2 / 2, 0.0, penalty=ElasticNet(1.0, l1_ratio=0.5))
    >>> round(float(result.params), 6)  # (3 - 0.5) / (1 + 0.5)
    1.666667
    """

    weight: Any
    l1_ratio: Any = 0.5

    def __post_init__(self) -> None:
        _check_weight(self)
        check.fraction("ElasticNet: l1_ratio", self.l1_ratio, closed=True)

    def value(self, x: jax.Array) -> jax.Array:
        first, second = self._weights(x)
        return jnp.sum(first * jnp.abs(x) + second * x * x / 2)

    def prox(self, x: jax.Array, step: jax.Array) -> jax.Array:
        first, second = self._weights(x)
        return _shrunk(x, step * first) / (1 + step * second)

    def sides(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        first, second = self._weights(x)
        return second * x + jnp.where(x > 0, first, -first), second * x + jnp.where(x < 0, -first, first)

    def scale(self, gradient: jax.Array) -> jax.Array:
        """Return the least factor of the weight at which zero is the minimum, for the gradient there."""
        return _largest_ratio(jnp.abs(gradient), self._weights(gradient)[0])

    def _weights(self, like: jax.Array) -> tuple[jax.Array, jax.Array]:
        weight, ratio = _number(self.weight, like), _number(self.l1_ratio, like)
        return weight * ratio, weight * (1 - ratio)


@pytree
class GroupLasso(Penalty):
    """The sum over groups of parameters of their Euclidean norms, times a weight: the groups are zero as a whole, or not at all.

    Args:
        weight: w >= 0: a number, or an array with one for each group. M. Yuan and Y. Lin have the roots of the groups' sizes there.
        axis: the axis, or axes, of an array that belong together: 0 makes a group of each column of a matrix. None is all of them,
            so that every array is one group.
        groups: of an array of one dimension the number of the group of each parameter, 0, 1, ...; None for the groups of `axis`.

    M. Yuan, Y. Lin, Model selection and estimation in regression with grouped variables, J. R. Stat. Soc. B 68 (2006).

    >>> import jax.numpy as jnp, jaxgd
    >>> target = jnp.array([3.0, 4.0, 0.3, 0.4])
    >>> cost = lambda x: jnp.sum((x - target) ** 2) / 2
    >>> result = jaxgd.minimize(cost, jnp.ones(4), penalty=GroupLasso(1.0, groups=[0, 0, 1, 1]))
    >>> [round(number, 4) for number in result.params.tolist()]
    [2.4, 3.2, 0.0, 0.0]
    """

    weight: Any
    axis: Any = static(default=None)
    groups: Any = static(default=None)

    def __post_init__(self) -> None:
        _check_weight(self)
        if self.axis is not None:
            axes = tuple(self.axis) if isinstance(self.axis, tuple | list) else (self.axis,)
            object.__setattr__(self, "axis", tuple(check.integer("GroupLasso: axis", one, -64, 63) for one in axes))
        if self.groups is not None:
            if self.axis is not None:
                raise ValueError(f"GroupLasso: axis: expected None together with groups, got {self.axis}.")
            numbers = [check.integer("GroupLasso: groups", one, 0, 2**31 - 2) for one in np.asarray(self.groups).reshape(-1)]
            if sorted(set(numbers)) != list(range(max(numbers, default=-1) + 1)):
                raise ValueError(f"GroupLasso: groups: expected the numbers 0, 1, ... of groups, got {check.show(self.groups)}.")
            object.__setattr__(self, "groups", tuple(numbers))

    def value(self, x: jax.Array) -> jax.Array:
        return jnp.sum(_number(self.weight, x) * self._norms(x))

    def prox(self, x: jax.Array, step: jax.Array) -> jax.Array:
        norms = self._norms(x)
        kept = jnp.maximum(norms - step * _number(self.weight, x), 0) / safe_divisor(norms)
        return x * self._spread(kept, x)

    def slope(self, x: jax.Array, gradient: jax.Array) -> jax.Array:
        """Return the element of least norm of the gradient of the cost plus the subdifferential of the penalty."""
        norms, steep, weight = self._norms(x), self._norms(gradient), _number(self.weight, x)
        there = self._spread(weight / safe_divisor(norms), x) * x
        zero = self._spread(norms == 0, x)
        left = self._spread(jnp.maximum(steep - weight, 0) / safe_divisor(steep), x)
        return jnp.where(zero, gradient * left, gradient + there)

    def scale(self, gradient: jax.Array) -> jax.Array:
        """Return the least factor of the weight at which zero is the minimum, for the gradient there."""
        return _largest_ratio(self._norms(gradient), _number(self.weight, gradient))

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Check that the groups fit an array."""
        if self.groups is not None and shape != (len(self.groups),):
            raise ValueError(f"expected a group for each of the parameters of shape {shape}, got {len(self.groups)} groups.")
        if self.axis is not None and not all(-len(shape) <= one < len(shape) for one in self.axis):
            raise ValueError(f"expected axes of parameters of shape {shape}, got {self.axis}.")

    def weights_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the weights of the groups of an array."""
        like = jax.ShapeDtypeStruct(shape, np.float32)
        return jax.eval_shape(self._norms, like).shape

    def _norms(self, x: jax.Array) -> jax.Array:
        """Return the norms of the groups; where one is zero its derivative is zero."""
        if self.groups is not None:
            squares = jax.ops.segment_sum(x * x, np.asarray(self.groups), max(self.groups) + 1)
        else:
            squares = jnp.sum(x * x, axis=self.axis)
        return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)

    def _spread(self, each: jax.Array, x: jax.Array) -> jax.Array:
        """Return numbers of the groups as those of their parameters."""
        if self.groups is not None:
            return each[np.asarray(self.groups)]
        if self.axis is None:
            return jnp.broadcast_to(each, x.shape)
        return jnp.broadcast_to(jnp.expand_dims(each, self.axis), x.shape)


@pytree
class NonNegative(_Sided):
    """Parameters that are not negative: 0 for x >= 0, else infinite.

    `bounds=(0, None)` says the same. As a penalty it goes with others for other parameters, and with methods that take penalties.

    >>> import jax.numpy as jnp, jaxgd
    >>> cost = lambda x: jnp.sum((x - jnp.array([3.0, -1.0])) ** 2)
    >>> [round(number, 4) for number in jaxgd.minimize(cost, [1.0, 1.0], penalty=NonNegative()).params.tolist()]
    [3.0, 0.0]
    """

    def value(self, x: jax.Array) -> jax.Array:
        return jnp.where(jnp.all(x >= 0), jnp.zeros((), x.dtype), jnp.inf)

    def prox(self, x: jax.Array, step: jax.Array) -> jax.Array:
        del step
        return jnp.maximum(x, 0)

    def sides(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        zero = jnp.zeros_like(x)
        return jnp.where(x > 0, zero, -jnp.inf), zero

    def project(self, x: jax.Array) -> jax.Array:
        """Return the nearest parameters at which the penalty is finite."""
        return jnp.maximum(x, 0)


def _largest_ratio(slopes: jax.Array, weights: jax.Array) -> jax.Array:
    """Return the largest slope over its weight, among those that have one."""
    return jnp.max(jnp.where(weights > 0, slopes / safe_divisor(weights), 0), initial=0)


def check_penalty(name: str, value: Any) -> None:
    """Check that a value is a penalty, a pytree with `value` and `prox`, or None."""
    if value is None:
        return
    kind = value if isinstance(value, type) else type(value)
    if not (callable(getattr(kind, "value", None)) and callable(getattr(kind, "prox", None))):
        raise TypeError(f"{name}: expected a penalty, such as jaxgd.L1(0.1), or None, got {check.show(value)}.")
    if isinstance(value, type):
        raise TypeError(f"{name}: expected an instance, as in {kind.__name__}(...), got the class {kind.__name__}.")
    if jax.tree.structure(value) == jax.tree.structure(0):
        raise TypeError(f"{name}: expected a penalty that is a pytree: decorate the class {kind.__name__} with jaxgd.pytree.")


def is_penalty(node: Any) -> bool:
    """Return whether a node of a pytree stands for one penalty: None, or anything with `value` and `prox`."""
    return node is None or (hasattr(type(node), "value") and hasattr(type(node), "prox")) or isinstance(node, type)
