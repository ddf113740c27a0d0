"""The pictures: what is drawn is what was recorded, with two points and with two million; and it can be read."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

import jaxgd
from jaxgd import Contour, GradientDescent, Profile, Status, Sweep
from jaxgd.result import Starts
from tests.pictures import check, legend, lines, marked
from tests.problems import X, Y, square
from tests.runs import NORMAL, correlated, descend, line, probability, recorded

plot: Any = jaxgd.plot
MANY = 2_000_000
RATES = np.array([0.1, 0.3, 0.9])


def test_importing_jaxgd_does_not_import_matplotlib() -> None:
    program = "import sys, jaxgd; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("name", plot.__all__)
def test_without_matplotlib_the_error_names_the_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    options = {"learning_rates": [0.1], "momenta": [0], "max_steps": 1} if name == "paths_grid" else {}
    count = {"path": 2, "paths_grid": 2, "decision_boundary": 3, "fit": 3}.get(name, 1)
    with pytest.raises(ImportError, match=r'pip install "jaxgd\[plot\]"'):
        getattr(plot, name)(*[None] * count, **options)


def test_costs_are_drawn_as_recorded() -> None:
    runs = {"slow": descend(0.1), "fast": descend(0.3)}
    ax = plot.cost(runs)
    for drawn, run in zip(lines(ax, "cost"), runs.values(), strict=True):
        np.testing.assert_array_equal(drawn, np.stack([np.arange(21), run.history.cost], axis=1))
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == ("step", "cost", "log")
    assert legend(ax) == ["slow", "fast"] and ax.get_lines()[0].get_marker() != ax.get_lines()[1].get_marker()
    plot.cost(descend(0.9), ax=ax, labels=0.9)
    assert len({one.get_color() for one in ax.get_lines()}) == 3
    assert plot.cost(recorded([-1.0, -300.0])).get_yscale() == plot.cost(recorded([2.0, 1.0])).get_yscale() == "linear"
    assert plot.cost(recorded([2.0, 1.0]), log=True).get_yscale() == "log"


def test_epochs_steps_and_validation() -> None:
    x = np.linspace(0, 1, 40)
    fitted: Any = jaxgd.fit(
        lambda s, rows: jnp.mean((s * rows - 3 * rows) ** 2),
        0.0,
        x,
        batch_size=7,
        n_epochs=4,
        key=0,
        method=GradientDescent(0.1),
        validation=x[:9],
        history="cost",
    )
    ax = plot.cost(fitted)
    assert ax.get_xlabel() == plot.cost([fitted, descend(0.1)]).get_xlabel() == "epoch"
    (trained,), (held_out,) = lines(ax, "cost"), lines(ax, "validation")
    np.testing.assert_array_equal(held_out, np.stack([np.arange(5), fitted.history.validation_cost], axis=1))
    np.testing.assert_array_equal(trained[:, 1], fitted.history.cost)
    first, second = ax.get_lines()[:2]
    assert first.get_color() == second.get_color() and (first.get_linestyle(), second.get_linestyle()) == ("-", "--")
    assert legend(ax) == ["cost", "validation"]
    np.testing.assert_array_equal(lines(plot.cost(fitted, unit="step"), "cost")[0][:, 0], 6 * np.arange(5))


def test_lanes_have_a_line_each_without_what_is_after_their_end() -> None:
    rates = jnp.array([0.1, 0.3, 1e12])
    many = jax.vmap(lambda rate: descend(rate, history="cost"))(rates)
    ax = plot.cost(many, labels=rates)
    assert legend(ax) == ["0.1", "0.3", "1e+12 (diverged)"]
    assert [len(one) for one in lines(ax, "cost")] == [21, 21, int(many.n_steps[2]) + 1]
    assert 100 < ax.get_ylim()[1] < 1e3  # the run that diverged does not set the scale
    assert len(lines(plot.cost(jax.vmap(lambda rate: descend(rate, history="cost"))(jnp.linspace(0.1, 0.4, 40))), "cost")) == 40
    ax = plot.cost([recorded([4.0 + lane, 1.0 + lane]) for lane in range(301)])
    np.testing.assert_array_equal(marked(ax, "median"), [[0, 154], [1, 151]])
    assert legend(ax) == ["all 301 runs", "the middle half", "median"]


def test_a_zero_is_at_the_lower_edge_of_a_logarithm() -> None:
    ax = plot.cost(recorded([100.0, 1.0, 0.0]))
    assert ax.get_yscale() == "log" and lines(ax, "cost")[0][2, 1] == ax.get_ylim()[0] < 1


def test_numbers_at_the_end_of_their_range_are_drawn() -> None:
    for costs in ([1.0, 1e150, 1e308], [1e308, 1e307], [-1e308, -1.0], [1e-300, 0.0, 1e308], [1.0, np.nan], [np.nan]):
        check(plot.cost(recorded(costs, Status.DIVERGED if costs[-1] == 1e308 else Status.MAX_STEPS)).figure)
    for costs in ([1e308, -1e308, 0.0], [1.7e308, 1.6e308], [-1.7e308, -1.6e308], [1.0, 1e308], [1e308, 1e-308]):
        ends, rates = np.array(costs), np.geomspace(0.1, 1, len(costs))
        for log in (None, True) if min(costs) > 0 else (None,):
            check(plot.starts(Starts(None, ends, np.full(len(costs), 1), None), log=log).figure)
        check(plot.sweep(Sweep(rates, ends)).figure)


def test_a_line_of_millions_keeps_its_extremes() -> None:
    costs = np.random.default_rng(0).uniform(1, 2, MANY)
    costs[777_777], costs[-1] = 9, 0.5
    ax = plot.cost(recorded(costs))
    (drawn,) = lines(ax, "cost")
    assert len(drawn) <= 4002
    np.testing.assert_array_equal(costs[drawn[:, 0].astype(int)], drawn[:, 1])
    assert [777_777, 9] in drawn.tolist() and drawn[0, 0] == 0 and drawn[-1].tolist() == [MANY - 1, 0.5]


def test_ends_are_sorted_and_told_apart() -> None:
    costs, codes = np.array([3.0, 1, np.nan, 2, 1e30]), [Status[name].code for name in ("CONVERGED", "STALLED", "DIVERGED")]
    ax = plot.starts(recorded([1.0])) if False else plot.starts(Starts(None, costs, np.array(codes)[[0, 0, 2, 1, 2]], None))
    ends = [one.tolist() for one in lines(ax, "ends")]
    assert ends == [[[1, 1], [3, 3]], [[2, 2]], []] and marked(ax, "best: 1").tolist() == [[1, 1]]
    assert legend(ax) == ["converged: 2", "stalled: 1", "diverged: 2\nat the edge: 1 not finite, 1 far above", "best: 1"]
    assert lines(ax, "edge")[0].tolist() == [[4, 1], [5, 1]] and ax.get_ylim()[1] < 5
    many = plot.starts(Starts(None, np.random.default_rng(0).normal(size=MANY), np.full(MANY, 1), None))
    assert sum(map(len, lines(many, "ends"))) < 5000 and legend(many)[0] == "converged: 2,000,000"


def test_starts_leave_room_for_another_panel() -> None:
    figure, axes = plt.subplots(1, 2, layout="constrained")
    plot.starts(Starts(None, np.array([1.0, 2.0]), np.array([1, 1]), None), ax=axes[1])
    figure.draw_without_rendering()
    assert min(ax.get_position().width for ax in axes) > 0.3


def test_a_sweep_marks_the_best_and_what_diverged() -> None:
    ax = plot.sweep(Sweep(np.array([0.01, 0.1, 1, 10, 100]), np.array([2, 1, 3, 1e9, np.inf])))
    assert lines(ax, "cost")[0][:3].tolist() == [[0.01, 2], [0.1, 1], [1, 3]] and ax.get_ylim()[1] < 5
    assert ax.get_xscale() == ax.get_yscale() == "log" and legend(ax) == ["best: 0.1", "diverged or far above: 2"]
    assert marked(ax, "diverged or far above: 2")[:, 0].tolist() == [10, 100]
    assert plot.sweep(Sweep(RATES, -RATES)).get_yscale() == "linear"


def drawings(size: str) -> dict[str, Callable[[Any], Any]]:
    """A drawing by each function, of little, of what is usual, or of very much."""
    n = {"small": 2, "typical": 200, "huge": MANY}[size]
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(size=(n, 2)), axis=0) * 1e-9
    costs = 1e9 * np.exp(-np.arange(n) / n * 5) * rng.uniform(1, 2, n)
    found, x = correlated({"small": 1, "typical": 9, "huge": 200}[size]), rng.uniform(0, 60, n)
    params, data = {"offset": 1.0, "slope": 2.0}, (x, 2 * x + rng.normal(size=n))
    points, codes = rng.normal(size=(n, 2)).astype(np.float32), rng.choice([1, 3, 7, 9, 10], n)
    path = recorded(costs, params=walk)
    angles, zero = np.linspace(0, 2 * np.pi, n, endpoint=False), np.float64(0)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    valley = Profile(angles - 3, (angles - 3) ** 2, None, codes, None, zero, zero, np.float64(0.7), np.float64(0.5), "params['w']")
    around = Contour(circle, codes, None, None, None, zero, np.zeros(2), np.eye(2), zero + 1, ("params[0]", "params[1]"), 0.9)
    return {
        "cost": lambda ax: plot.cost(recorded(costs, validation_cost=2 * costs), ax=ax),
        "path": lambda ax: plot.path(path, lambda v: jnp.sum((v * 1e9) ** 2), ax=ax),
        "decision_boundary": lambda ax: plot.decision_boundary(probability, NORMAL[1:], (points, points[:, 0] > 0), ax=ax),
        "fit": lambda ax: plot.fit(line, params, data, ax=ax),
        "correlation": lambda ax: plot.correlation(found, ax=ax),
        "starts": lambda ax: plot.starts(Starts(None, np.where(codes > 9, np.inf, rng.normal(size=n)), codes, None), ax=ax),
        "sweep": lambda ax: plot.sweep(Sweep(np.logspace(-9, 1, n), costs), ax=ax),
        "profile": lambda ax: plot.profile(valley, ax=ax),
        "contour": lambda ax: plot.contour(around, ellipse=True, ax=ax),
    }


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("size", ["small", "typical", "huge"])
def test_every_picture_can_be_read(size: str) -> None:
    for draw in drawings(size).values():
        check(draw(None).figure)


@pytest.mark.parametrize("name", [name for name in plot.__all__ if name != "paths_grid"])
def test_only_the_axes_given_are_touched(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(plt, "show")
    before = dict(matplotlib.rcParams)
    ax, other = Figure().subplots(1, 2)
    assert drawings("typical")[name](ax) is ax
    assert ax.has_data() and not other.has_data() and other.axison and len(ax.figure.axes) == 2
    assert dict(matplotlib.rcParams) == before and not plt.get_fignums()


ERRORS: list[tuple[Callable[[], Any], str]] = [
    (lambda: plot.cost(jaxgd.minimize(square, 1.0)), r'run with history="cost"'),
    (lambda: plot.cost([]), "results: expected a Result with a history, several of them, or a dict of them, got none"),
    (lambda: plot.cost([recorded([1.0])], labels=["a", "b"]), "labels: expected one for each of 1 lines, got 2"),
    (lambda: plot.cost(recorded([1.0]), unit="batch"), "unit: expected 'epoch' or 'step', got 'batch'"),
    (lambda: plot.cost(recorded([1.0]), ax=3), "ax: expected an Axes of matplotlib, or None, got 3"),
    (lambda: jax.jit(lambda rate: plot.cost(descend(rate)))(0.1), "results: expected numbers, got values that JAX is tracing"),
    (lambda: plot.path(descend(0.1, history="cost"), square), r'result: .* run with history="params"'),
    (lambda: plot.path(descend(0.1, np.ones(3), lambda v: jnp.sum(v**2)), square), "result: expected one or two parameters"),
    (lambda: plot.path(jax.vmap(descend)(jnp.asarray(RATES)), square), "result: expected that of one run, got those of 3"),
    (lambda: plot.path(descend(0.1), square, minimum=[0.0, 1.0]), "minimum: expected None, False or a pytree like the parameters"),
    (lambda: plot.decision_boundary(probability, 1, (np.eye(3), [0, 1, 2])), "data: expected x with two columns that vary"),
    (lambda: plot.fit(line, {}, (np.eye(3), X)), r"data: expected x of shape \(n,\) or \(n, 1\), got shape \(3, 3\)"),
    (
        lambda: plot.fit(line, {"a": 1.0}, (X, Y), covariance=correlated(2)),
        r"covariance: expected that of the parameters params\['a'",
    ),
    (lambda: plot.starts(recorded([1.0])), "result: expected the Result of minimize with n_starts"),
    (lambda: plot.sweep(RATES), "sweep: expected what jaxgd.learning_rate_sweep returns"),
]


@pytest.mark.parametrize("call, message", ERRORS)
def test_errors_name_the_argument(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_the_look_at_a_figure_sees_what_is_wrong() -> None:
    empty, cut, crowded = Figure(), Figure(), Figure()
    for figure in (cut, crowded):
        figure.subplots()
    cut.text(0.95, 0.5, "a long sentence at the edge", fontsize=20)
    for place in (0.5, 0.51):
        crowded.text(place, 0.5, "a sentence", fontsize=20)
    for figure, message in ((empty, "is empty"), (cut, "is cut off"), (crowded, "overlap")):
        with pytest.raises(AssertionError, match=message):
            check(figure)
