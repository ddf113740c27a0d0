"""Reports on fits that are broken, each in one way that is found, and on sound ones, of which there is nothing to say."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from tests import problems
from tests.problems import X, Y, line

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(60, 3))
TARGET = FEATURES @ [1.0, -2.0, 0.5] + 3.0 + 0.1 * RNG.normal(size=60)
LABELS = (TARGET > 3.0).astype(float)
TIMES = np.linspace(0.0, 4.0, 40)
DECAY = 3.0 * np.exp(-1.3 * TIMES) + 0.5 + 0.01 * RNG.normal(size=40)
CHANNELS = np.linspace(400.0, 600.0, 50)
PEAK = np.exp(-(((CHANNELS - 510) / 12) ** 2))


class Case(NamedTuple):
    """A cost, its start, its data, and the options of the call."""

    cost: Any
    start: Any
    data: Any = None
    options: Any = None

    def report(self) -> jaxgd.Report:
        return jaxgd.check(self.cost, self.start, self.data, **(self.options or {}))


def regression(params: Any, data: Any) -> Any:
    features, target = data
    return jnp.mean((features @ params["w"] + params["b"] - target) ** 2)


def logistic(params: Any, data: Any) -> Any:
    features, labels = data
    score = features @ params["w"] + params["b"]
    return jnp.mean(jnp.logaddexp(0.0, score) - labels * score)


def decay(params: Any, data: Any) -> Any:
    t, y = data
    return jnp.mean((params["a"] * jnp.exp(-params["k"] * t) + params["c"] - y) ** 2)


def network(params: Any, data: Any, activation: Any = jnp.tanh) -> Any:
    features, target = data
    hidden = activation(features @ params["W1"] + params["b1"])
    return jnp.mean((hidden @ params["w2"] + params["b2"] - target) ** 2)


def weights(width: int, scale: float = 0.5) -> Any:
    random = np.random.default_rng(1)
    draw = functools.partial(random.normal, scale=scale)
    return {"W1": draw(size=(3, width)), "b1": draw(size=width), "w2": draw(size=width), "b2": 0.0}


@jax.custom_vjp
def square(x: Any) -> Any:
    return x**2


square.defvjp(lambda x: (x**2, x), lambda x, g: (x * g,))  # 2 is missing


def spoilt(array: Any, place: Any) -> Any:
    array = np.array(array)
    array[place] = np.nan
    return array


def rounded(params: Any, data: Any) -> Any:
    x, y = data
    return jnp.mean((params["a"] * x**2 + x * jnp.round(params["n"]) - y) ** 2)


def saturated(params: Any, data: Any) -> Any:
    x, y = data
    return jnp.mean((jax.nn.sigmoid(params["gain"] + x) - y) ** 2) + (params["b"] - 1) ** 2


def peak(params: Any, data: Any) -> Any:
    x, y = data
    return jnp.mean((params["height"] * jnp.exp(-(((x - params["place"]) / params["width"]) ** 2)) - y) ** 2)


def huber(v: Any, data: Any) -> Any:
    residual = jnp.abs(v[0] + v[1] * data[0] - data[1])
    return jnp.mean(jnp.where(residual < 1, residual**2 / 2, residual - 0.5))


def both(params: Any) -> Any:
    return (params["a"] + params["b"] - 3) ** 2 + params["c"] ** 2


LINE = {"w": np.zeros(3), "b": 0.0}
EMPTY = {"W1": np.zeros((3, 4)), "b1": np.zeros(4), "w2": np.zeros(4), "b2": 0.0}
OFF_LINE = {"w": np.array([0.1, 0.2, 0.3]), "b": 0.1}
YEARS = np.arange(1990.0, 2020.0)
TREND = (YEARS, 0.02 * (YEARS - 2005) + 14.0)
FEW_YEARS = (YEARS[-8:], TREND[1][-8:])
MIXED = FEATURES * [1e6, 1.0, 1e-6]
DAYS = 58_000.0 + np.linspace(0, 12, 50)
WIDE = {"dtype": "float64"}

BROKEN: dict[str, tuple[Case, Any]] = {
    "a wrong custom gradient": (Case(lambda p: square(p["x"]) + (p["y"] - 1) ** 2, {"x": 1.5, "y": 0.0}), "wrong_gradient"),
    "a stopped gradient": (Case(lambda p: p["x"] ** 2 * jax.lax.stop_gradient(p["x"]), {"x": 1.5}), "wrong_gradient"),
    "NaN in the data": (Case(regression, LINE, (spoilt(FEATURES, (7, 1)), TARGET)), "nonfinite_data"),
    "the logarithm of a negative start": (Case(lambda p: p["b"] ** 2 - jnp.log(p["a"]), {"a": -1.0, "b": 2.0}), "nonfinite_cost"),
    "a norm at zero": (
        Case(lambda p: jnp.sqrt(jnp.sum(p["v"] ** 2)) + p["b"] ** 2, {"v": np.zeros(2), "b": 1.0}),
        "nonfinite_gradient",
    ),
    "years in 32 bits": (Case(line, np.zeros(2), FEW_YEARS), "uncentred"),
    "years in batches": (Case(line, np.zeros(2), TREND, WIDE | {"batch_size": 8}), "uncentred"),
    "columns of many sizes in batches": (Case(regression, LINE, (MIXED, TARGET), {"batch_size": 8}), "column_scales"),
    "only a sum matters": (Case(both, {"a": 0.0, "b": 0.0, "c": 1.0}), "degenerate"),
    "an unused parameter": (Case(lambda p: (p["a"] - 1) ** 2, {"a": 0.0, "b": 0.0}), "unused"),
    "a column of zeros": (Case(regression, LINE, (FEATURES * [1, 0, 1], TARGET)), "unused"),
    "a saturated sigmoid": (Case(saturated, {"gain": 200.0, "b": 0.0}, (FEATURES[:, 0], LABELS)), "saturated"),
    "the accuracy as a cost": (
        Case(
            lambda p, d: jnp.mean(jnp.where((d[0] @ p["w"] + p["b"] > 0) == (d[1] > 0.5), 0.0, 1.0)), OFF_LINE, (FEATURES, LABELS)
        ),
        "steps",
    ),
    "a peak far off": (Case(peak, {"height": 1.0, "place": 0.0, "width": 5.0}, (CHANNELS, PEAK)), "saturated"),
    "a sum in batches": (
        Case(lambda p, d: 60 * regression(p, d) * len(d[1]), LINE, (FEATURES, TARGET), {"batch_size": 8}),
        "sum_over_rows",
    ),
    "a root of a mean in batches": (
        Case(lambda p, d: jnp.sqrt(regression(p, d)), LINE, (FEATURES, TARGET), {"batch_size": 8}),
        "not_additive",
    ),
    "absolute values": (Case(lambda p, d: jnp.mean(jnp.abs(p[0] + p[1] * d[0] - d[1])), np.zeros(2), (X, Y)), "kink"),
    "a kink at the start": (Case(lambda p: jnp.sum(jnp.abs(p["a"])) + (p["b"] - 1) ** 2, {"a": np.zeros(2), "b": 0.0}), "kink"),
    "a rounded parameter": (Case(rounded, {"a": 0.3, "n": 2.2}, (TIMES, TIMES**2 + 3 * TIMES)), "steps"),
    "a cast to integers": (
        Case(lambda p: (p["n"].astype(int).astype(float) - 5.0) ** 2 + p["a"] ** 2, {"n": 1.5, "a": 1.0}),
        "steps",
    ),
    "days in 32 bits": (Case(line, np.zeros(2), (DAYS, np.sin(DAYS))), ("coarse_data", "uncentred")),
    "a start at a bound": (
        Case(lambda p: (p["a"] - 3) ** 2 + p["b"] ** 2, {"a": 1.0, "b": 0.5}, None, {"bounds": (-1.0, 1.0)}),
        "at_bound",
    ),
    "a saddle": (Case(lambda p: p["x"] ** 2 - p["y"] ** 2 + p["y"] ** 4, {"x": 0.0, "y": 0.0}), "saddle"),
    "a network of zeros": (Case(network, EMPTY, (FEATURES, TARGET)), "saddle"),
    "a large network of zeros": (
        Case(network, jax.tree.map(np.zeros_like, weights(50)), (FEATURES, TARGET), {"batch_size": 20}),
        "saddle",
    ),
    "a power below two": (Case(lambda p: jnp.sum(jnp.abs(p) ** 1.5), np.array([0.0, 1.0])), "nonfinite_hessian"),
    "nearly parallel columns": (
        Case(regression, {"w": np.zeros(2), "b": 0.0}, (FEATURES[:, :1] + 1e-4 * FEATURES[:, :2] * [0, 1], TARGET)),
        "ill_conditioned",
    ),
}

HEALTHY: dict[str, Case] = {
    "a line": Case(line, np.zeros(2), (X, Y)),
    "a line in batches": Case(line, np.zeros(2), (X, Y), {"batch_size": 3}),
    "a regression": Case(regression, LINE, (FEATURES, TARGET), {"batch_size": 10}),
    "a classification": Case(logistic, LINE, (FEATURES, LABELS), {"batch_size": 10}),
    "a decay": Case(decay, {"a": 1.0, "k": 1.0, "c": 0.0}, (TIMES, DECAY)),
    "Rosenbrock": Case(problems.rosenbrock, np.array([-1.2, 1.0])),
    "many variables": Case(problems.rosenbrock, np.tile([-1.2, 1.0], 150)),
    "variables of many sizes": Case(problems.mixed_scales, np.zeros(3)),
    "columns of many sizes": Case(regression, LINE, (MIXED, TARGET)),
    "years": Case(line, np.zeros(2), TREND),
    "years in 64 bits": Case(line, np.zeros(2), FEW_YEARS, WIDE),
    "one number": Case(lambda v: v**4 - 5 * v**2 - 3 * v, 0.0),
    "one row": Case(lambda v, d: jnp.mean((v * d[0] - d[1]) ** 2), 1.0, (X[:1], Y[:1])),
    "a small network": Case(network, weights(4), (FEATURES, TARGET)),
    "a large network": Case(network, weights(50), (FEATURES, TARGET), {"batch_size": 20}),
    "a network with kinks in batches": Case(
        functools.partial(network, activation=jax.nn.relu), weights(16), (FEATURES, TARGET), {"batch_size": 20}
    ),
    "a smoothed kink": Case(lambda p, d: jnp.mean(jnp.sqrt((p[0] + p[1] * d[0] - d[1]) ** 2 + 1.0)), np.zeros(2), (X, Y)),
    "masked rows": Case(
        lambda p, d: regression(p, (d[0], jnp.where(jnp.isnan(d[1]), 0.0, d[1]))), LINE, (FEATURES, spoilt(TARGET, 3))
    ),
    "a start at the minimum": Case(lambda p: jnp.sum(p**2), np.zeros(3)),
    "a start at a bound that it leaves": Case(lambda p: (p["a"] - 3) ** 2, {"a": 0.0}, None, {"bounds": (0.0, 9.0)}),
    "zeros at their bounds": Case(decay, {"a": 0.0, "k": 0.0, "c": 0.0}, (TIMES, DECAY), {"bounds": (0.0, None)}),
    "a peak": Case(peak, {"height": 1.0, "place": 500.0, "width": 15.0}, (CHANNELS, PEAK)),
    "Huber's loss far from its minimum": Case(huber, np.zeros(2), (X, Y)),
    "a likelihood": Case(lambda p, d: jnp.sum(jnp.exp(p[0] + p[1] * d[0]) - d[1] * (p[0] + p[1] * d[0])), np.zeros(2), (X / 50, Y)),
}


def cases(table: dict[str, Any], slow: str) -> list[Any]:
    """The names in a table, some of which take long or say nothing new."""
    names = slow.split("; ")
    assert set(names) <= table.keys()
    return [pytest.param(name, marks=[pytest.mark.slow] if name in names else []) for name in table]


@pytest.mark.parametrize(
    "name", cases(BROKEN, "a large network of zeros; years in batches; a sum in batches; a stopped gradient; a column of zeros")
)
def test_a_broken_fit_is_told_by_its_reason_alone(name: str) -> None:
    case, codes = BROKEN[name]
    report = case.report()
    assert report.codes == ((codes,) if isinstance(codes, str) else codes), str(report)
    assert not report.ok


@pytest.mark.parametrize(
    "name",
    cases(
        HEALTHY,
        "a line in batches; a network with kinks in batches; masked rows; a large network; years in 64 bits; a likelihood",
    ),
)
def test_of_a_sound_fit_there_is_nothing_to_say(name: str) -> None:
    report = HEALTHY[name].report()
    assert report.ok and report.codes == (), str(report)


def test_the_numbers_of_a_report_are_those_of_the_closed_form() -> None:
    report = jaxgd.check(line, [0.5, 0.25], (X, Y), dtype="float64")
    residuals = 0.5 + 0.25 * X - Y
    design = np.stack([np.ones(6), X], axis=1)
    hessian = design.T @ design / 6
    scaled = hessian / np.sqrt(np.outer(np.diag(hessian), np.diag(hessian)))
    np.testing.assert_allclose(report.cost, np.mean(residuals**2) / 2, rtol=1e-14)
    np.testing.assert_allclose(report.gradient, design.T @ residuals / 6, rtol=1e-13)
    np.testing.assert_allclose(report.condition, np.linalg.cond(hessian), rtol=1e-9)
    np.testing.assert_allclose(report.scaled_condition, np.linalg.cond(scaled), rtol=1e-9)
    assert (report.n_params, report.n_rows, report.n_negative, report.adds_up) == (2, 6, 0, "mean")
    assert [(one.name, one.mean, one.std) for one in report.columns] == [
        ("data[0]", X.mean(), X.std()),
        ("data[1]", Y.mean(), Y.std()),
    ]
    for one, slope in zip(report.slopes, report.gradient, strict=True):
        assert one.slope == slope and abs(one.difference - slope) <= 4 * one.error + 1e-12


def test_flat_directions_and_culprits_are_named() -> None:
    texts = {name: BROKEN[name][0].report().warnings[0] for name in ("only a sum matters", "NaN in the data", "a column of zeros")}
    assert texts["only a sum matters"].text == "The cost is flat in one direction: only params['a'] + params['b'] matters"
    assert texts["NaN in the data"].text == "data[0], row 7, column 1, is NaN; the cost is NaN at the start"
    assert texts["a column of zeros"].text == "The cost does not depend on params['w'][1]"
    report = jaxgd.check(
        lambda p: (2 * p["a"] - 3 * p["b"]) ** 2 + (p["c"] + p["d"] + p["e"] - 1) ** 2, dict.fromkeys("abcde", 1.0)
    )
    assert report.flat == (
        "only params['a'] - 1.5 * params['b'] matters",
        "2 combinations of params['c'], params['d'], params['e'] do not matter",
    )


def test_the_gravest_reason_comes_first_and_the_text_is_wrapped() -> None:
    report = jaxgd.check(lambda p: square(p["x"]), {"x": 1.5, "y": 0.0})
    assert report.codes == ("wrong_gradient", "unused")
    lines = str(report).splitlines()
    assert lines[0] == "2 possible reasons for a bad fit."
    assert lines[1] == "  wrong_gradient  The gradient is not the slope of the cost, params['x']: 1.5 instead of 3. Correct"
    assert max(map(len, lines)) <= 100 and report.warnings[1].text == "The cost does not depend on params['y']"
    html = report._repr_html_()
    assert html.count("<tr>") == len(report.warnings) + len(report.facts) + len(report.rows) and "params[&#x27;x&#x27;]" in html


def test_what_is_fixed_is_left_alone() -> None:
    report = jaxgd.check(both, {"a": 0.0, "b": 0.0, "c": 1.0}, fixed={"a": True, "b": False, "c": False})
    assert report.ok and report.n_params == 2 and report.gradient == {"a": 0.0, "b": -6.0, "c": 2.0}
    fixed = {"w": np.array([False, True, False]), "b": False}
    report = jaxgd.check(regression, LINE, (FEATURES * [1, 0, 1], TARGET), fixed=fixed)
    assert report.ok and [one.name for one in report.slopes] == ["params['b']", "params['w'][0]", "params['w'][2]"]


def test_leaves_of_all_kinds_extras_and_an_aux_are_taken() -> None:
    start = {"f": lambda v: (v - 1) ** 2, "x": 0.0, "y": np.ones(2), "none": None, "flag": True}
    assert jaxgd.check(lambda p: (p["f"](p["x"]) + jnp.sum(p["y"] ** 2), p["x"]), start, has_aux=True).ok
    assert jaxgd.check(lambda p: jnp.sum((p - 1) ** 2), np.zeros(3, np.float16)).ok

    def random(params: Any, batch: Any, key: Any, state: Any) -> Any:
        noise = jax.random.normal(key, (3,), params["b"].dtype)
        return regression(params, batch) + 0.01 * params["w"] @ noise, state + 1

    report = jaxgd.check(random, LINE, (FEATURES, TARGET), key=0, cost_state=0, batch_size=10)
    assert report.ok and report.adds_up is None


@pytest.mark.slow
def test_a_cost_with_python_control_flow_is_examined_as_it_is() -> None:
    def cost(p: Any) -> Any:
        return (p["a"] - 1) ** 2 if p["a"] < 5 else p["a"]

    assert jaxgd.check(cost, {"a": 0.5, "b": 0.0}, jit=False).codes == ("unused",)


def test_without_second_derivatives_the_method_is_another() -> None:
    def outside(function: Any, x: Any) -> Any:
        return jax.pure_callback(lambda v: function(np.asarray(v)), jax.ShapeDtypeStruct((), x.dtype), x)

    solved = jax.custom_vjp(lambda x: outside(np.square, x))
    solved.defvjp(lambda x: (solved(x), x), lambda x, g: (g * outside(lambda v: 2 * v, x),))
    report = jaxgd.check(lambda v: solved(v - 1), 3.0)
    assert report.ok and report.methods["minimize"].startswith("LBFGS(), since JAX has no second derivatives of the cost: ")
    assert (
        jaxgd.check(problems.rosenbrock, np.zeros(201)).methods["minimize"] == "LBFGS(), since there are more than 200 parameters"
    )


def test_a_report_tells_what_would_slow_a_fit_down_as_a_fact_alone() -> None:
    report = HEALTHY["years"].report()
    assert ("in fit", "centre data[0], or steps are slow") in report.facts
    assert report.methods.keys() == {"minimize", "fit"} and report.seconds.keys() == {"value and gradient", "Hessian"}


def test_residuals_that_are_not_finite_are_named() -> None:
    def residuals(params: Any, data: Any) -> Any:
        t, y = data
        model = params["a"] * jnp.exp(-params["k"] * t) + params["c"]
        return {"decay": model - y, "end": (jnp.log(params["c"]), params["a"] - 3)}

    start = {"a": 1.0, "k": 1.0, "c": -1.0}
    report = Case(jaxgd.SumOfSquares(residuals), start, (TIMES, DECAY)).report()
    assert report.codes == ("nonfinite_cost",)
    assert "The cost is NaN at the start: residuals['end'][0] is NaN; with params['c'] = " in report.warnings[0].text
    lost = jaxgd.SumOfSquares(lambda v: jnp.sqrt(v - jnp.arange(4.0).reshape(2, 2)))
    [warning] = Case(lost, 1.5).report().warnings
    assert warning.text.startswith("The cost is NaN at the start: residuals[1,0] is NaN, the first of 2 of 4")
    sound = Case(jaxgd.SumOfSquares(residuals), start | {"c": 0.5}, (TIMES, DECAY), {"dtype": "float64"}).report()
    assert sound.ok and dict(sound.facts)["minimize"] == "LevenbergMarquardt(), which knows residuals"
