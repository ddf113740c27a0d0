import pickle
import re
import xml.etree.ElementTree
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd import Status, _text
from tests.problems import X, Y, line, nested, square

NESTED = {"scalar": 0.0, "pair": (np.zeros(2), {"deep": np.zeros((2, 2))})}


def test_the_structure_of_the_start_comes_back() -> None:
    result = jaxgd.minimize(nested, NESTED, dtype="float64")
    expected = jax.tree.structure(NESTED)
    assert (
        jax.tree.structure(result.params)
        == jax.tree.structure(result.gradient)
        == jax.tree.structure(result.best.params)
        == expected
    )
    assert jax.tree.map(np.shape, result.params) == jax.tree.map(np.shape, NESTED)


def test_params_cost_and_gradient_belong_to_the_same_point() -> None:
    for method in (None, jaxgd.GradientDescent(1e-3, 0.9), jaxgd.Adam(0.1)):
        for max_steps in (1, 4):
            result = jaxgd.minimize(line, [0.5, 0.5], (X, Y), method=method, max_steps=max_steps, dtype="float64")
            residual = result.params[0] + result.params[1] * X - Y
            np.testing.assert_allclose(result.cost, np.mean(residual**2) / 2, rtol=1e-13)
            np.testing.assert_allclose(result.gradient, [np.mean(residual), np.mean(residual * X)], rtol=1e-11, atol=1e-11)
            assert result.n_evaluations == max_steps + 1


def test_aux_is_that_of_the_returned_point() -> None:
    def cost(v: Any) -> Any:
        return v**2, {"twice": 2 * v, "count": 3}

    result = jaxgd.minimize(cost, 1.0, method=jaxgd.GradientDescent(0.25), max_steps=4, has_aux=True, dtype="float64")
    assert float(result.params) == 1 / 16
    assert float(result.aux["twice"]) == 1 / 8 and int(result.aux["count"]) == 3


def test_a_result_is_a_pytree_that_can_be_pickled() -> None:
    result = jaxgd.minimize(nested, NESTED, method=jaxgd.Adam(0.1), max_steps=3, history="params", has_aux=False)
    fitted = jaxgd.fit(line, [0.5, 0.5], (X, Y), batch_size=2, n_epochs=2, key=0, average=0.5, stop=jaxgd.stopping.Patience(2))
    for one in (result, fitted):
        again = pickle.loads(pickle.dumps(one))
        assert jax.tree.structure(again) == jax.tree.structure(one)
        jax.tree.map(np.testing.assert_array_equal, again, one)
        assert again.status is one.status and str(again) == str(one)
        assert isinstance(jax.tree.map(lambda leaf: leaf, one), jaxgd.Result)
    with pytest.raises(AttributeError):
        result.params = 3  # type: ignore[misc]


def test_every_status_is_a_sentence_and_has_a_code() -> None:
    for code, status in enumerate(Status):
        assert status.code == code
        assert status.value[0].isupper() and status.value.endswith(".")
        assert str(status) == status.value
        assert status.converged == status.value.startswith("Converged")
    assert Status.RUNNING.code == 0


def timeless(result: jaxgd.Result) -> str:
    """The text of a result without the time that it took."""
    return re.sub(r"(evaluations?), [\d.e+]+ (s|ms|µs)$", r"\1", str(result), flags=re.MULTILINE)


def test_the_text_of_a_result() -> None:
    result = jaxgd.gradient_descent(square, 10.0, learning_rate=0.2)
    assert timeless(result) == (
        "Converged: the next update is within the tolerance (UpdateTolerance).\n"
        "  cost      4.8873678e-12\n"
        "  gradient  4.4e-06 (largest component)\n"
        "  after     30 steps, 31 evaluations\n"
        "  params    2.2107392e-06"
    )
    assert result.seconds is not None and str(result) == repr(result) != timeless(result)
    fitted = jaxgd.fit(
        lambda p, b: (p["a"] * b.mean() + p["w"].sum()) ** 2,
        {"a": 1.0, "w": np.zeros(100)},
        [1.0, 2.0],
        batch_size=2,
        n_epochs=1,
        method=jaxgd.GradientDescent(2e-9),
        dtype="float64",
    )
    assert timeless(fitted) == (
        "Finished: every epoch was run.\n"
        "  cost      2.24999816\n"
        "  gradient  4.5 (largest component)\n"
        "  after     1 step, 2 evaluations\n"
        "  params['a']  0.999999991\n"
        "  params['w']  float64 (100,), from -6e-09 to -6e-09"
    )


