"""Pictures of what was fitted: boundaries, bands and correlations are where they have to be."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.contour import ContourSet

import jaxgd
from jaxgd import Covariance
from tests.pictures import legend
from tests.problems import X, Y
from tests.runs import NORMAL, correlated, line, probability

plot: Any = jaxgd.plot
MANY = 2_000_000
PLANE = np.random.default_rng(1).normal(size=(60, 2)).astype(np.float32)
SIDES = (PLANE[:, 0] + 2 * PLANE[:, 1] > 0.5).astype(int)


def scores(w: Any, x: Any) -> Any:
    return jnp.stack([1 - probability(w, x), probability(w, x)], axis=1)


def sides(w: Any, x: Any) -> Any:
    return jnp.argmax(scores(w, x), axis=1)


def residuals(params: Any, data: Any) -> Any:
    return line(params, data[0]) - data[1]


@pytest.mark.parametrize("predict", [probability, scores, sides])
def test_the_boundary_is_where_the_prediction_changes(predict: Callable[..., Any]) -> None:
    with_ones = np.concatenate([np.ones((60, 1), np.float32), PLANE], axis=1)
    ax = plot.decision_boundary(predict, NORMAL, (with_ones, SIDES), labels={1: "yes"})
    assert (ax.get_xlabel(), ax.get_ylabel(), legend(ax)) == ("x[:, 1]", "x[:, 2]", ["0", "yes"])
    drawn = [ax.get_lines()[place].get_xydata() for place in (0, 1)]
    np.testing.assert_array_equal(drawn[0], PLANE[SIDES == 0])
    np.testing.assert_array_equal(drawn[1], PLANE[SIDES == 1])
    *_, boundary = (one for one in ax.collections if isinstance(one, ContourSet))
    x, y = np.asarray(boundary.get_paths()[0].vertices).T
    cell = max(np.ptp(ax.get_xlim()), np.ptp(ax.get_ylim())) / 240
    assert len(x) > 100 and np.max(np.abs(x + 2 * y - 0.5)) < (3 * cell if predict is sides else 1e-3)


def test_a_table_of_millions_keeps_its_extremes() -> None:
    x = np.random.default_rng(0).normal(size=(MANY, 2)).astype(np.float32)
    x[5] = [9, -9]
    ax = plot.decision_boundary(probability, NORMAL[1:], (x, (x[:, 0] > 0) * 1))
    drawn = np.concatenate([one.get_xydata() for one in ax.get_lines()])
    assert len(drawn) < 44_000 and [9, -9] in drawn.tolist() and all(one.get_rasterized() for one in ax.get_lines())


@pytest.mark.parametrize("sigma", [1.0, 2.5])
def test_the_band_is_that_of_the_textbooks(sigma: float) -> None:
    best = jaxgd.minimize(lambda p, d: jnp.mean(residuals(p, d) ** 2), {"offset": 0.0, "slope": 0.0}, (X, Y), dtype="float64")
    found = jaxgd.covariance(None, best.params, (X, Y), residuals=residuals, dtype="float64")
    ax = plot.fit(line, best, (X, Y, 2.0), covariance=found, sigma=sigma)
    (curve,) = (one.get_xydata() for one in ax.get_lines() if one.get_label() == "fit")
    variance = np.sum((line(best.params, X) - Y) ** 2) / 4
    errors = np.sqrt(variance * (1 / 6 + (curve[:, 0] - X.mean()) ** 2 / np.sum((X - X.mean()) ** 2)))
    corners = next(one for one in ax.collections if one.get_label() != "_nolegend_" and len(one.get_paths()) == 1).get_paths()[0]
    at = np.searchsorted(curve[:, 0], corners.vertices[:, 0])
    assert set(at) == set(range(400))
    np.testing.assert_allclose(abs(corners.vertices[:, 1] - curve[at, 1]), sigma * errors[at], rtol=1e-9)
    assert legend(ax)[::2] == ["data", f"fit ± {sigma:g} standard error{'s' if sigma != 1 else ''}"]
    lost = Covariance(best.params, best.params, np.full((2, 2), np.nan), np.full((2, 2), np.nan), 1.0, 1, found.names)
    assert legend(plot.fit(line, best, (X, Y), covariance=lost)) == ["data", "fit (no band: the covariance does not determine it)"]


def test_correlations_are_cells_with_names() -> None:
    found = correlated(3)
    found.correlation[2] = found.correlation[:, 2] = np.nan
    ax = plot.correlation(found)
    np.testing.assert_array_equal(ax.images[0].get_array(), np.ma.masked_invalid(found.correlation))
    assert ax.images[0].get_clim() == (-1, 1) and ax.images[0].cmap(0.5)[:3] == (1, 1, 1)
    assert ax.images[0].cmap(np.ma.masked)[3] == 0 and any(one.get_gid() == "hatched" for one in ax.patches)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [f"layer.w[{place}]" for place in range(3)]
    assert [text.get_text() for text in ax.texts][::4] == ["1.00", "1.00", "NaN"]
    large = plot.correlation(correlated(200))
    assert not large.texts and 20 <= len(large.get_xticks()) <= 50
