"""The methods that need no tuning: the collected problems, scales and units, saddles, kinks, bounds, lanes."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd import Status, _chosen, _derivatives
from jaxgd._compile.program import trace
from jaxgd._objective import evaluation
from tests.more_garbow_hillstrom import PROBLEMS, Problem, starts
from tests.problems import X, Y, line, mixed_scales, rosenbrock

# Evaluations of SciPy's trust-exact with the exact Hessian from the standard start and from ten times it.
TRUST_EXACT = {
    "rosenbrock": (27, 52),
    "freudenstein_and_roth": (9, 21),
    "powell_badly_scaled": (115, 491),
    "brown_badly_scaled": (1011, 1014),
    "beale": (9, 63),
    "jennrich_and_sampson": (11, 84),
    "helical_valley": (10, 22),
    "bard": (16, 18),
    "gaussian": (3, 21),
    "meyer": (256, 144),
    "gulf_research_and_development": (26, 1),
    "box_three_dimensional": (18, 39),
    "powell_singular": (24, 31),
    "wood": (44, 53),
    "kowalik_and_osborne": (10, 28),
    "brown_and_dennis": (12, 21),
    "osborne_1": (35, 5001),
    "biggs_exp6": (41, 141),
    "osborne_2": (18, 15),
    "watson": (13, 29),
    "extended_rosenbrock": (24, 56),
    "extended_powell_singular": (24, 32),
    "penalty_1": (45, 51),
    "penalty_2": (137, 118),
    "variably_dimensioned": (15, 18),
    "trigonometric": (13, 19),
    "brown_almost_linear": (9, 34),
    "discrete_boundary_value": (4, 8),
    "discrete_integral_equation": (4, 8),
    "broyden_tridiagonal": (7, 15),
    "broyden_banded": (9, 21),
    "linear_full_rank": (4, 7),
    "linear_rank_1": (5, 9),
    "linear_rank_1_with_zero_columns_and_rows": (5, 9),
    "chebyquad": (18, 96),
}


def ends_at(problem: Problem, cost: float, relative: float, absolute: float) -> bool:
    return any(abs(cost - value) <= relative * abs(value) + absolute for value in (*problem.minima, *problem.stalls))


@pytest.mark.sweep(keep=5)
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_the_default_finds_a_minimum_of_every_problem(problem: Problem) -> None:
    near = jaxgd.minimize(problem.cost, starts(problem), dtype="float64")
    assert ends_at(problem, float(near.cost), 1e-9, 1e-12) and near.converged, near
    far = jaxgd.minimize(problem.cost, starts(problem, 10), dtype="float64")
    assert ends_at(problem, float(far.cost), 1e-9, 1e-12) and far.converged, far
    for result, evaluations in zip((near, far), TRUST_EXACT[problem.name], strict=True):
        assert result.n_evaluations <= 3 * evaluations


def test_a_minimum_of_zero_is_told_from_every_start() -> None:
    """Near the minimum some runs go to and fro between two points whose costs and slopes are rounding alone."""
    problem = next(problem for problem in PROBLEMS if problem.name == "gulf_research_and_development")
    with jax.enable_x64(True):
        around = starts(problem) * jax.random.uniform(jax.random.key(0), (64, 3), minval=0.8, maxval=1.2)
        ends = jax.vmap(lambda start: jaxgd.minimize(problem.cost, start))(around)
        assert np.all(ends.converged) and np.max(ends.cost) < 1e-26


# In single precision Meyer's valley, whose condition is 1e8, can't be followed: a rounding of a parameter explains the gradient.
SINGLE = [problem for problem in PROBLEMS if problem.name != "meyer"]


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("problem", SINGLE[::4], ids=lambda problem: problem.name)
def test_single_precision_ends_where_it_can(problem: Problem) -> None:
    result = jaxgd.minimize(problem.cost, starts(problem), dtype="float32")
    # Osborne's first, whose scaled Hessian has a condition of 1e6, ends 0.2 % above its minimum; zeros end near the rounding unit.
    assert ends_at(problem, float(result.cost), 5e-3, 1e-6), result
    assert result.converged or result.status is Status.STALLED
    assert result.n_evaluations < 100


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("problem", [PROBLEMS[0], PROBLEMS[8], PROBLEMS[13], PROBLEMS[20]], ids=lambda problem: problem.name)
def test_lbfgs_finds_them_too(problem: Problem) -> None:
    result = jaxgd.minimize(problem.cost, starts(problem), method=jaxgd.LBFGS(memory=5), dtype="float64")
    assert ends_at(problem, float(result.cost), 1e-9, 1e-12) and result.status in (Status.CONVERGED, Status.STALLED)
    assert result.n_evaluations < 200


@pytest.mark.slow
def test_the_default_goes_by_the_number_of_free_parameters() -> None:
    def state(n: int, **options: Any) -> Any:
        return jaxgd.minimize(rosenbrock, np.full(n, -1.0), max_steps=1, **options).state.method

    assert not hasattr(state(200), "pairs") and hasattr(state(201), "pairs")
    assert not hasattr(state(300, fixed=np.arange(300) >= 50), "pairs")
    large = jaxgd.minimize(rosenbrock, np.tile([-1.2, 1.0], 150), dtype="float64")
    assert large.converged and abs(large.cost) < 1e-15


def test_the_default_goes_by_the_size_of_the_data_too() -> None:
    inner = jax.jit(lambda x, data: jnp.sum(jnp.outer(data, x)))  # the large array is inside

    def method(rows: int) -> Any:
        x, data = np.zeros(4, np.float32), jax.ShapeDtypeStruct((rows,), jnp.float32)
        return _chosen.default_method(x, trace(lambda x, data: inner(x, data) ** 2, x, data))

    assert isinstance(method(2**24), jaxgd.TrustRegion) and isinstance(method(2**24 + 1), jaxgd.LBFGS)


def rational(b: Any, x: Any) -> Any:
    return b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3])


def vapour(b: Any, x: Any) -> Any:
    return b[0] * jnp.exp(b[1] / (x + b[2]))


def growth(b: Any, x: Any) -> Any:
    return b[0] * (1 - jnp.exp(-b[1] * x))


NEWTON, LBFGS = jaxgd.TrustRegion(), jaxgd.LBFGS()


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize(
    "curve, truth, start, times, method",
    [
        (rational, [0.193, 0.191, 0.123, 0.136], [25.0, 39, 41.5, 39], 4 / 2 ** np.arange(0, 6, 0.5), NEWTON),
        (vapour, [5.6e-3, 6181.0, 345.0], [2.0, 4e5, 25e3], np.linspace(50, 125, 16), NEWTON),
        (growth, [239.0, 5.5e-4], [500.0, 1e-4], np.linspace(77, 760, 14), LBFGS),
        (vapour, [5.6e-3, 6181.0, 345.0], [0.02, 4e3, 250.0], np.linspace(50, 125, 16), LBFGS),
    ],
    ids=lambda value: value.__name__ if callable(value) else type(value).__name__,
)
def test_curves_are_fitted_from_afar_and_with_parameters_of_all_sizes(
    curve: Any, truth: Any, start: Any, times: Any, method: Any
) -> None:
    def cost(b: Any, data: Any) -> Any:
        return jnp.sum((curve(b, data[0]) - data[1]) ** 2) / 2

    heights = np.asarray(curve(np.array(truth), times))
    heights = heights + 0.01 * heights.std() * np.random.default_rng(0).normal(size=times.size)
    best = jaxgd.minimize(cost, truth, (times, heights), dtype="float64")
    starts = np.array(start) * (1 + 1e-9 * np.random.default_rng(1).normal(size=(20, len(start))))
    far = [jaxgd.minimize(cost, one, (times, heights), method=method, dtype="float64") for one in starts]
    assert best.converged and sum(one.converged for one in far) >= 12  # roundings decide whether L-BFGS stalls at the last digits
    np.testing.assert_allclose([one.cost for one in far], best.cost, rtol=1e-9)


@pytest.mark.slow
def test_lbfgs_finds_scales_that_nothing_tells() -> None:
    target = np.array([1.0, 2.0])
    zeros = jaxgd.minimize(lambda x, unit: jnp.sum((x / unit - target) ** 2), np.zeros(2), 1e-17, method=LBFGS, dtype="float64")
    assert zeros.converged
    np.testing.assert_allclose(zeros.params, 1e-17 * target, rtol=1e-8)
    start = np.array([1e-20, 1e-20], np.float32)
    tiny = jaxgd.minimize(lambda x: jnp.sum((np.float32(1e-10) * (x - 1)) ** 2), start, method=LBFGS)
    assert tiny.converged
    np.testing.assert_allclose(tiny.params, 1, rtol=1e-6)

    # The last resort begins with a step of a tenth, which an exponential turns into a wall.
    def wall(x: Any) -> Any:
        return 1 + ((x[1] - 1.5e-6) / 1e-8) ** 2 + 1e-3 * (jnp.exp(1000 * (x[0] - 1.02)) - 10 * x[0])

    best, other = (jaxgd.minimize(wall, [1.0, 1.2e-6], method=method, dtype="float64") for method in (NEWTON, LBFGS))
    assert other.converged
    np.testing.assert_allclose(other.cost, best.cost, rtol=1e-12)


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("unit", [1e-20, 1e-10, 1e10, 1e20])
def test_the_last_resort_does_not_depend_on_the_unit_of_the_cost(unit: float) -> None:
    times = np.linspace(77, 760, 14, dtype=np.float32)
    heights = growth(np.array([239.0, 5.5e-4], np.float32), times)

    def cost(b: Any, unit: Any) -> Any:
        return unit * jnp.mean((growth(b, times) / heights - 1) ** 2)

    result = jaxgd.minimize(cost, [500.0, 1e-4], np.float32(unit), method=LBFGS, dtype="float32")
    assert result.converged and result.cost / unit < 1e-6  # from 0.3, by steps of a tenth of the parameters


@pytest.mark.slow
@pytest.mark.parametrize("rows, columns", [(1000, 10), (1000, 100), (20_000, 10)])
@pytest.mark.parametrize("scales", [0, 3])
def test_regressions_converge_in_single_precision(rows: int, columns: int, scales: float) -> None:
    rng = np.random.default_rng(rows + columns)
    x = (rng.normal(size=(rows, columns)) * 10 ** rng.uniform(-scales, scales, columns)).astype(np.float32)
    y = np.sign(x[:, 0] / x[:, 0].std() + rng.normal(size=rows)).astype(np.float32)

    def logistic(p: Any, data: Any) -> Any:
        return jnp.mean(jnp.logaddexp(0, -data[1] * (data[0] @ p)))

    for cost in (logistic, lambda p, data: jnp.mean((data[0] @ p - data[1]) ** 2)):
        result = jaxgd.minimize(cost, np.zeros(columns, np.float32), (x, y))
        assert result.status is Status.CONVERGED and result.n_evaluations < 20


@pytest.mark.slow
@pytest.mark.parametrize("method", [jaxgd.TrustRegion(), jaxgd.LBFGS()], ids=lambda method: type(method).__name__)
@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_unit_of_the_cost_does_not_matter(method: Any, factor: float) -> None:
    wood = PROBLEMS[13]
    plain = jaxgd.minimize(wood.cost, wood.start, method=method, dtype="float64")
    scaled = jaxgd.minimize(lambda x: factor * wood.cost(x), wood.start, method=method, dtype="float64")
    assert scaled.converged and abs(scaled.n_evaluations - plain.n_evaluations) <= 8
    np.testing.assert_allclose(scaled.params, plain.params, rtol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("method", [jaxgd.TrustRegion(), jaxgd.LBFGS()], ids=lambda method: type(method).__name__)
def test_units_far_apart_stay_in_range_in_single_precision(method: Any) -> None:
    def run(of_cost: float, of_parameters: float) -> Any:
        units = np.float32(of_cost), np.float32(of_parameters)
        start = units[1] * np.array([-1.2, 1.0], np.float32)
        return jaxgd.minimize(lambda x, units: units[0] * rosenbrock(x / units[1]), start, units, method=method)

    plain = run(1, 1)
    for unit in (1e-15, 1e15):
        for result, size in ((run(unit, 1), 1), (run(1, unit), unit)):
            assert result.converged and result.n_evaluations <= 1.5 * plain.n_evaluations
            # A rounding of the gradient is a step of 2500 roundings along the valley: the condition of the Hessian there.
            np.testing.assert_allclose(np.float32(result.params) / np.float32(size), 1, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_units_of_the_variables_do_not_matter_to_the_default(factor: float) -> None:
    wood, unit = PROBLEMS[13], np.array([1, factor, 1, 1 / factor])
    plain = jaxgd.minimize(wood.cost, wood.start, dtype="float64")
    scaled = jaxgd.minimize(lambda x: wood.cost(x / unit.astype(x.dtype)), wood.start * unit, dtype="float64")
    assert scaled.converged and abs(scaled.n_evaluations - plain.n_evaluations) <= 8
    np.testing.assert_allclose(scaled.params, plain.params * unit, rtol=1e-9)
    shifted = jaxgd.minimize(lambda x: wood.cost(x) + 100, wood.start, dtype="float64")
    assert shifted.converged and shifted.n_evaluations <= plain.n_evaluations + 3
    # Parameters of 1e-3, 1 and 1e3 side by side, from zero: no scale is known but the Hessian's.
    assert jaxgd.minimize(mixed_scales, np.zeros(3), dtype="float64").n_evaluations < 15


@pytest.mark.parametrize("start", [[0.0, 0.0], [1.0, 0.0], [0.0, 1e-9]])
def test_a_saddle_is_left(start: list[float]) -> None:
    def cost(x: Any) -> Any:
        return x[0] ** 2 - x[1] ** 2 + x[1] ** 4

    result = jaxgd.minimize(cost, start, dtype="float64")
    assert result.converged
    np.testing.assert_allclose(result.cost, -0.25, rtol=1e-14)
    np.testing.assert_allclose(np.abs(result.params), [0, 0.5**0.5], atol=1e-12)


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("method", [jaxgd.TrustRegion(), jaxgd.LBFGS()], ids=lambda method: type(method).__name__)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_awkward_costs_end_with_a_reason(method: Any, dtype: str) -> None:
    costs = {  # in one program
        "kink": lambda v: jnp.abs(v - 0.3),
        "flat": lambda v: 3.0 + 0 * v,  # no improvement possible
        "tail": lambda v: jnp.exp(-v),
        "edge": lambda v: jnp.where(v > 2, jnp.nan, (v - 3) ** 2),
        "huge": lambda v: 1e15 * (v - 1e10) ** 2,
        "tiny": lambda v: 1e-12 * (v - 1e-8) ** 2,
    }

    def run(name: str, start: float) -> Any:
        which = np.int32(list(costs).index(name))
        result = jaxgd.minimize(
            lambda v, which: jax.lax.switch(which, list(costs.values()), v), start, which, method=method, dtype=dtype
        )
        # L-BFGS goes down a tail one factor of e at a time.
        assert np.all(np.isfinite(result.params)) and result.n_evaluations < 1200
        return result

    kink = run("kink", 2.0)
    assert abs(kink.params - 0.3) < 1e-2 and kink.status in (Status.STALLED, Status.CONVERGED)
    assert run("flat", 1.0).n_steps == 0
    assert run("tail", 1.0).cost < 1e-6
    edge = run("edge", 0.0)
    assert edge.params <= 2 and edge.status in (Status.DIVERGED, Status.STALLED)
    np.testing.assert_allclose(run("huge", 0.0).params, 1e10, rtol=1e-6)
    assert abs(run("tiny", 1.0).params - 1e-8) < 1e-7
    one_row = jaxgd.minimize(lambda v: jnp.sum((v - 2) ** 2), np.array([5.0]), method=method, dtype=dtype)
    np.testing.assert_allclose(one_row.params, 2, rtol=1e-6)


BOX = (np.array([-1.0, 0.0, -np.inf, 0.25]), np.array([1.0, np.inf, 2.0, 0.25]))


@pytest.mark.slow
@pytest.mark.parametrize("method", [jaxgd.TrustRegion(), jaxgd.LBFGS()], ids=lambda method: type(method).__name__)
def test_bounds_are_kept_and_the_minimum_within_them_is_scipys(method: Any) -> None:
    import scipy.optimize

    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    matrix, centre = root @ root.T + 0.1 * np.eye(6), 2 * rng.normal(size=6)
    cases: list[tuple[Any, Any, Any, Any]] = [
        (lambda x: (x - centre) @ matrix @ (x - centre) / 2, np.zeros(6), -0.5, 0.5),
        (rosenbrock, np.array([-1.2, 0.5]), -1.5, 0.8),
        (rosenbrock, np.array([0.9, 0.9, 0.6, 0.95]), [None, 0.5, None, 0.9], [0.95, None, 0.7, 2.0]),
        (PROBLEMS[13].cost, np.array([-3.0, -1, -3, -1]), None, [0.5, None, None, 0.5]),
    ]
    for cost, start, low, high in cases:
        result = jaxgd.minimize(cost, start, bounds=(low, high), method=method, dtype="float64", history="params")
        lower = np.broadcast_to([-np.inf if v is None else v for v in np.atleast_1d(np.asarray(low, object))], start.shape)
        upper = np.broadcast_to([np.inf if v is None else v for v in np.atleast_1d(np.asarray(high, object))], start.shape)
        assert result.history is not None
        assert np.all((result.history.params >= lower) & (result.history.params <= upper))
        with jax.enable_x64(True):
            both = jax.jit(jax.value_and_grad(cost))
            curved = jax.jit(jax.hessian(cost))
            search = functools.partial(
                scipy.optimize.minimize,
                lambda x, both=both: [np.asarray(part) for part in both(x)],
                start,
                jac=True,
                bounds=list(zip(lower, upper, strict=True)),
            )
            precise = {"gtol": 1e-10, "maxiter": 5000}
            quasi = search(method="L-BFGS-B", options={**precise, "ftol": 1e-15})
            interior = search(method="trust-constr", hess=lambda x, h=curved: np.asarray(h(x)), options={**precise, "xtol": 1e-12})
        np.testing.assert_allclose(result.cost, quasi.fun, rtol=1e-9)
        np.testing.assert_allclose(result.cost, interior.fun, rtol=1e-4)  # a barrier keeps it off the walls
        assert result.status in (Status.CONVERGED, Status.STALLED)


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("method", [jaxgd.TrustRegion(), jaxgd.LBFGS()], ids=lambda method: type(method).__name__)
def test_no_evaluation_is_ever_outside(method: Any) -> None:
    def walled(v: Any) -> Any:
        inside = jnp.all((v >= BOX[0].astype(v.dtype)) & (v <= BOX[1].astype(v.dtype)))
        return jnp.where(inside, jnp.sum((v - jnp.asarray([-3, 0.5, 4, 0.25], v.dtype)) ** 4), jnp.inf)

    result = jaxgd.minimize(walled, [0.0, 5.0, -7.0, 0.25], bounds=BOX, method=method, dtype="float64")
    assert result.converged
    np.testing.assert_allclose(result.params, [-1, 0.5, 2, 0.25], rtol=1e-3)  # a quartic is flat
    assert result.best.cost == result.cost


@pytest.mark.slow
def test_lanes_and_eager_runs_take_the_same_steps() -> None:
    targets = np.stack([Y, Y + 1, 2 * Y])
    lanes = jax.vmap(lambda y: jaxgd.minimize(line, jnp.asarray([0.5, 0.5]), (jnp.asarray(X), y)))(jnp.asarray(targets))
    assert np.all(lanes.converged)
    for y, params in zip(targets, lanes.params, strict=True):
        np.testing.assert_allclose(params, np.polyfit(X, y, 1)[::-1], rtol=1e-4)
    for method in (jaxgd.TrustRegion(), jaxgd.LBFGS()):
        options: dict[str, Any] = {"method": method, "dtype": "float64", "max_steps": 12}
        eager = jaxgd.minimize(rosenbrock, [-1.2, 1.0], jit=False, **options)
        compiled = jaxgd.minimize(rosenbrock, [-1.2, 1.0], **options)
        assert eager.n_evaluations == compiled.n_evaluations
        np.testing.assert_allclose(eager.params, compiled.params, rtol=1e-9)


def test_the_second_derivatives_are_those_of_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    with jax.enable_x64(True):
        x = jnp.asarray(PROBLEMS[33 - 1].start)
        expected = jax.hessian(PROBLEMS[33 - 1].cost)(x)
        hessian = evaluation.hessian(PROBLEMS[33 - 1].cost, has_aux=False)
        np.testing.assert_allclose(hessian(x), expected, rtol=1e-12)  # one by one
        np.testing.assert_allclose(jax.jit(hessian)(x), expected, rtol=1e-12)
        monkeypatch.setattr(_derivatives, "_TOGETHER", 25)  # a few columns at a time
        np.testing.assert_allclose(jax.jit(lambda x: hessian(x))(x), expected, rtol=1e-12)
