"""Results in words: a few lines for a terminal, and a table for a notebook, from one and the same `Sheet`."""

import dataclasses
import html
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_FEW = 8  # numbers of an array that are shown one by one
_LINES = 20  # arrays of the parameters that are shown


class Row(NamedTuple):
    """A line about a parameter: its name, its value, and its uncertainty where that is known."""

    name: str
    value: str
    error: str = ""


class Sheet(NamedTuple):
    """The text of a summary: a sentence, facts with their names, a line for each parameter, and what follows them."""

    sentence: str
    facts: Sequence[tuple[str, str]]
    rows: Sequence[Row]
    notes: Sequence[str] = ()

    def text(self) -> str:
        """Lines for a terminal."""
        width = max((len(row.name) for row in self.rows if row.value), default=8)
        digits = max((len(row.value) for row in self.rows if row.error), default=0)
        label = max((len(name) for name, _ in self.facts), default=0)
        lines = [self.sentence] + [f"  {name:<{max(label, 8)}}  {value}" for name, value in self.facts]
        for row in self.rows:
            value = f"{row.value:>{digits}} ± {row.error}" if row.error else row.value
            lines.append(f"  {row.name:<{max(width, 8)}}  {value}".rstrip())
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])

    def html(self) -> str:
        """Return a table for a notebook; the colours are the notebook's own."""

        def line(name: str, value: str, error: str = "") -> str:
            cell = html.escape(f"{value} ± {error}" if error else value).replace("\n", "<br>")
            styles = 'style="text-align: left"'
            return f"<tr><th {styles}>{html.escape(name)}</th><td {styles}>{cell}</td></tr>"

        body = [line(*fact) for fact in self.facts] + [line(*row) for row in self.rows]
        notes = f"<pre>{html.escape(chr(10).join(self.notes))}</pre>" if self.notes else ""
        return f"<div><p><b>{html.escape(self.sentence)}</b></p><table>{''.join(body)}</table>{notes}</div>"


def plural(count: Any, noun: str) -> str:
    """Return a count with its noun."""
    return f"{int(count):,} {noun}".replace(",", " ") + ("" if int(count) == 1 else "s")


def several(names: Sequence[str]) -> str:
    """Return some names, the first few where they are many.

    >>> several(["a", "b"]), several([f"x{k}" for k in range(20)])
    ('a, b', 'x0, x1, x2, x3, x4, x5, x6, x7, ... (20 in all)')
    """
    shown = ", ".join(names[:_FEW])
    return shown if len(names) <= _FEW else f"{shown}, ... ({len(names)} in all)"


def number(value: Any) -> str:
    """Return a number to nine digits."""
    return f"{float(np.asarray(value).astype(np.float64)):.9g}"


def duration(seconds: float) -> str:
    """Return a time to three digits, with its unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def short(number: float) -> str:
    """Return a large number to three digits.

    >>> short(950.0), short(12_345.0), short(1.98e7)
    ('950', '12.3k', '19.8M')
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def measured(value: Any, error: Any) -> tuple[str, str]:
    """Return a value and its standard error, the error to two digits and the value as far as they reach.

    >>> measured(5.6333333, 0.1731), measured(12345.6, 210.0), measured(1.0, float("nan"))
    (('5.63', '0.17'), ('12350', '210'), ('1', 'nan'))
    """
    value, error = float(value), float(error)
    if not (math.isfinite(value) and math.isfinite(error) and error > 0):
        return f"{value:.9g}", f"{error:.3g}"
    place = math.floor(math.log10(float(f"{error:.1e}"))) - 1  # of the second digit of the error
    rounded = round(value / 10.0**place)
    digits = max(len(str(abs(rounded))), 2)
    if -5 <= place <= 0:
        return f"{value:.{-place}f}", f"{error:.{-place}f}"
    if 0 < place and digits + place <= 9:
        return f"{rounded * 10**place:d}", f"{round(error / 10.0**place) * 10**place:d}"
    return f"{value:.{digits - 1}e}", f"{error:.1e}"


