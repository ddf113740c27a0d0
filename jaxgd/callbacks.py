"""Callbacks: functions that are shown the progress of a run, now and then, and may stop it.

Any function of the `Progress` is a callback. It is called after every epoch of `fit` and every step of `minimize`; `Every` calls it
less often, or within epochs, and `Log` writes a line to a file. Several are given as a list.
"""

import csv
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxgd._checks import check

__all__ = ["Every", "Log"]


class Every:
    """A callback that is called every few steps, or every few epochs.

    Args:
        callback: a function of the `Progress`; it stops the run by returning True.
        steps: the number of updates from call to call, >= 1. In `fit` a run then pauses within its epochs.
        epochs: the same in epochs; 1 where neither is given. In `minimize` every step is an epoch.

    Calls come after whole multiples, counted from the start of the run, so that a run that was resumed has the calls of one without
    a pause.

    >>> import jaxgd
    >>> watch = jaxgd.callbacks.Every(lambda progress: print(progress.step, progress.cost), steps=10)
    >>> result = jaxgd.minimize(lambda v: v**2, 1.0, method=jaxgd.GradientDescent(0.5), stop=(), max_steps=25, callback=watch)
    10 0.0
    20 0.0
    """

    is_first = True  # of the processes that run together; a run says so

    def __init__(self, callback: Callable[[Any], Any], *, steps: int | None = None, epochs: int | None = None) -> None:
        name = type(self).__name__
        if callback != self:
            check.function(f"{name}: callback", callback, ("progress",), "a function, called as callback(progress)")
        if steps is not None and epochs is not None:
            raise ValueError(f"{name}: expected steps or epochs, got both.")
        self.callback = callback
        self.steps = None if steps is None else check.integer(f"{name}: steps", steps, 1)
        self.epochs = None if steps is not None else check.integer(f"{name}: epochs", 1 if epochs is None else epochs, 1)

    def __call__(self, progress: Any) -> Any:
        return self.callback(progress)

    def begin(self, progress: Any) -> None:
        """Prepare for a run; `progress` is where it goes on, None where it begins."""

    def end(self) -> None:
        """Leave a run, however it has ended."""

    def left(self, step: int, epoch: int) -> tuple[int, int]:
        """Return how many steps and how many epochs are left until the next call, one of them without end."""
        never = 2**62
        return (never if self.steps is None else self.steps - step % self.steps), (
            never if self.epochs is None else self.epochs - epoch % self.epochs
        )

    def is_due(self, before: tuple[int, int], now: tuple[int, int]) -> bool:
        """Return whether a call is due between two places, each a step and an epoch."""
        which, every = (0, self.steps) if self.steps is not None else (1, self.epochs)
        return now[which] // every > before[which] // every  # type: ignore[operator]


class Log(Every):
    """A callback that writes a line to a file: the step, the epoch, the costs, the learning rate, the time.

    Args:
        path: the file: comma-separated values if its name ends in .csv, else a JSON object a line. A run that begins replaces it.
            One that is resumed goes on after the last line that it had written where it was saved, and so do its seconds.
        steps: the number of updates from line to line, as in `Every`.
        epochs: the same in epochs.
        gradient_norm: whether to write that norm too; in `fit` it takes a pass over all rows for each line.

    Quantities that a run does not have are left out.

    >>> import jaxgd, pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.csv"
    >>> log = jaxgd.callbacks.Log(path)
    >>> result = jaxgd.minimize(lambda v: v**2, 1.0, method=jaxgd.GradientDescent(0.25), max_steps=2, callback=log)
    >>> print(path.read_text().splitlines()[0])
    step,epoch,cost,best_cost,learning_rate,seconds
    >>> [line.split(",")[:3] for line in path.read_text().splitlines()[1:]]
    [['1', '1', '0.25'], ['2', '2', '0.0625']]
    """

    def __init__(self, path: Any, *, steps: int | None = None, epochs: int | None = None, gradient_norm: bool = False) -> None:
        super().__init__(self, steps=steps, epochs=epochs)
        check.flag("Log: gradient_norm", gradient_norm)
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"Log: path: expected the path of a file, got {check.show(path)}.")
        self.path, self.with_gradient = Path(path), bool(gradient_norm)
        if not self.path.parent.is_dir() or self.path.is_dir():
            raise ValueError(f"Log: path: expected a file in a folder that exists, got {self.path}.")
        self.file: Any = None
        self.columns: list[str] | None = None
        self.seconds = 0.0

    def begin(self, progress: Any) -> None:
        if not self.is_first:
            return
        kept, self.columns = [], None
        if progress is not None and self.path.exists():
            lines = [line for line in self.path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
            if lines and self.path.suffix == ".csv":
                self.columns, kept = lines[0].strip().split(","), [lines.pop(0)]
            kept += [line for line in lines if self._number_in(line, "step", math.inf) <= progress.step]
        self.seconds = self._number_in(kept[-1], "seconds", 0.0) if kept else 0.0
        self.file = self.path.open("w", encoding="utf-8", newline="")
        self.file.writelines(kept)

    def end(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None

    def __call__(self, progress: Any) -> None:
        row = {name: value for name, value in self._row(progress).items() if value is not None}
        if not self.is_first:
            return
        if self.path.suffix == ".csv":
            is_first = self.columns is None
            self.columns = list(row) if self.columns is None else self.columns
            writer = csv.DictWriter(self.file, self.columns, extrasaction="ignore", lineterminator="\n")
            if is_first:
                writer.writeheader()
            writer.writerow(row)
        else:
            row = {name: value if math.isfinite(value) else None for name, value in row.items()}  # JSON has no other numbers
            self.file.write(json.dumps(row, allow_nan=False) + "\n")
        self.file.flush()

    def _row(self, progress: Any) -> dict[str, Any]:
        return {
            "step": int(progress.step),
            "epoch": int(progress.epoch),
            "cost": _number(progress.cost),
            "validation_cost": _number(progress.validation_cost),
            "best_cost": _number(progress.best.cost),
            "learning_rate": _number(progress.learning_rate),
            "gradient_norm": _number(progress.gradient_norm) if self.with_gradient else None,
            "seconds": self.seconds + progress.seconds,
        }

    def _number_in(self, line: str, name: str, missing: float) -> float:
        """Return a number of a line by its name."""
        try:
            row = json.loads(line) if self.columns is None else dict(zip(self.columns, line.strip().split(","), strict=True))
            return float(row[name])
        except (ValueError, KeyError, TypeError):
            return missing


def _number(value: Any) -> float | None:
    """Return a scalar as the shortest decimal of the same number; None for none, or for several."""
    if value is None or len(jax.tree.leaves(value)) != 1 or np.ndim(value):
        return None
    return float(str(np.asarray(value)[()]))


def as_callbacks(callback: Any) -> tuple[Every, ...]:
    """Check the argument `callback`, and return what it holds, each knowing when it is called."""
    if callback is None:
        return ()
    found = callback if isinstance(callback, list | tuple) else [callback]
    for one in found:
        check.function("callback", one, ("progress",), "None, a function, called as callback(progress), or a list of them")
    return tuple(one if isinstance(one, Every) else Every(one) for one in found)
