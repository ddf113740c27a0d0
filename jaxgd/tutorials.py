"""gradient_descent() and sgd(): the functions of the well-known tutorials, as thin calls of the two verbs.

They keep the tutorials' defaults and take a cost instead of a hand-written gradient.
"""

from collections.abc import Callable
from typing import Any

from jaxgd._checks import check
from jaxgd._fit import fit
from jaxgd._minimize import minimize
from jaxgd.methods.first_order import GradientDescent
from jaxgd.result import Result
from jaxgd.starts import check_shape, normal
from jaxgd.stopping import UpdateTolerance


def gradient_descent(
    cost: Callable[..., Any],
    start: Any = None,
    data: Any = None,
    *,
    learning_rate: Any = 0.1,
    momentum: Any = 0.0,
    max_steps: int = 50,
    tolerance: float = 1e-6,
    size: Any = None,
    key: Any = None,
    dtype: Any = "float64",
    history: Any = None,
) -> Result:
    """Gradient descent as the tutorials write it: `minimize` with `GradientDescent` and `stopping.UpdateTolerance`.

        update = momentum * update - learning_rate * gradient
        stop if all(|update| <= tolerance), else params = params + update

    Args:
        cost: cost(params), or cost(params, data) where data are given; a real scalar.
        start: a pytree of numbers or arrays; None draws it from a standard normal, of the given `size` with the given `key`.
        data: a pytree of arrays, or None.
        learning_rate: > 0: a number, an array per variable, or a schedule.
        momentum: in [0, 1].
        max_steps: updates at most, >= 1.
        tolerance: > 0, in the units of the parameters.
        size: the shape of a random start, where start is None.
        key: the random key of a random start.
        dtype: "float64", "float32", or None to follow the inputs.
        history: as in `minimize`.

    Returns:
        The `Result`; `result.params` is what the tutorials return.

    Raises:
        TypeError, ValueError: for a bad argument, before anything compiles; the message names it.

    >>> result = gradient_descent(lambda v: v**2, start=10.0, learning_rate=0.2)
    >>> result.n_steps, float(result.params)
    (30, 2.21073919720...e-06)
    """
    return minimize(
        cost,
        _start(start, size),
        data,
        method=GradientDescent(learning_rate, momentum),
        stop=UpdateTolerance(tolerance),
        max_steps=max_steps,
        key=key,
        dtype=dtype,
        history=history,
    )


def sgd(
    cost: Callable[..., Any],
    start: Any = None,
    data: Any = None,
    *,
    learning_rate: Any = 0.1,
    momentum: Any = 0.0,
    batch_size: int = 1,
    n_epochs: int = 50,
    tolerance: float = 1e-6,
    size: Any = None,
    key: Any = None,
    shuffle: bool | str = True,
    dtype: Any = "float64",
    history: Any = None,
) -> Result:
    """Stochastic gradient descent as the tutorials write it: `fit` with `GradientDescent` and `stopping.UpdateTolerance`.

    The tolerance is tested in each minibatch, and ends the whole run (the tutorial only leaves the epoch, a slip).

    Args:
        cost: cost(params, batch), a real scalar, the mean over the rows of the batch.
        start: a pytree of numbers or arrays; None draws it from a standard normal, of the given `size`.
        data: a pytree of arrays of equal length, such as (x, y).
        learning_rate: > 0: a number, an array per variable, or a schedule.
        momentum: in [0, 1].
        batch_size: rows in a batch, from 1 to all.
        n_epochs: passes over the data, >= 1.
        tolerance: > 0, in the units of the parameters.
        size: the shape of a random start, where start is None.
        key: the random key of the order of rows and of a random start.
        shuffle: as in `fit`.
        dtype: "float64", "float32", or None to follow the inputs.
        history: as in `fit`.

    Returns:
        The `Result`; `result.params` is what the tutorials return.

    Raises:
        TypeError, ValueError: for a bad argument, before anything compiles; the message names it.

    >>> import numpy as np
    >>> x, y = np.array([5, 15, 25, 35, 45, 55.0]), np.array([5, 20, 14, 32, 22, 38.0])
    >>> cost = lambda b, batch: ((b[0] + b[1] * batch[0] - batch[1]) ** 2).mean() / 2
    >>> result = sgd(cost, [0.5, 0.5], (x, y), learning_rate=0.0008, batch_size=3, n_epochs=10_000, key=0)
    >>> bool(abs(result.params[0] - 5.6) < 1 and abs(result.params[1] - 0.54) < 0.3)
    True
    """
    return fit(
        cost,
        _start(start, size),
        data,
        method=GradientDescent(learning_rate, momentum),
        stop=UpdateTolerance(tolerance),
        batch_size=batch_size,
        n_epochs=n_epochs,
        shuffle=shuffle,
        key=key,
        dtype=dtype,
        history=history,
    )


def _start(start: Any, size: Any) -> Any:
    """Return the start, or a standard normal one of a size."""
    if start is not None and size is not None:
        raise ValueError(f"size: expected None where a start is given, got {check.show(size)}.")
    if start is None and size is None:
        raise ValueError("start: expected a start, or a size for a random one, got neither.")
    if start is not None:
        return start
    check_shape("size", size)
    return normal(size)