def interval(value: Any, lower: Any, upper: Any) -> str:
    """Return a value with the distances to both ends of its interval.

    All have the digits of the shorter one, to its second.

    >>> interval(9.0, 6.324, 12.342), interval(0.0, 0.0, 3.21), interval(1.0, -np.inf, 2.0)
    ('9.0 -2.7 +3.3', '0.0 -0.0 +3.2', '1.0 -inf +1.0')
    """
    value, sides = float(value), (float(value) - float(lower), float(upper) - float(value))
    known = [side for side in sides if math.isfinite(side) and side > 0]
    shown = [measured(number, min(known))[0] if known else f"{number:.9g}" for number in (value, *sides)]
    return f"{shown[0]} -{shown[1]} +{shown[2]}"


def of_tree(tree: Any, errors: Any = None, name: str = "params") -> list[Row]:
    """Return a row for each array of a tree, or for each number where there are errors."""
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    spread: list[Any] = [None] * len(paths) if errors is None else jax.tree.structure(tree).flatten_up_to(errors)
    rows: list[Row] = []
    for (path, leaf), error in zip(paths, spread, strict=True):
        if len(rows) >= _LINES:
            rows.append(Row(f"... and {plural(len(paths) - _LINES, 'more array')}", ""))
            break
        rows += _rows(name + jax.tree_util.keystr(path), leaf, error)
    return rows


def _rows(name: str, leaf: Any, errors: Any) -> Iterable[Row]:
    dtype = getattr(leaf, "dtype", np.dtype(type(leaf)))
    if not (jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.bool)):
        return []  # a function, a key: nothing that moves
    values = np.asarray(leaf)
    if errors is None:
        return [Row(name, array(values))]
    errors = np.asarray(errors).astype(np.float64)
    if values.size > _FEW:
        return [Row(name, array(values), array(errors))]
    places = (f"[{','.join(map(str, index))}]" if index else "" for index in np.ndindex(values.shape))
    pairs = zip(values.ravel().astype(np.float64), errors.ravel(), strict=True)
    return [
        Row(name + place, *((f"{value:.9g}", "0 (held)") if error == 0 else measured(value, error)))
        for place, (value, error) in zip(places, pairs, strict=True)
    ]


def array(values: Any) -> str:
    """Return all numbers of a small array; what kind of array a large one is, and its range."""
    kind, values = np.asarray(values).dtype, np.asarray(values).astype(np.float64)
    if values.ndim == 0:
        return number(values)
    if values.size > _FEW:
        finite = values[np.isfinite(values)]
        span = f"from {np.min(finite):.4g} to {np.max(finite):.4g}" if finite.size else "none of them finite"
        lost = f", {values.size - finite.size} not finite" if 0 < finite.size < values.size else ""
        return f"{kind} {values.shape}, {span}{lost}"
    with np.printoptions(precision=6, linewidth=100):
        return str(values).replace("\n", "\n" + " " * 12)


def brief(node: Any) -> str:
    """Return one of our dataclasses with its first field and those that differ from their defaults.

    >>> import jaxgd
    >>> brief(jaxgd.GradientDescent(0.1)), brief(jaxgd.GradientDescent(0.1, 0.9))
    ('GradientDescent(learning_rate=0.1)', 'GradientDescent(learning_rate=0.1, momentum=0.9)')
    """
    if not dataclasses.is_dataclass(node):
        return f"{node:.6g}" if isinstance(node, float) else str(node)
    fields = [(field, getattr(node, field.name)) for field in dataclasses.fields(node)]
    shown = [
        f"{field.name}={brief(value)}" for k, (field, value) in enumerate(fields) if k == 0 or not _is_default(value, field.default)
    ]
    return f"{type(node).__name__}({', '.join(shown)})"


def _is_default(value: Any, default: Any) -> bool:
    return isinstance(value, bool | int | float | str | None) and value == default
