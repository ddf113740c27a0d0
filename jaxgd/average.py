"""Averages of the iterates of a run, which are steadier than the last of them."""

from typing import Any

import numpy as np

from jaxgd._checks import check
from jaxgd._trees import is_traced, pytree

__all__ = ["ExponentialAverage"]


@pytree
class ExponentialAverage:
    """The exponential average of the iterates of `fit`, for its argument `average`.

        m <- m + (1 - d) / (1 - d**k) * (x - m)      after update k

    So iterate j has the weight d**(k - j), and the start has none: the correction for the bias is that of Adam. The average is what
    the run returns, what its cost on validation data is found for, and what `best` is chosen among after each epoch.

    Args:
        decay: d in [0, 1): how much of the average stays in each update. About 1 / (1 - d) iterates have a say.

    B. T. Polyak, A. B. Juditsky, Acceleration of stochastic approximation by averaging, SIAM J. Control Optim. 30 (1992), for
    averages with equal weights, which `average=` with a fraction takes.

    >>> import jax.numpy as jnp, jaxgd
    >>> cost = lambda x, batch: jnp.mean((x - batch) ** 2)
    >>> average = jaxgd.ExponentialAverage(0.5)
    >>> run = jaxgd.fit(cost, 0.0, jnp.array([4.0]), batch_size=1, n_epochs=2, method=jaxgd.GradientDescent(0.25), average=average)
    >>> float(run.params)  # of the iterates 2 and 3, the weights 1/3 and 2/3
    2.666...
    """

    decay: Any

    def __post_init__(self) -> None:
        check.fraction("ExponentialAverage: decay", self.decay, closed=False)


def as_average(average: Any) -> Any:
    """Check the argument `average`: None, a fraction, or an exponential average with its number as an array."""
    if average is None or isinstance(average, ExponentialAverage):
        return average
    check.share("average", average)
    return average


def decay_of(average: Any, dtype: Any) -> Any:
    """Return the decay of an exponential average as an array; None for other averages."""
    if not isinstance(average, ExponentialAverage):
        return None
    if is_traced(average.decay):
        return average.decay.astype(dtype)
    decay = np.asarray(average.decay, dtype)
    if decay == 1:
        raise ValueError(f"ExponentialAverage: decay: expected a number below 1 in {decay.dtype} too, got {average.decay}.")
    return decay
