from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd import Status
from jaxgd.stopping import CostTolerance, GradientTolerance, Patience, StoppingRule, UpdateTolerance
from tests.problems import square


def halving(stop: Any, **options: Any) -> jaxgd.Result:
    """A run whose parameter is 2**-k after k steps: the update is -2**-(k+1), the cost 4**-k, the gradient 2 * 2**-k."""
    return jaxgd.minimize(square, 1.0, method=jaxgd.GradientDescent(0.25), stop=stop, max_steps=500, dtype="float64", **options)


@pytest.mark.parametrize(
    ("stop", "steps", "status"),
    [
        (UpdateTolerance(2.0**-11), 10, Status.UPDATE_TOLERANCE),
        (UpdateTolerance(0.5, relative=True), 0, Status.UPDATE_TOLERANCE),
        (UpdateTolerance(0.49, relative=True), 500, Status.MAX_STEPS),
        (CostTolerance(3 * 4.0**-10), 10, Status.COST_TOLERANCE),
        (CostTolerance(3.0, relative=True), 1, Status.COST_TOLERANCE),
        (CostTolerance(-1.0), 500, Status.MAX_STEPS),
        (GradientTolerance(2.0**-9), 10, Status.GRADIENT_TOLERANCE),
        (GradientTolerance(2.0**-10, relative=True), 10, Status.GRADIENT_TOLERANCE),
        (GradientTolerance(), 35, Status.GRADIENT_TOLERANCE),  # 2**-35 is the first power below eps**(2/3) = 3.7e-11
        (Patience(3), 500, Status.MAX_STEPS),
        (Patience(3, minimum_change=3 * 4.0**-6), 10, Status.PATIENCE),  # steps 5 and 7 improve; after 7 less is left than this
        ((), 500, Status.MAX_STEPS),
        ((UpdateTolerance(1e-300), GradientTolerance(2.0**-9)), 10, Status.GRADIENT_TOLERANCE),
        ([GradientTolerance(2.0**-9), UpdateTolerance(2.0**-11)], 10, Status.GRADIENT_TOLERANCE),
    ],
    ids=str,
)
def test_a_rule_stops_at_the_exact_step(stop: Any, steps: int, status: Status) -> None:
    result = halving(stop)
    assert (result.n_steps, result.status) == (steps, status)
    assert float(result.params) == 2.0**-steps
    assert result.converged == (status not in (Status.MAX_STEPS, Status.PATIENCE))


def test_the_default_tolerances_follow_the_precision() -> None:
    # The update of 1 - 2**-k about 1 falls below one rounding unit, the cost 1 + 4**-k no longer changes.
    for dtype, bits in (("float32", 23), ("float64", 52)):
        method = jaxgd.GradientDescent(0.25)
        options: dict[str, Any] = {"method": method, "max_steps": 500, "dtype": dtype}
        update = jaxgd.minimize(lambda v: (v - 1) ** 2, 2.0, stop=UpdateTolerance(), **options)
        assert (update.n_steps, update.status) == (bits - 1, Status.UPDATE_TOLERANCE)
        cost = jaxgd.minimize(lambda v: 1 + (v - 1) ** 2, 2.0, stop=CostTolerance(), **options)
        assert bits // 2 - 1 <= cost.n_steps <= bits // 2 + 2


def test_no_improvement_possible_ends_at_once() -> None:
    for stop in (None, UpdateTolerance(1e-6), GradientTolerance(1e-6)):
        result = jaxgd.minimize(square, 0.0, method=jaxgd.GradientDescent(0.25), stop=stop)
        assert (result.n_steps, result.n_evaluations, result.converged) == (0, 1, True)


def test_patience_looks_at_the_validation_cost() -> None:
    # The parameter goes 0, 1/2, 3/4, ... to 1; the validation cost is lowest near 3/4 and rises again.
    options: dict[str, Any] = {"batch_size": 1, "n_epochs": 50, "shuffle": False, "dtype": "float64", "history": "params"}
    options["method"] = jaxgd.GradientDescent(0.25)
    result = jaxgd.fit(lambda v, b: jnp.mean((v - b) ** 2), 0.0, [1.0], validation=[0.75], stop=Patience(4), **options)
    assert result.status is Status.PATIENCE
    assert result.n_epochs == 2 + 4
    assert float(result.best.params) == 0.75
    assert float(result.best.cost) == 0.0
    assert result.history is not None
    np.testing.assert_allclose(result.history.validation_cost, (1 - 0.5 ** np.arange(7) - 0.75) ** 2, rtol=1e-14)
    without = jaxgd.fit(lambda v, b: jnp.mean((v - b) ** 2), 0.0, [1.0], stop=Patience(4), **options)
    assert without.n_epochs == 50


def test_progress_rules_in_fit_look_at_epochs() -> None:
    # Two rows pull the parameter to and fro: no batch's gradient is ever small, the mean of an epoch's is.
    data = np.array([-1.0, 1.0])
    options: dict[str, Any] = {"batch_size": 1, "n_epochs": 100, "shuffle": False, "method": jaxgd.GradientDescent(1e-4)}
    result = jaxgd.fit(lambda v, b: jnp.mean((v - b) ** 2), 0.0, data, stop=GradientTolerance(1e-3), dtype="float64", **options)
    assert (result.status, result.n_epochs) == (Status.GRADIENT_TOLERANCE, 1)
    result = jaxgd.fit(lambda v, b: jnp.mean((v - b) ** 2), 0.0, data, stop=CostTolerance(1e-3), dtype="float64", **options)
    assert (result.status, result.n_epochs) == (Status.COST_TOLERANCE, 2)


def test_a_rule_of_ones_own() -> None:
    @jaxgd.pytree
    class Below(StoppingRule):
        limit: Any

        def check(self, observation: Any, state: Any) -> Any:
            return observation.cost < self.limit, state

    result = halving(Below(4.0**-10))
    assert (result.n_steps, result.status) == (11, Status.RULE)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "method", [jaxgd.SpectralGradient(), jaxgd.GradientDescent(0.4), jaxgd.Adam(0.05)], ids=lambda m: type(m).__name__
)
def test_a_variable_in_another_unit_has_not_arrived_with_the_others(method: Any, dtype: str) -> None:
    def apart(x: Any, unit: Any) -> Any:
        return (x[0] - 3) ** 2 + (x[1] / unit - 2) ** 2 + 1

    for unit in (1.0, 1e4, 1e6):
        result = jaxgd.minimize(apart, [0.0, 0.0], unit, method=method, dtype=dtype, max_steps=2000)
        excess = (float(result.params[0]) - 3) ** 2 + (float(result.params[1]) / unit - 2) ** 2
        assert excess < 8 * np.finfo(dtype).eps if result.converged else unit > 1