@pytest.mark.slow
def test_the_text_of_a_run_that_diverged_of_many_runs_and_of_many_arrays() -> None:
    def run(rate: Any, start: Any = 1.0) -> jaxgd.Result:
        return jaxgd.minimize(lambda v: v**4, start, method=jaxgd.GradientDescent(rate), max_steps=5, stop=())

    assert "\n  best cost  1 (result.best)\n" in str(run(1e9))
    climbing = jaxgd.minimize(square, 1.0, method=jaxgd.GradientDescent(2.0), max_steps=5, stop=())  # finite, and lost
    assert "\n  best cost  1 (result.best)\n" in str(climbing) and climbing.status is Status.WORSE
    several = jax.vmap(run)(jnp.array([1e-3, 1e9]))
    assert str(several).startswith("2 runs: 1 MAX_STEPS, 1 DIVERGED.\n  cost      [") and several.seconds is None
    wide = jaxgd.minimize(lambda p: sum(jnp.sum(leaf**2) for leaf in p), [np.ones(2)] * 30, method=jaxgd.Adam(0.1), max_steps=1)
    assert str(wide).endswith("  params[19]  [0.9 0.9]\n  ... and 10 more arrays")
    texts: list[str] = []
    jax.jit(lambda v: texts.append(str(jaxgd.minimize(square, v))))(1.0)
    assert texts[0].startswith("Result(params=")


def test_a_result_with_its_uncertainties_in_a_terminal_and_in_a_notebook() -> None:
    def cost(p: Any) -> Any:
        return ((p["a<b"] - 3) / 0.0173) ** 2 / 2 + jnp.sum((p["c"] - 1e6) ** 2) / 2e4

    start = {"a<b": 1.0, "c": np.zeros(2)}
    result = jaxgd.minimize(cost, start, dtype="float64")
    found = jaxgd.covariance(cost, result.params, fixed={"a<b": False, "c": [False, True]}, dtype="float64")
    assert result.summary(found).splitlines()[-3:] == [
        "  params['a<b']     3.000 ± 0.017",
        "  params['c'][0]  1000000 ± 100",
        "  params['c'][1]  1000000 ± 0 (held)",
    ]
    table = result._repr_html_()
    assert table is not None and "<b>Converged: " in table and "params[&#x27;a&lt;b&#x27;]" in table and "<b>a<b" not in table
    parsed = xml.etree.ElementTree.fromstring(table)
    assert [len(row) for row in parsed.iter("tr")] == [2] * 5
    assert "3.000 ± 0.017" in (found._repr_html_() or "")


@pytest.mark.parametrize(
    "value, error, shown",
    [
        (5.63333, 0.1731, ("5.63", "0.17")),
        (0.54, 0.0096, ("0.5400", "0.0096")),
        (-12345.6, 210.0, ("-12350", "210")),
        (9.999, 0.0999, ("10.00", "0.10")),
        (1.234e-9, 5.6e-12, ("1.2340e-09", "5.6e-12")),
        (6.02214076e23, 1e15, ("6.022140760e+23", "1.0e+15")),
        (0.001, 5.0, ("0.0", "5.0")),
        (1.5, 0.0, ("1.5", "0")),
        (1.5, np.nan, ("1.5", "nan")),
        (np.inf, 1.0, ("inf", "1")),
    ],
)
def test_a_value_is_shown_as_far_as_its_error_reaches(value: float, error: float, shown: tuple[str, str]) -> None:
    assert _text.measured(value, error) == shown


def test_an_empty_array_among_the_parameters() -> None:
    def cost(p: Any, rows: Any = None) -> Any:
        return jnp.mean((p["x"] - 3) ** 2) + jnp.sum(p["none"]) + (0 if rows is None else 0 * jnp.sum(rows))

    start = {"none": np.zeros((0, 2), np.float32), "x": np.float32(1)}
    whole = jaxgd.minimize(cost, start)
    batches = jaxgd.fit(cost, start, np.zeros(4, np.float32), batch_size=2, n_epochs=200, key=0, method=jaxgd.Adam(0.1))
    for result in (whole, batches):
        assert result.params["none"].shape == (0, 2) and np.isfinite(result.cost)
        np.testing.assert_allclose(result.params["x"], 3, rtol=1e-2)


def test_the_numbers_of_the_statuses_stay_what_they_are() -> None:
    names = (
        "RUNNING CONVERGED RULE UPDATE_TOLERANCE COST_TOLERANCE GRADIENT_TOLERANCE PATIENCE MAX_STEPS MAX_EPOCHS STALLED DIVERGED "
        "CALLBACK INTERRUPTED UNBOUNDED NONFINITE_DATA WORSE INFEASIBLE"
    )
    assert {status.name: status.code for status in Status} == {name: k for k, name in enumerate(names.split())}
    codes = np.array([[1, 10], [15, 0]])
    assert Status.of(codes).tolist() == [[Status.CONVERGED, Status.DIVERGED], [Status.WORSE, Status.RUNNING]]
    assert pickle.loads(pickle.dumps(Status.WORSE)) is Status.WORSE and Status.of(np.int32(15)) is Status.WORSE
