"""The picture of the cost of runs over their steps or epochs."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxgd._checks import check
from jaxgd._trees import is_number
from jaxgd.plot import _numbers, _style
from jaxgd.plot._style import Axes
from jaxgd.result import Result, Status

_FEW = 8  # runs that get a colour and a marker each
_MANY = 256  # runs above which a band stands for them
_POINTS = 60_000  # of all lines together
_LINES = {"cost": "-", "validation": "--"}
_EXPECTED = "a Result with a history, several of them, or a dict of them"


class _Run(NamedTuple):
    """A run to draw: costs and, if there are any, validation costs at the steps or epochs `x`."""

    name: str
    x: np.ndarray
    costs: dict[str, np.ndarray]  # of the "cost" and the "validation"
    code: int


def cost(
    results: Any,
    *,
    ax: "Axes | None" = None,
    labels: Any = None,
    log: bool | None = None,
    unit: str | None = None,
) -> "Axes":
    """Draw the cost over the steps or epochs of one run or of several, the validation cost dashed beside it.

    Up to eight runs have a colour and a marker each; up to 256 have a colour from dark to light in their order. More are drawn as
    the band of all, the band of their middle half, and their median, where a run that has ended counts with its last cost. A run
    that left for infinity leaves the frame, unless all of them did, and is named if it diverged. The scale is logarithmic where all
    costs are positive or zero and span a decade; zeros are at its lower edge.

    Args:
        results: a `Result` with `history="cost"`, several, or a dict label -> result; one of `jax.vmap` has a line for each run.
        ax: the Axes to draw into; None makes a figure.
        labels: the names of the lines, as many as there are: text or numbers, such as the learning rates.
        log: whether the costs are on a logarithmic scale; None chooses it where it helps.
        unit: "epoch" or "step"; None is the epoch for `fit` and the step for `minimize`, and the epoch for both together.

    Returns:
        The Axes.

    Raises:
        TypeError, ValueError: for a bad argument; the message names it.

    >>> import jaxgd
    >>> def run(rate):
    ...     descent = jaxgd.GradientDescent(rate)
    ...     return jaxgd.minimize(lambda v: v**2, 10.0, method=descent, max_steps=20, stop=(), history="cost")
    >>> ax = jaxgd.plot.cost({"slow": run(0.05), "fast": run(0.3)})
    >>> ax.get_xlabel(), ax.get_yscale(), [text.get_text() for text in ax.get_legend().get_texts()]
    ('step', 'log', ['slow', 'fast'])
    """
    _style.needed()
    if log is not None:
        check.flag("log", log)
    if unit is not None:
        check.one_of("unit", unit, ("epoch", "step"))
    given = _given(results, labels)
    in_epochs = any(np.any(np.asarray(result.n_epochs) != np.asarray(result.n_steps)) for _, result in given)
    unit = unit or ("epoch" if in_epochs else "step")
    runs = _named([run for name, result in given for run in _runs(name, result, unit)], labels)
    ax = _style.axes(ax)
    leading = _shown(_leading(runs))
    edge = None
    if log is True or (log is None and _spans_a_decade(leading)):
        ax.set_yscale("log")
        edge = _numbers.floor(leading)
    if edge is not None:
        runs = [run._replace(costs={kind: np.where(cost == 0, edge, cost) for kind, cost in run.costs.items()}) for run in runs]
    _limit(ax, runs, edge)
    draw = _bands if len(runs) > _MANY else _family if len(runs) > _FEW else _lines
    draw(ax, runs)
    ax.set(xlabel=unit, ylabel="cost")
    _style.ticks(ax, counts=True)
    if len(runs) > 1 or "validation" in runs[0].costs or ax.get_legend() or runs[0].name:
        ax.legend(framealpha=0.85)
    return ax


def _given(results: Any, labels: Any) -> list[tuple[str, Result]]:
    """Return the results, checked, with the names that they came with."""
    results = [results] if isinstance(results, Result) else results
    if not isinstance(results, list | tuple | dict):
        raise TypeError(f"results: expected {_EXPECTED}, got {check.show(results)}.")
    if isinstance(results, dict) and labels is not None:
        raise ValueError(f"labels: expected None beside a dict of results, got {check.show(labels)}.")
    named = results.items() if isinstance(results, dict) else (("", result) for result in results)
    given = [(_style.label(name), result) for name, result in named]
    for _, result in given:
        if not isinstance(result, Result):
            raise TypeError(f"results: expected {_EXPECTED}, among them is {check.show(result)}.")
        _numbers.concrete("results", result.code, result.n_steps, result.n_epochs, result.history)
        if result.history is None or result.history.cost is None:
            raise ValueError('results: expected a Result with history.cost, got none: run with history="cost".')
    if not given:
        raise ValueError(f"results: expected {_EXPECTED}, got none.")
    return given


def _runs(name: str, result: Result, unit: str) -> Iterator[_Run]:
    """Yield the runs of a result: one, or after `jax.vmap` one for each lane."""
    history = result.history
    assert history is not None
    costs = {"cost": np.asarray(history.cost, np.float64)}
    if history.validation_cost is not None:
        costs["validation"] = np.asarray(history.validation_cost, np.float64)
    lanes = costs["cost"].shape[:-1]
    shared = (result.code, result.n_steps, result.n_epochs, getattr(result.state, "batch", 0))
    code, n_steps, n_epochs, batch = (np.broadcast_to(np.asarray(value), lanes) for value in shared)
    for lane in np.ndindex(lanes):
        known = np.flatnonzero(~np.isnan(costs["cost"][lane]))
        length = int(known[-1]) + 1 if known.size else 1  # after the end of a lane there are NaN
        x = np.arange(length, dtype=np.float64)
        if unit == "step" and n_epochs[lane]:
            lost = Status.of(code[lane]).nonfinite and n_steps[lane] != n_epochs[lane]  # the update that was taken back
            x *= round(float(n_steps[lane] + lost - batch[lane]) / float(n_epochs[lane]))
        index = ", ".join(map(str, lane))
        full = (f"{name} [{index}]" if name else f"run {index}") if index else name
        yield _Run(full, x, {kind: values[lane][:length] for kind, values in costs.items()}, int(code[lane]))


def _named(runs: list[_Run], labels: Any) -> list[_Run]:
    """Return the runs with their labels, or with numbers where they have none, and with a note where they diverged."""
    if labels is not None:
        single = isinstance(labels, str) or is_number(labels)
        names = [_style.label(one) for one in ([labels] if single else labels)]
        if len(names) != len(runs):
            raise ValueError(f"labels: expected one for each of {len(runs)} lines, got {len(names)}.")
    else:
        names = [run.name or (f"run {place}" if len(runs) > 1 else "") for place, run in enumerate(runs)]
    named = []
    for name, run in zip(names, runs, strict=True):
        note = (" (diverged)" if name else "diverged") if Status.of(run.code).nonfinite else ""
        named.append(run._replace(name=_style.short(name) + note))
    return named


def _leading(runs: list[_Run]) -> list[_Run]:
    """Return the runs that set the scale: those that did not leave for infinity, or all where all did."""
    return [run for run in runs if not _numbers.blown_up(run.costs["cost"], run.code)] or runs


def _shown(runs: list[_Run]) -> np.ndarray:
    """Return all finite costs of some runs."""
    values = np.concatenate([values for run in runs for values in run.costs.values()])
    return values[np.isfinite(values)]


def _spans_a_decade(costs: np.ndarray) -> bool:
    """Return whether no cost is negative, and most are positive and span a decade or more."""
    positive = costs[costs > 0]
    return positive.size > max(1, 0.5 * costs.size) and costs.min() >= 0 and positive.max() / 10 >= positive.min()


def _limit(ax: "Axes", runs: list[_Run], edge: float | None) -> None:
    """Set the limits if runs left for infinity, zeros are at the lower edge, or automatic limits would overflow."""
    leading, log = _leading(runs), ax.get_yscale() == "log"
    values = np.concatenate([_shown(leading), *(run.costs["cost"][:1] for run in runs)])
    values = values[np.isfinite(values) & ((values > 0) | (not log))]
    if not values.size:
        return
    values = np.log10(values) if log else values
    most = _numbers.DECADES if log else _numbers.END
    if len(leading) == len(runs) and edge is None and np.max(abs(values)) < 0.9 * most:
        return
    low, high = np.clip([values.min(), values.max()], -most, most)
    room = 0.05 * (high - low) or 0.5
    low, high = (10**low / 10**room, 10 ** (high + room)) if log else (low - room, high + room)
    ax.set_ylim(low if edge is None else edge, high)


def _lines(ax: "Axes", runs: list[_Run]) -> None:
    """Draw a few runs, with a colour and a marker each."""
    drawn = sum(line.get_gid() == "cost" for line in ax.get_lines())  # by calls before this one
    for place, run in enumerate(runs, start=drawn):
        color, marker = _style.pair(place)
        plain = len(runs) + drawn == 1 and len(run.x) > 20
        for kind, values in run.costs.items():
            kept = _numbers.envelope(values)
            ax.plot(
                run.x[kept],
                values[kept],
                color=color,
                linestyle=_LINES[kind],
                linewidth=1.4 if len(kept) == len(values) else 0.8,
                marker="" if plain else marker,
                markersize=4.5,
                markerfacecolor=color if kind == "cost" else ax.get_facecolor(),
                markevery=max(1, len(kept) // 8) if len(kept) > 20 else None,
                label=(run.name or "cost") if kind == "cost" else "_",
                gid=kind,
            )
    if any("validation" in run.costs for run in runs):
        color = _style.BLUE if len(runs) == 1 else _style.ink(ax)
        ax.plot([], [], color=color, linestyle="--", linewidth=1.4, label="validation")


def _family(ax: "Axes", runs: list[_Run]) -> None:
    """Draw some more runs, coloured from dark to light in their order, a few of them named."""
    import matplotlib

    colors = matplotlib.colormaps["cividis"](np.linspace(0, 0.9, len(runs)))
    named = set(np.linspace(0, len(runs) - 1, 6).astype(int))
    for place, (run, color) in enumerate(zip(runs, colors, strict=True)):
        for kind, values in run.costs.items():
            kept = _numbers.envelope(values, max(100, _POINTS // len(runs)))
            name = run.name if kind == "cost" and place in named else "_"
            ax.plot(run.x[kept], values[kept], color=color, linestyle=_LINES[kind], linewidth=0.9, label=name, gid=kind)


def _bands(ax: "Axes", runs: list[_Run]) -> None:
    """Draw the band of all of very many runs, the band of their middle half, and their median."""
    longest = max((run.x for run in runs), key=len)
    kept = np.unique(np.linspace(0, len(longest) - 1, min(len(longest), max(50, 10_000_000 // len(runs)))).astype(int))
    for kind, line in _LINES.items():
        values = [run.costs[kind] for run in runs if kind in run.costs]
        filled = [_filled_forward(one, kept) for one in values if np.isfinite(one[0])]
        if not filled:
            continue
        low, lower, median, upper, high = np.quantile(filled, [0, 0.25, 0.5, 0.75, 1], axis=0)
        if kind == "cost":
            ax.fill_between(longest[kept], low, high, color=_style.SKY, alpha=0.3, linewidth=0, label=f"all {len(runs):,} runs")
            ax.fill_between(longest[kept], lower, upper, color=_style.BLUE, alpha=0.4, linewidth=0, label="the middle half")
        name = "median" if kind == "cost" else "median, validation"
        ax.plot(longest[kept], median, color=_style.ink(ax), linestyle=line, linewidth=1.4, label=name)


def _filled_forward(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the values at some places, each the last finite one up to there."""
    last = np.maximum.accumulate(np.where(np.isfinite(values), np.arange(len(values)), 0))
    return values[last[np.minimum(places, len(values) - 1)]]
