"""The progress that a callback sees, and the bar that shows it."""

import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxgd import _text
from jaxgd._checks import check
from jaxgd._trees import pytree, untracked
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
        seconds: the time since the call began to run, without that of compiling.
        rows_per_second: how many rows of the data were looked at in a second, lately; None where there are no data.
        details: functions for what is found only when it is asked for, `learning_rate` and `gradient_norm`.

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
    seconds: float | None = untracked(default=None)
    rows_per_second: float | None = untracked(default=None)
    details: dict[str, Callable[[], Any]] | None = untracked(default=None)

    @property
    def learning_rate(self) -> Any:
        """The rate of the next update; None where the method has none."""
        return self._detail("learning_rate")

    @property
    def gradient_norm(self) -> Any:
        """The Euclidean norm of the gradient over all rows: in `fit` a pass over the data, made when it is asked for."""
        return self._detail("gradient_norm")

    def _detail(self, name: str) -> Any:
        found = (self.details or {}).get(name)
        return None if found is None else found()


Callback = Callable[[Progress], Any]
"""A function that is shown the progress, and stops the run by returning True."""


def says_true(answer: Any) -> bool:
    """Return whether a callback returned True, of Python, NumPy or JAX; anything else is no answer."""
    if isinstance(answer, np.bool_ | np.ndarray | jax.Array) and np.shape(answer) == () and answer.dtype == bool:
        return bool(answer)
    return answer is True


class Display:
    """A display of the progress: nothing; see its subclasses."""

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the display."""

    def show(self, progress: Progress) -> None:
        """Show where the run is."""


class Bar(Display):
    """A progress bar of tqdm, which knows terminals and notebooks."""

    def __init__(self, unit: str, total: int) -> None:
        self.bar = check.progress_bar()(total=total, unit=unit)

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def show(self, progress: Progress) -> None:
        self.bar.set_postfix(_quantities(progress), refresh=False)
        self.bar.update(int(progress.epoch) - self.bar.n)


class Lines(Display):
    """A line for each epoch, or for each pause where epochs are short."""

    def __init__(self, unit: str, total: int) -> None:
        self.unit, self.total, self.before = unit, total, 0

    def show(self, progress: Progress) -> None:
        epoch = int(progress.epoch)
        if epoch > self.before:
            self.before = epoch
            place = f"{self.unit} {epoch:{len(str(self.total))}d}/{self.total}"
            rate = progress.rows_per_second
            speed = [f"{_text.short(rate)} rows/s"] if rate else []
            shown = [f"{name} {value}" for name, value in _quantities(progress).items()]
            print("  ".join([place, *shown, *speed, _text.duration(progress.seconds or 0.0)]), flush=True)


def display(wanted: bool | str, unit: str, total: int) -> Display:
    """Return the display for the argument `progress`."""
    if wanted == "auto":
        seen = sys.stderr.isatty() or "ipykernel" in sys.modules
        wanted = seen and (importlib.util.find_spec("tqdm") is not None or "lines")
    if not wanted:
        return Display()
    return Lines(unit, total) if wanted == "lines" else Bar(unit, total)


def _quantities(progress: Progress) -> dict[str, str]:
    """Return the costs of a run, and its learning rate if that is one number, as they are shown."""
    rate = progress.learning_rate
    values = {"cost": progress.cost, "validation": progress.validation_cost, "rate": rate if np.ndim(rate) == 0 else None}
    return {name: f"{float(value):.6g}" for name, value in values.items() if value is not None}
