"""The report on a fit that has not begun."""

import dataclasses
import textwrap
from typing import Any

from jaxgd import _text
from jaxgd._diagnosis.columns import Column
from jaxgd._diagnosis.findings import Finding
from jaxgd._diagnosis.slopes import Slope

_WIDTH = 100  # characters of a line
_NONE = "No reason found why a fit from this start should fail."


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """The findings of `jaxgd.check`: warnings, each with its cure, and what else there is to know before a fit.

    Attributes:
        warnings: possible reasons for a bad fit, the gravest first, each with a `code`, a `text` and a `cure`; none if all is well.
        n_params: how many numbers are free.
        n_rows: how many rows the data have; None where they have no common number.
        cost: the cost at the start.
        gradient: the gradient there, a pytree like the parameters, zero for what is fixed.
        slopes: for each direction its `name`, the `slope` by the gradient, the `difference` of the cost to compare it with, the
            `error` of that, and the `size` of the parameter. Directions are single numbers, or, of more than 200, whole arrays.
            There are none where the cost or its gradient is not finite.
        condition: the condition of the Hessian in the parameters' own units; NaN where unknown.
        scaled_condition: the same in units in which each parameter alone has curvature 1.
        n_negative: how many of its eigenvalues are negative; of more than 200 parameters those that a few products show.
        flat: directions in which the cost is flat, in words.
        columns: the `name`, `dtype`, `mean`, `std` and `size` of each column of the data, and its `rounding` in 32 bits.
        adds_up: whether the cost is a "mean" or a "sum" over the rows, or "neither"; None where that is unknown.
        seconds: the time of one evaluation of "value and gradient", and of a "Hessian" or of a "Hessian product".
        methods: what "minimize" and "fit" do by default, and why.
        facts: what a printed report says beside the warnings, pairs of a name and a text.
        rows: the values and slopes of the parameters, as a printed report shows them.

    >>> import jaxgd
    >>> jaxgd.check(lambda v: (v - 3) ** 2, 0.0).ok
    True
    """

    warnings: tuple[Finding, ...]
    n_params: int
    n_rows: int | None
    cost: float
    gradient: Any
    slopes: tuple[Slope, ...]
    condition: float
    scaled_condition: float
    n_negative: int
    flat: tuple[str, ...]
    columns: tuple[Column, ...]
    adds_up: str | None
    seconds: dict[str, float]
    methods: dict[str, str]
    facts: tuple[tuple[str, str], ...] = dataclasses.field(default=(), repr=False)
    rows: tuple[_text.Row, ...] = dataclasses.field(default=(), repr=False)

    @property
    def ok(self) -> bool:
        """Whether there is no warning."""
        return not self.warnings

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of the warnings."""
        return tuple(one.code for one in self.warnings)

    def after(self, seconds: float) -> "Report":
        """Return the report with the time that it took among its facts."""
        return dataclasses.replace(self, facts=(*self.facts, ("after", _text.duration(seconds))))

    def __str__(self) -> str:
        labels = [one.code for one in self.warnings] + [name for name, _ in self.facts]
        width = max([8, *map(len, labels)])
        return self._sheet("\n" + " " * (width + 4), _WIDTH - width - 4).text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the table that a notebook shows."""
        return self._sheet("\n", 10**6).html()

    def _sheet(self, newline: str, width: int) -> _text.Sheet:
        count = len(self.warnings)
        sentence = _NONE if not count else f"{_text.plural(count, 'possible reason')} for a bad fit."
        told = [(one.code, str(one)) for one in self.warnings] + list(self.facts)
        wrapped = [(name, newline.join(textwrap.wrap(text, width, break_long_words=False))) for name, text in told]
        return _text.Sheet(sentence, wrapped, self.rows)
