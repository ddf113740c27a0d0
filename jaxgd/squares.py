"""Sums of squares of residuals, the large ones of which a robust loss can make count less: a cost that keeps its residuals."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxgd._checks import check, check_cost
from jaxgd._checks.check import Refused
from jaxgd._compile.closures import fresh, unjitted
from jaxgd._trees import at_least_float32, is_number, is_traced

_LEAST = 2.0**-10  # of the slope over the residual, below which no curvature is taken: a robust loss is concave far out


def _linear(z: jax.Array) -> jax.Array:
    return z


def _soft_l1(z: jax.Array) -> jax.Array:
    return 2 * z / (jnp.sqrt(1 + z) + 1)


def _huber(z: jax.Array) -> jax.Array:
    return jnp.where(z <= 1, z, 2 * jnp.sqrt(jnp.maximum(z, 1)) - 1)


def _cauchy(z: jax.Array) -> jax.Array:
    return jnp.log1p(z)


def _arctan(z: jax.Array) -> jax.Array:
    return jnp.arctan(z)


LOSSES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "linear": _linear,
    "soft_l1": _soft_l1,
    "huber": _huber,
    "cauchy": _cauchy,
    "arctan": _arctan,
}


@dataclasses.dataclass(frozen=True, eq=False)
class SumOfSquares:
    """The cost of residuals r: half the sum of their squares, or of a robust loss of these.

        cost = sum(s**2 * rho((r / s)**2)) / 2

    with s the scale of the loss. It is a cost like any other, for `minimize`, `minimize_many`, `fit`, `check` and the rest, and by
    the residuals that it keeps `minimize` knows that `LevenbergMarquardt` fits.

    | loss | rho(z) | a residual far out counts as |
    |---|---|---|
    | "linear" | z | its square |
    | "soft_l1" | 2 (sqrt(1 + z) - 1) | its size |
    | "huber" | z up to 1, 2 sqrt(z) - 1 beyond | its size |
    | "cauchy" | log(1 + z) | the logarithm of its size |
    | "arctan" | arctan(z) | a constant |

    Args:
        residuals: residuals(params), or residuals(params, data): returns an array of residuals of any shape, or a pytree of them.
        loss: a name of the table, or a function rho of an array z >= 0, element by element, with rho(0) = 0 and rho'(0) = 1.
        loss_scale: s, > 0, the size of a residual from which on the loss takes it for an outlier; 1 with the loss "linear", which
            has none.
        has_aux: whether the function returns a pair (residuals, aux); then the cost is one with `has_aux=True`.

    P. J. Huber, Robust estimation of a location parameter, Ann. Math. Stat. 35 (1964); B. Triggs et al., Bundle adjustment, a
    modern synthesis, LNCS 1883 (2000), for the table.

    >>> import jax.numpy as jnp, jaxgd
    >>> cost = jaxgd.SumOfSquares(lambda v: v - jnp.array([1.0, 2.0, 60.0]), loss="huber", loss_scale=0.5)
    >>> round(float(jaxgd.minimize(cost, 0.0).params), 3)
    2.0
    """

    residuals: Callable[..., Any]
    loss: Any = "linear"
    loss_scale: Any = 1.0
    has_aux: bool = False

    def __post_init__(self) -> None:
        if not callable(self.residuals):
            raise TypeError(f"residuals: expected a function, got {check.show(self.residuals)}.")
        if isinstance(self.loss, str):
            if self.loss not in LOSSES:
                raise ValueError(f"loss: expected a function or one of {', '.join(map(repr, LOSSES))}, got {self.loss!r}.")
        elif not callable(self.loss):
            raise TypeError(f"loss: expected a function or one of {', '.join(map(repr, LOSSES))}, got {check.show(self.loss)}.")
        check.positive("loss_scale", self.loss_scale)
        if not is_number(self.loss_scale):
            raise ValueError(f"loss_scale: expected a number, got {check.show(self.loss_scale)}.")
        if self.is_linear and not is_traced(self.loss_scale) and float(self.loss_scale) != 1:
            raise ValueError(
                f"loss_scale: expected 1 with the loss 'linear', which has no scale, got {check.show(self.loss_scale)}."
            )
        check.flag("has_aux", self.has_aux)

    @property
    def __signature__(self) -> inspect.Signature:
        """The signature of the residuals, which the cost has too."""
        return inspect.signature(self.residuals)

    @property
    def __name__(self) -> str:
        """The name of the residuals, for messages."""
        return getattr(self.residuals, "__name__", type(self.residuals).__name__)

    @property
    def is_linear(self) -> bool:
        """Whether the squares count as they are."""
        return isinstance(self.loss, str) and self.loss == "linear"

    def __call__(self, params: Any, *data: Any, **extras: Any) -> Any:
        """Return the cost, or with `has_aux` a pair of it and the aux."""
        returned = self.called(params, *data, **extras)
        total: Any = sum(jnp.sum(self._losses(leaf)) for leaf in check_cost.residual_arrays(returned, has_aux=self.has_aux))
        return (total, returned[1]) if self.has_aux else total

    def called(self, *arguments: Any, **extras: Any) -> Any:
        """Return what the function of residuals returns."""
        residuals = unjitted(self.residuals)
        with fresh(residuals, self.loss):
            return residuals(*arguments, **extras)

    def weighted(self, residuals: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return weighted residuals, and the weights of the rows of their Jacobian.

        Half the sum of the squares of the former has the slope of the loss, and about its curvature. With the loss phi of each
        residual r they are phi' / w and w = sqrt(phi''), where w**2 is at least a small part of phi' / r, so that a residual far
        out, where a robust loss is concave, has some weight.
        """
        if self.is_linear:
            return residuals, jnp.ones_like(residuals)

        def slope(r: jax.Array) -> jax.Array:
            return jax.jvp(self._losses, (r,), (jnp.ones_like(r),))[1]

        slopes, curvatures = jax.jvp(slope, (residuals,), (jnp.ones_like(residuals),))
        ratio = jnp.where(residuals == 0, curvatures, slopes / jnp.where(residuals == 0, 1, residuals))
        root = jnp.sqrt(jnp.maximum(curvatures, _LEAST * ratio))
        return jnp.where(root > 0, slopes / jnp.where(root > 0, root, 1), 0), root

    def of_others(self, change: Callable[[Callable[..., Any]], Callable[..., Any]]) -> "SumOfSquares":
        """Return the same cost of residuals that depend on other parameters, by a change of functions."""
        return dataclasses.replace(self, residuals=change(self.residuals))

    def _losses(self, residuals: jax.Array) -> jax.Array:
        """Return half the losses, one by one."""
        residuals = at_least_float32(residuals)
        if self.is_linear:
            return residuals * residuals / 2
        scale = jnp.asarray(self.loss_scale, residuals.dtype)
        rho = LOSSES[self.loss] if isinstance(self.loss, str) else self.loss
        scaled = residuals / scale
        losses = rho(scaled * scaled)
        if jnp.shape(losses) != scaled.shape:
            raise Refused(f"loss: it must return an array of the shape of its argument, {scaled.shape}, got {jnp.shape(losses)}.")
        return scale * scale * losses.astype(residuals.dtype) / 2


def of_others(cost: Callable[..., Any], change: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Callable[..., Any]:
    """Return a cost as a function of other parameters, by a change of functions; residuals stay residuals."""
    return cost.of_others(change) if isinstance(cost, SumOfSquares) else change(cost)


def name_of(cost: Any) -> str:
    """Return the name by which messages call what the user gave."""
    return "residuals" if isinstance(cost, SumOfSquares) else "cost"
