"""Pictures of paths over a cost: arrows from point to point, on the ground that the cost is."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.contour import ContourSet

import jaxgd
from jaxgd import Status
from tests.pictures import arrows, check, legend, lines, marked
from tests.problems import quartic, square
from tests.runs import descend, recorded

plot: Any = jaxgd.plot
MANY = 2_000_000


def bowl(v: Any) -> Any:
    return v["slope"] ** 2 + 5 * v["offset"] ** 2


def test_arrows_go_from_point_to_point() -> None:
    result = descend(0.08, {"slope": 2.0, "offset": 1.0}, bowl, 0.5)
    points = np.stack([result.history.params["offset"], result.history.params["slope"]], axis=1).astype(np.float64)
    ax = plot.path(result, bowl)
    tails, steps = arrows(ax)
    np.testing.assert_array_equal(tails, points[:-1])
    np.testing.assert_array_equal(steps, np.diff(points, axis=0))
    np.testing.assert_array_equal(marked(ax, "start"), points[:1])
    np.testing.assert_array_equal(marked(ax, "end"), points[-1:])
    np.testing.assert_allclose(marked(ax, "minimum"), [[0, 0]], atol=1e-6)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("offset", "slope")
    assert sum(isinstance(one, ContourSet) for one in ax.collections) == 2
    low, high = np.array([ax.get_xlim(), ax.get_ylim()]).T
    assert np.all(low < points) and np.all(points < high)
    given = plot.path(result, bowl, minimum={"offset": 0.5, "slope": 0}, arrows=3)
    np.testing.assert_array_equal(marked(given, "minimum"), [[0.5, 0]])
    assert "minimum" not in legend(plot.path(result, bowl, minimum=False))
    tails, steps = arrows(given)
    assert len(tails) == 3 and np.all(np.min(np.abs((tails + steps)[:, None] - points).max(axis=-1), axis=1) < 1e-12)
    np.testing.assert_array_equal(lines(given, "path")[0], points)


def test_a_long_path_is_thinned_and_keeps_its_extremes() -> None:
    points = np.cumsum(np.random.default_rng(0).normal(size=(MANY, 2)), axis=0)
    result = recorded(np.sum(points**2, axis=1) + 1, params=points)
    ax = plot.path(result, lambda v: jnp.sum(v**2) + 1, minimum=False)
    (drawn,) = lines(ax, "path")
    assert len(drawn) <= 8002 and len(ax.collections) == 3
    np.testing.assert_array_equal([drawn.min(axis=0), drawn.max(axis=0)], [points.min(axis=0), points.max(axis=0)])


def test_one_parameter_is_a_curve_with_the_points_on_it() -> None:
    result = descend(0.1, 0.0, quartic, dtype="float64")
    ax = plot.path(result, quartic)
    np.testing.assert_allclose(lines(ax, "path")[0], np.stack([result.history.params, result.history.cost], axis=1), rtol=1e-12)
    (curve,) = lines(ax, "cost")
    np.testing.assert_allclose(curve[:, 1], quartic(curve[:, 0]), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(marked(ax, "minimum"), [[1.7139394361853717, -11.20033470869566]], rtol=1e-9)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("params", "cost")


def test_a_path_that_diverges_leaves_the_frame() -> None:
    result = descend(1e3, 1.0, max_steps=400)
    assert result.status is Status.DIVERGED
    ax = plot.path(result, square)
    assert "diverged" in legend(ax) and -5 < ax.get_xlim()[0] < ax.get_xlim()[1] < 5


@pytest.mark.slow
def test_a_cost_that_cannot_be_traced_is_drawn_in_a_loop() -> None:
    def kinked(v: Any) -> Any:
        return v**2 if v > 0 else -3 * v

    result = descend(0.1, 2.0, kinked, jit=False, max_steps=3)
    (curve,) = lines(plot.path(result, kinked), "cost")
    np.testing.assert_allclose(curve[:, 1], np.where(curve[:, 0] > 0, curve[:, 0] ** 2, -3 * curve[:, 0]), rtol=1e-5, atol=1e-9)


@pytest.mark.slow
def test_a_grid_of_paths() -> None:
    def sphere(v: Any) -> Any:
        return jnp.sum(v**2)

    rates, momenta = [0.05, 0.2, 0.5, 50.0], [0, 0.5, 0.9]
    panels = plot.paths_grid(sphere, [1.0, 1.0], learning_rates=rates, momenta=momenta, max_steps=5)
    assert panels.shape == (3, 4) and [ax.get_title() for ax in panels[0]] == [f"learning rate {rate:g}" for rate in rates]
    assert [ax.texts[-1].get_text() for ax in panels[:, -1]] == [f"momentum {momentum:g}" for momentum in momenta]
    assert len({ax.get_xlim() for ax in panels.flat}) == 1 and abs(panels[0, 0].get_xlim()[0]) < 2
    for row, momentum in zip(panels, momenta, strict=True):
        for ax, rate in zip(row[:3], rates, strict=False):
            history = descend(rate, [1.0, 1.0], sphere, momentum, max_steps=5).history
            np.testing.assert_allclose(arrows(ax)[0], history.params[:-1], rtol=1e-6, atol=1e-7)
    check(panels[0, 0].figure)
