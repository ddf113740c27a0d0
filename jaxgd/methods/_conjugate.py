"""A step by conjugate gradients in a trust region, from products of the curvature with vectors alone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._products import vdot
from jaxgd._trees import pack, safe_divisor
from jaxgd.bounds import at_active_bound

SIGNS = 8  # random vectors that show how steep each variable is; each costs a product
_TIGHT = 4.0  # roundings of the cost that are nothing to gain: each of two costs has one or two
_LAST = 1e-2  # of the slope, that the step leaves at most by which the end is judged


class Found(NamedTuple):
    """A step, the fall that the model predicts for it, whether it ends inside the radius, and its length."""

    step: Any
    fall: Any
    inside: Any
    length: Any


class _Path(NamedTuple):
    """Conjugate gradients under way: the step, what is left of the gradient, the direction, their count, whether they are over."""

    step: Any
    rest: Any
    direction: Any
    square: Any
    count: Any
    over: Any
    inside: Any


class Region:
    """A point with the products there, in units in which every variable is as steep."""

    def __init__(
        self,
        x: jax.Array,
        gradient: jax.Array,
        bounds: Any,
        exact: Callable[[jax.Array], jax.Array],
        squares: jax.Array,
        approximate: Callable[[jax.Array], jax.Array] | None = None,
        *,
        of_squares: bool = False,
    ) -> None:
        """Look at a point.

        `exact` and `approximate` multiply a vector by the curvature; `squares` are how steep the variables are; `of_squares` says
        that no cost is below zero.
        """
        self.x, self.exact, self.approximate, self.of_squares = x, exact, approximate, of_squares
        self.box = None if bounds is None else (pack(bounds.lower), pack(bounds.upper))
        held = jnp.zeros(x.shape, bool)
        if self.box is not None:
            held = at_active_bound(x, gradient, *self.box) | (self.box[0] == self.box[1])
        self.held, self.gradient = held, jnp.where(held, 0, gradient)
        known = (squares > 0) & jnp.isfinite(squares)
        logarithms = jnp.where(known, jnp.log(jnp.where(known, squares, 1)), 0)
        mean = jnp.exp(jnp.sum(logarithms) / jnp.maximum(jnp.sum(known), 1).astype(x.dtype))
        least = jnp.finfo(x.dtype).eps ** 2 * mean  # a variable less steep than that has just lost its slope, as x**2 does at zero
        self.scale = 1 / jnp.sqrt(jnp.where(known, jnp.maximum(squares, least), mean))
        self.slopes = self.gradient * self.scale
        self.steepness = jnp.sqrt(jnp.sum(jnp.square(self.slopes)))
        extent = jnp.sqrt(jnp.sum(jnp.square(x / self.scale)))
        self.extent = jnp.where(extent > 0, extent, safe_divisor(self.steepness))
        self.flat = jnp.all(self.gradient == 0)

    def rounding(self, cost: jax.Array) -> jax.Array:
        """Return what the rounding of the cost and of the variables makes of differences of the cost."""
        eps = jnp.finfo(cost.dtype).eps
        return eps * (jnp.abs(cost) + eps * jnp.sum(jnp.square(self.x / self.scale)))

    def nothing_left(self, cost: jax.Array, most: Any) -> jax.Array:
        """Return whether rounding hides all that is left: down to the minimum of the exact curvature, or to the least cost."""
        whole = self.step(jnp.asarray(True), jnp.asarray(jnp.inf, cost.dtype), jnp.asarray(_LAST, cost.dtype), most)
        hidden = _TIGHT * self.rounding(cost)
        least = jnp.abs(cost) <= hidden if self.of_squares else jnp.asarray(False)
        return (whole.inside & (jnp.abs(whole.fall) <= hidden)) | least

    def product(self, exact: jax.Array, v: jax.Array) -> jax.Array:
        """Return the curvature times a vector, in the units of the region."""
        moved = jnp.where(self.held, 0, self.scale * v)
        pushed = self.exact(moved) if self.approximate is None else lax.cond(exact, self.exact, self.approximate, moved)
        return jnp.where(self.held, 0, self.scale * pushed.astype(v.dtype))

    def step(self, exact: jax.Array, radius: jax.Array, forcing: jax.Array, most: Any) -> Found:
        """Return the step by conjugate gradients that end at the radius, within the box."""

        def onward(path: _Path) -> _Path:
            curved = self.product(exact, path.direction)
            curvature = vdot(path.direction, curved)
            rate = path.square / safe_divisor(curvature)
            ahead = path.step + rate * path.direction
            out = (curvature <= 0) | ~(jnp.sum(ahead * ahead) < radius * radius)
            step = jnp.where(out, path.step + _to_edge(path.step, path.direction, radius) * path.direction, ahead)
            rest = path.rest + rate * curved
            square = jnp.sum(rest * rest)
            direction = square / safe_divisor(path.square) * path.direction - rest
            over = out | (jnp.sqrt(square) <= forcing * self.steepness) | ~jnp.isfinite(square)
            return _Path(step, rest, direction, square, path.count + 1, over, ~out)

        zero = jnp.zeros_like(self.slopes)
        start = _Path(
            zero,
            self.slopes,
            -self.slopes,
            jnp.sum(self.slopes**2),
            jnp.zeros((), jnp.int32),
            self.steepness == 0,
            jnp.asarray(True),
        )
        end = lax.while_loop(lambda path: ~path.over & (path.count < most), onward, start)
        step = jnp.where(jnp.isfinite(end.step), end.step, 0)
        change = self.scale * step
        if self.box is not None:
            change = jnp.clip(self.x + change, *self.box) - self.x
            step = change / self.scale
        fall = -vdot(step, self.slopes) - vdot(step, self.product(exact, step)) / 2
        return Found(change, fall, end.inside, jnp.sqrt(jnp.sum(step * step)))


def _to_edge(step: jax.Array, direction: jax.Array, radius: jax.Array) -> jax.Array:
    """Return how far along a direction the radius is: the positive root of a quadratic equation."""
    a, b = jnp.sum(direction * direction), vdot(step, direction)
    room = jnp.maximum(radius * radius - jnp.sum(step * step), 0)
    root = jnp.sqrt(b * b + a * room)
    return jnp.where(b > 0, room / safe_divisor(b + root), (root - b) / safe_divisor(a))
