"""Penalties: proximal operators in closed form, minima in closed form and as scikit-learn finds them, and what goes with them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import linear_model

import jaxgd
from jaxgd import L1, ElasticNet, GroupLasso, NonNegative, ProximalGradient, ProximalNewton, Status
from jaxgd.penalties import Penalty
from jaxgd.stopping import GradientTolerance

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(60, 8))
ROWS[:, 1] += 0.8 * ROWS[:, 0]
WEIGHTS = np.array([2.0, -1.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0])
HEIGHTS = ROWS @ WEIGHTS + 0.3 * RNG.normal(size=60) + 1
LABELS = (ROWS @ WEIGHTS + 0.5 * RNG.normal(size=60) > 0).astype(float)
START: dict[str, Any] = {"w": np.zeros(8), "b": 0.0}
TARGET = np.array([3.0, -0.5, 1.0, -2.0])
METHODS = [ProximalNewton(), ProximalGradient()]


def squares(p: Any, data: Any) -> Any:
    rows, heights = data
    return jnp.mean((rows @ p["w"] + p["b"] - heights) ** 2) / 2


def logistic(p: Any, data: Any) -> Any:
    rows, labels = data
    score = rows @ p["w"] + p["b"]
    return jnp.mean(jnp.logaddexp(0.0, score) - labels * score)


def distance(x: Any) -> Any:
    return jnp.sum((x - jnp.asarray(TARGET, x.dtype)) ** 2) / 2


def lasso(weight: Any) -> Any:
    return {"w": ElasticNet(weight, 1.0), "b": None}


def minimize(cost: Any = squares, penalty: Any = None, data: Any = (ROWS, HEIGHTS), **options: Any) -> jaxgd.Result:
    penalty = lasso(0.1) if penalty is None else penalty
    return jaxgd.minimize(cost, START, data, penalty=penalty, dtype="float64", **options)


@jaxgd.pytree
class Halves(Penalty):
    """A penalty of the user's: the distance to the nearest of -1/2 and 1/2, written without the base class's help."""

    weight: float
    separable = True

    def value(self, x: Any) -> Any:
        return self.weight * jnp.sum(jnp.abs(jnp.abs(x) - 0.5))

    def prox(self, x: Any, step: Any) -> Any:
        far = jnp.abs(x) - 0.5
        return jnp.sign(x) * (0.5 + jnp.sign(far) * jnp.maximum(jnp.abs(far) - step * self.weight, 0))


X = np.array([-3.0, -0.5, 0.0, 0.2, 2.0])
PROXES: list[tuple[Any, float, float, Any]] = [
    (L1(1.0), 0.5, 5.7, [-2.5, 0, 0, 0, 1.5]),
    (L1([0.0, 1.0, 1.0, 0.2, 4.0]), 0.5, 8.54, [-3, 0, 0, 0.1, 0]),
    (ElasticNet(2.0, 0.5), 0.5, 12.345, [-5 / 3, 0, 0, 0, 1]),
    (ElasticNet(1.0, 0.0), 1.0, 6.645, X / 2),
    (GroupLasso(2.0), 0.5, 2 * 13.29**0.5, X * (1 - 13.29**-0.5)),
    (GroupLasso([1.0, 3.0], groups=[0, 1, 1, 1, 0]), 0.5, 13**0.5 + 3 * 0.29**0.5, X * [1, 0, 0, 0, 1] * (1 - 0.5 * 13**-0.5)),
    (NonNegative(), 0.5, np.inf, [0, 0, 0, 0.2, 2.0]),
]


@pytest.mark.parametrize("penalty, step, value, moved", PROXES, ids=[type(row[0]).__name__ for row in PROXES])
def test_values_and_proximal_operators_are_their_closed_forms(penalty: Any, step: float, value: float, moved: Any) -> None:
    with jax.enable_x64(True):
        np.testing.assert_allclose(penalty.value(jnp.asarray(X)), value, rtol=1e-14)
        found = penalty.prox(jnp.asarray(X), jnp.asarray(step))
        np.testing.assert_allclose(found, moved, rtol=1e-14)
        np.testing.assert_array_equal(np.asarray(found) == 0, np.asarray(moved) == 0)


def test_groups_by_axis_are_those_by_number() -> None:
    matrix = jnp.arange(6.0).reshape(2, 3)
    by_axis, by_number = GroupLasso(jnp.array([1.0, 2.0, 3.0]), axis=0), GroupLasso([1.0, 2.0, 3.0], groups=[0, 1, 2, 0, 1, 2])
    np.testing.assert_allclose(by_axis.value(matrix), by_number.value(matrix.reshape(-1)), rtol=1e-6)
    moved = by_number.prox(matrix.reshape(-1), jnp.asarray(0.7)).reshape(2, 3)
    np.testing.assert_allclose(by_axis.prox(matrix, jnp.asarray(0.7)), moved, rtol=1e-6)


SEPARATE: dict[str, tuple[Any, Any]] = {
    "l1": (L1(1.0), [2.0, 0, 0, -1]),
    "net": (ElasticNet(1.0, 0.5), [2.5 / 1.5, 0, 0.5 / 1.5, -1.5 / 1.5]),
    "sign": (NonNegative(), [3.0, 0, 1, 0]),
    "own": (Halves(1.0), [2.0, -0.5, 0.5, -1.0]),
    "free": (None, TARGET),
}
TOGETHER = SEPARATE | {"group": (GroupLasso(0.5, groups=[0, 1, 0, 1]), TARGET * (1 - 0.5 / np.sqrt([10, 4.25, 10, 4.25])))}


@pytest.mark.parametrize("minima", [SEPARATE, TOGETHER], ids=["separable", "any"])
@pytest.mark.parametrize("dtype, rtol", [("float64", 1e-12), pytest.param("float32", 1e-5, marks=pytest.mark.slow)])
def test_minima_are_their_closed_forms(minima: Any, dtype: str, rtol: float) -> None:
    penalty, expected = ({name: row[k] for name, row in minima.items()} for k in (0, 1))
    total = lambda p: sum(distance(x) for x in jax.tree.leaves(p))  # noqa: E731
    result = jaxgd.minimize(total, {name: np.ones(4) for name in minima}, penalty=penalty, dtype=dtype)
    assert result.status is Status.CONVERGED
    for name in penalty:
        np.testing.assert_allclose(result.params[name], expected[name], rtol=rtol, atol=rtol)
        assert np.max(np.abs(result.gradient[name])) < 10 * rtol, name
    values = [one.value(jnp.asarray(result.params[name])) for name, one in penalty.items() if one is not None]
    np.testing.assert_allclose(result.cost, total(jax.tree.map(jnp.asarray, result.params)) + sum(values), rtol=1e-6)


@pytest.mark.parametrize("method", METHODS, ids=["newton", "gradient"])
def test_lassos_and_elastic_nets_are_those_of_scikit_learn(method: Any) -> None:
    for alpha in (0.01, 0.1):
        for ratio in (1.0, 0.3):
            theirs = linear_model.ElasticNet(alpha=alpha, l1_ratio=ratio, tol=1e-14, max_iter=100_000).fit(ROWS, HEIGHTS)
            ours = minimize(penalty={"w": ElasticNet(alpha, ratio), "b": None}, method=method)
            assert ours.status is Status.CONVERGED
            np.testing.assert_allclose(ours.params["w"], theirs.coef_, atol=1e-8)
            np.testing.assert_allclose(ours.params["b"], theirs.intercept_, atol=1e-8)
            np.testing.assert_array_equal(ours.params["w"] == 0, theirs.coef_ == 0)


@pytest.mark.parametrize("method", [METHODS[0], pytest.param(METHODS[1], marks=pytest.mark.slow)], ids=["newton", "gradient"])
def test_sparse_logistic_regressions_are_those_of_scikit_learn(method: Any) -> None:
    theirs: Any = linear_model.LogisticRegression(l1_ratio=1.0, C=1 / (60 * 0.05), solver="saga", tol=1e-12, max_iter=1_000_000)
    theirs.fit(ROWS, LABELS)
    ours = minimize(logistic, lasso(0.05), (ROWS, LABELS), method=method)
    np.testing.assert_allclose(ours.params["w"], theirs.coef_[0], atol=1e-6)
    np.testing.assert_allclose(ours.params["b"], theirs.intercept_[0], atol=1e-6)


def test_a_lasso_takes_few_steps_of_newton_and_another_weight_compiles_nothing(compilations: Any) -> None:
    assert minimize().n_evaluations <= 4
    with compilations() as compiled:
        found = minimize(penalty=lasso(0.2))
    assert not compiled and found.converged


def test_the_end_is_told_with_the_whole_objective_and_its_slope() -> None:
    result: Any = minimize(method=ProximalGradient(), history=("params", "gradient_norm"), stop=GradientTolerance(1e-6))
    assert result.status is Status.GRADIENT_TOLERANCE and result.unmoved == ()
    with jax.enable_x64(True):
        for k in (0, -1):
            params = {name: jnp.asarray(leaf[k]) for name, leaf in result.history.params.items()}
            smooth = jax.grad(squares)(params, (ROWS, HEIGHTS))
            np.testing.assert_allclose(
                result.history.cost[k], squares(params, (ROWS, HEIGHTS)) + 0.1 * jnp.sum(jnp.abs(params["w"])), rtol=1e-14
            )
            shrunk = jnp.sign(smooth["w"]) * jnp.maximum(jnp.abs(smooth["w"]) - 0.1, 0)
            slope = jnp.where(params["w"] == 0, shrunk, smooth["w"] + 0.1 * jnp.sign(params["w"]))
            expected = jnp.sqrt(jnp.sum(slope**2) + smooth["b"] ** 2)
            np.testing.assert_allclose(result.history.gradient_norm[k], expected, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(result.gradient["w"], slope, atol=1e-14)


@pytest.mark.parametrize("method", [METHODS[0], pytest.param(METHODS[1], marks=pytest.mark.slow)], ids=["newton", "gradient"])
def test_bounds_and_fixed_parameters_go_with_a_separable_penalty(method: Any) -> None:
    bounds, held = ([-0.2, -0.2, 0.4, -np.inf], 1.0), np.array([False, True, False, False])
    start = np.array([0.5, 0.25, 0.5, 0.5])
    box = jaxgd.minimize(distance, start, penalty=L1(0.7), bounds=bounds, method=method, dtype="float64")
    np.testing.assert_allclose(box.params, [1.0, 0, 0.4, -1.3], rtol=1e-12)
    np.testing.assert_allclose(box.gradient, 0, atol=1e-12)
    part = jaxgd.minimize(distance, start, penalty=L1([0.7, 0.1, 0.7, 0.2]), fixed=held, method=method, dtype="float64")
    np.testing.assert_allclose(part.params, [2.3, 0.25, 0.3, -1.8], rtol=1e-12)
    np.testing.assert_allclose(part.cost, np.sum((part.params - TARGET) ** 2) / 2 + 0.7 * 2.6 + 0.025 + 0.36, rtol=1e-12)


def test_zero_weights_are_no_penalty_and_large_ones_end_at_zero() -> None:
    for method in METHODS:
        plain = jaxgd.minimize(squares, START, (ROWS, HEIGHTS), dtype="float64")
        np.testing.assert_allclose(minimize(penalty=lasso(0.0), method=method).params["w"], plain.params["w"], atol=1e-7)
        gone = minimize(penalty=lasso(1e6), method=method)
        assert gone.converged and not np.any(gone.params["w"])
        np.testing.assert_allclose(gone.params["b"], np.mean(HEIGHTS), rtol=1e-9)


@pytest.mark.slow
def test_a_cost_with_a_kink_of_its_own_is_not_said_to_converge() -> None:
    cost = lambda x: jnp.sum(jnp.abs(x - jnp.array([0.3, 2.0], x.dtype)))  # noqa: E731
    for dtype in ("float32", "float64"):
        assert not jaxgd.minimize(cost, [1.0, 1.0], penalty=L1(0.5), method=ProximalNewton(), dtype=dtype).converged


@pytest.mark.slow
def test_many_starts_and_python_costs() -> None:
    valleys = lambda x: jnp.sum((x**2 - 1) ** 2)  # noqa: E731
    best: Any = jaxgd.minimize(valleys, jaxgd.normal(2), key=0, n_starts=8, penalty=NonNegative(), dtype="float64")
    np.testing.assert_allclose(best.params, 1, rtol=1e-9)
    assert best.starts.params.min() >= 0
    stepwise = minimize(jit=False)
    np.testing.assert_allclose(stepwise.params["w"], minimize().params["w"], rtol=1e-12, atol=1e-15)


def test_many_fits_have_weights_of_their_own() -> None:
    weights = np.array([0.01, 0.1, 1.0])
    table = np.stack([HEIGHTS, 2 * HEIGHTS, -HEIGHTS])

    def cost(p: Any, heights: Any, rows: Any) -> Any:
        return squares(p, (rows, heights))

    many = jaxgd.minimize_many(cost, START, table, shared=ROWS, penalty=lasso(weights), dtype="float64")
    for k, weight in enumerate(weights):
        one = minimize(penalty=lasso(weight), data=(ROWS, table[k]))
        np.testing.assert_allclose(many.params["w"][k], one.params["w"], rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(many.cost[k], one.cost, rtol=1e-14)
        np.testing.assert_allclose(many.gradient["w"][k], 0, atol=1e-13)


def test_a_path_is_that_of_scikit_learn(compilations: Any) -> None:
    def path(weight: float) -> jaxgd.PenaltyPath:
        return jaxgd.penalty_path(squares, START, (ROWS, HEIGHTS), penalty=lasso(weight), n_factors=7, ratio=0.01, dtype="float64")

    found = path(1.0)
    centred = ROWS - ROWS.mean(axis=0), HEIGHTS - HEIGHTS.mean()
    weights, coefficients, _ = linear_model.lasso_path(*centred, alphas=found.factors, tol=1e-14, max_iter=100_000)
    np.testing.assert_allclose(found.factors[0], np.max(np.abs(centred[0].T @ centred[1])) / 60, rtol=1e-12)
    np.testing.assert_allclose(weights, found.factors, rtol=1e-12)
    np.testing.assert_allclose(found.result.params["w"], coefficients.T, atol=1e-8)
    assert np.all(found.result.converged) and not np.any(found.result.params["w"][0])
    path(3.0)  # a second run is worth a program of its own
    with compilations() as compiled:
        again = path(2.0)
    assert not compiled
    np.testing.assert_allclose(again.factors, found.factors / 2, rtol=1e-12)
