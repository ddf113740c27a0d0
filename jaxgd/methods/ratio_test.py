"""The ratio test of a trust region: whether a trial is accepted, and how the radius changes.

A trial is accepted where the ratio of the true to the predicted fall is above 1e-4. Below 0.25 the radius becomes a quarter of the
step, from 0.75 on it doubles where the step reaches it: J. Nocedal, S. J. Wright, Numerical Optimization (2006), algorithm 4.1.
Poor ratios from 0.05 and good ones from 0.5 to 0.9 change evaluations by a few per cent.
"""

import jax
import jax.numpy as jnp

_ACCEPT, POOR, _GOOD = 1e-4, 0.25, 0.75
_SHRINK, _GROWTH = 0.25, 2.0
_EDGE = 0.8  # of the radius: longer steps reach it; those within a box may stay below
_RETREAT = 0.1  # of a step to a point that is not finite, which does not say how much shorter the next one has to be
_FARTHEST = 1e18  # radius, whose square has to stay below the largest number of single precision, 3e38


def judge(ratio: jax.Array, finite: jax.Array) -> jax.Array:
    """Return whether a trial is accepted."""
    return finite & (ratio > _ACCEPT)


def grown(radius: jax.Array, ratio: jax.Array, length: jax.Array) -> jax.Array:
    """Return the radius after an accepted step of some length."""
    longer = jnp.minimum(_GROWTH * radius, _FARTHEST)
    kept = jnp.where((ratio >= _GOOD) & (length >= _EDGE * radius), longer, radius)
    return jnp.where(ratio < POOR, _SHRINK * length, kept)


def is_endless(length: jax.Array) -> jax.Array:
    """Return whether a step reaches the largest radius."""
    return length >= _EDGE * _FARTHEST


def shortened(length: jax.Array, finite: jax.Array) -> jax.Array:
    """Return the radius after a refused step of some length."""
    return jnp.where(finite, _SHRINK, _RETREAT) * length
