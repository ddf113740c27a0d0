"""The progress that a callback sees, and the bar that shows it."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxgd._checks import check
from jaxgd._trees import pytree
from jaxgd.result import Best


@pytree
class Progress:
    """The view of a run that a callback gets, between two steps of `minimize` or two epochs of `fit`.

    Attributes:
        step: updates applied so far.
        epoch: whole epochs so far; in `minimize` each step is one.
        params: the current parameters.
        cost: their cost in `minimize`; in `fit` the mean over the epoch's rows of the costs of their batches.
        validation_cost: in `fit` the cost of `params` on the validation data; None where there are none.
        best: `best.params` and `best.cost` so far; in `fit`, until it has ended, without the start and, where the costs of points
            over all rows are not known on the way, the end of the epoch with the lowest `cost`, with that.

    >>> import jaxgd
    >>> def watch(progress):
    ...     print(progress.step, float(progress.params), float(progress.cost))
    ...     return progress.cost < 0.1
    >>> result = jaxgd.minimize(lambda v: v**2, 1.0, method=jaxgd.GradientDescent(0.25), callback=watch)
    1 0.5 0.25
    2 0.25 0.0625
    >>> print(result.status)
    Stopped by the callback.
    """

    step: Any
    epoch: Any
    params: Any
    cost: Any
    validation_cost: Any
    best: Best


Callback = Callable[[Progress], Any]
"""A function that is shown the progress, and stops the run by returning True."""


def says_true(answer: Any) -> bool:
    """Return whether a callback returned True, of Python, NumPy or JAX; anything else is no answer."""
    if isinstance(answer, np.bool_ | np.ndarray | jax.Array) and np.shape(answer) == () and answer.dtype == bool:
        return bool(answer)
    return answer is True


class Bar:
    """A progress bar of tqdm, or nothing."""

    def __init__(self, wanted: bool, unit: str, total: int) -> None:
        self.bar = check.progress_bar()(total=total, unit=unit) if wanted else None

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def show(self, progress: Progress) -> None:
        """Move to where the run is, with the cost beside."""
        if self.bar is not None:
            costs = {"cost": progress.cost, "validation": progress.validation_cost}
            self.bar.set_postfix({name: f"{float(cost):.6g}" for name, cost in costs.items() if cost is not None}, refresh=False)
            self.bar.update(int(progress.epoch) - self.bar.n)
