"""What every method, stopping rule and schedule keeps to: each is found by itself, so that a new one is tested at once."""

import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd import Status, schedules, stopping
from jaxgd.methods import first_order
from jaxgd.methods.protocol import Method, Point, Problem, Step
from jaxgd.methods.rule import FirstOrderMethod

ALONE = ("FirstOrderAdapter", "OptaxMethod", "TracedOptax", "UserMethod", "FullArrays", "Shortened")  # made by the package alone
INNER = (*ALONE, "InteriorPoint", "AugmentedLagrangian")  # which need constraints and have tests of their own
MODULES = [importlib.import_module(module.name) for module in pkgutil.walk_packages(jaxgd.__path__, "jaxgd.")]


def classes(*bases: type) -> Iterator[type]:
    """All classes of the package below some bases, in the order of their names."""
    found = {value for module in MODULES for _, value in inspect.getmembers(module, inspect.isclass) if issubclass(value, bases)}
    return iter(sorted(found - set(bases), key=lambda one: one.__name__))


def made(kind: type) -> Any:
    """An object of a class, with a first number if it needs one."""
    try:
        return kind()
    except TypeError:
        return kind(0.02)


METHODS = [
    made(kind) for kind in classes(Method, FirstOrderMethod) if kind.__name__ not in INNER and not kind.__name__.startswith("_")
]
SEARCHES = [method for method in METHODS if isinstance(method, Method)]


def posed(method: Any, cost: Any) -> Any:
    """A positive cost as a method has to have it: for some as half a square of a residual."""
    if getattr(getattr(method, "traits", None), "requires", "gradient") not in ("residuals", "products"):
        return cost
    return jaxgd.SumOfSquares(lambda *arguments: jnp.sqrt(2 * cost(*arguments)))


START = {"free": np.array([2.0, -1.0], np.float32), "held": np.array([1.0, 3.0], np.float32), "scale": np.float32(0.5)}
FIXED = {"free": False, "held": [True, False], "scale": False}
BOUNDS = ({"free": [0.5, None], "held": None, "scale": 0.25}, None)


def name(value: Any) -> str:
    return type(value).__name__


def bowl(params: Any) -> Any:
    """Convex, with its minimum beyond the bounds of two of its parameters."""
    free, held, scale = params["free"], params["held"], params["scale"]
    return jnp.sum((free + 0.5) ** 2) + jnp.sum(jnp.cosh(held - 2)) + (scale - 0.1) ** 2 * free[0]


def test_there_are_methods_of_all_kinds() -> None:
    assert {name(method) for method in METHODS} >= {"Adam", "GradientDescent", "LBFGS", "SpectralGradient", "TrustRegion"}


@pytest.mark.parametrize("method", METHODS, ids=name)
def test_bounds_fixed_numbers_precision_and_history(method: Any) -> None:
    result: Any = jaxgd.minimize(
        posed(method, bowl),
        START,
        method=method,
        bounds=BOUNDS,
        fixed=FIXED,
        stop=(),
        max_steps=30,
        history=("params", "gradient_norm"),
    )
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves((result.params, result.cost, result.history)))
    assert jax.tree.structure(result.params) == jax.tree.structure(START)
    assert np.all(result.history.params["free"][:, 0] >= 0.5) and np.all(result.history.params["scale"] >= 0.25)
    assert np.all(result.history.params["held"][:, 0] == 1.0) and result.gradient["held"][0] == 0
    assert len(result.history.cost) == result.n_steps + 1 > 1
    assert float(result.best.cost) <= np.min(result.history.cost) and result.history.cost[-1] == result.cost
    np.testing.assert_allclose(result.cost, bowl(result.params), rtol=1e-6)
    again = pickle.loads(pickle.dumps(result))
    jax.tree.map(np.testing.assert_array_equal, again, result)


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("method", METHODS, ids=name)
def test_lanes_eager_runs_and_one_parameter(method: Any) -> None:
    def cost(v: Any) -> Any:
        return jnp.cosh(v - 1) + v**2 / 2

    def end(start: Any, **options: Any) -> Any:
        return jaxgd.minimize(posed(method, cost), start, method=method, stop=(), max_steps=8, dtype=None, **options)

    with jax.enable_x64(True):
        starts = jnp.asarray([-0.5, 1.0, 3.0])
        alone = [end(start) for start in starts]
        lanes = jax.jit(jax.vmap(lambda start: end(start).params))(starts)
        np.testing.assert_allclose(lanes, [float(one.params) for one in alone], rtol=1e-9, atol=1e-12)
        if isinstance(method, jaxgd.TruncatedNewton):  # products need a cost that is compiled
            return
        eager = end(starts[0], jit=False)
        np.testing.assert_allclose(eager.params, alone[0].params, rtol=1e-12)
        assert (eager.n_steps, eager.n_evaluations) == (alone[0].n_steps, alone[0].n_evaluations)


@pytest.mark.parametrize("method", METHODS, ids=name)
def test_what_is_not_finite_ends_the_run_or_is_stepped_back_from(method: Any) -> None:
    def cliff(v: Any) -> Any:
        return jnp.where(v > 0.9, v**2, jnp.nan)

    cost = posed(method, cliff)
    result = jaxgd.minimize(cost, 1.0, method=method, max_steps=100)
    assert not result.converged and np.isfinite(result.cost) and result.params > 0.9 and result.best.cost <= result.cost
    nowhere = jaxgd.minimize(cost, 0.5, method=method, max_steps=100)
    assert nowhere.status is Status.DIVERGED and (nowhere.n_steps, nowhere.n_evaluations, float(nowhere.params)) == (0, 1, 0.5)
    assert nowhere.cause == "the cost is NaN at the start"


@pytest.mark.parametrize("method", METHODS, ids=name)
def test_a_callback_and_an_interrupt_end_the_run_in_that_step(method: Any) -> None:
    def interrupted(progress: Any) -> None:
        if progress.step == 2:
            raise KeyboardInterrupt

    cost, options = posed(method, jnp.cosh), {"method": method, "stop": (), "max_steps": 8}
    stopped = jaxgd.minimize(cost, 3.0, callback=lambda progress: progress.step == 2, **options)
    broken = jaxgd.minimize(cost, 3.0, callback=interrupted, **options)
    assert (stopped.status, broken.status) == (Status.CALLBACK, Status.INTERRUPTED)
    assert stopped.n_steps == broken.n_steps == 2 and stopped.params == broken.params


@pytest.mark.parametrize("method", SEARCHES, ids=name)
def test_the_state_of_a_method_keeps_its_shapes(method: Any) -> None:
    params, traits = jnp.arange(3.0), method.traits
    point = Point(params, jnp.float32(1), params)
    products = tuple([lambda params, vector: vector] * 3)
    problem = Problem(lambda params: point, lambda _: jnp.eye(3), None, point, lambda _: (jnp.ones(3), jnp.eye(3)), products)
    state = jax.eval_shape(method.init, params)
    step = jax.eval_shape(lambda state: method.step(point, state, problem), state)
    alike = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), step.state, state)
    assert jax.tree.all(alike) and traits.requires in ("gradient", "hessian", "residuals", "products")
    assert traits.can_reject or step.accepted is True


class Plain(Method):
    """Descent of rate one."""

    def init(self, params: Any) -> Any:
        return jnp.zeros((), jnp.int32)

    def step(self, point: Point, state: Any, problem: Problem) -> Step:
        return Step(jax.tree.map(jnp.negative, point.gradient), state)


@jaxgd.pytree
class Rejecting(Plain):
    def step(self, point: Point, state: Any, problem: Problem) -> Step:
        return super().step(point, state, problem)._replace(accepted=state > 0)


@jaxgd.pytree
class Ending(Plain):
    def step(self, point: Point, state: Any, problem: Problem) -> Step:
        return super().step(point, state, problem)._replace(code=state)


def test_a_method_that_hides_its_traits_is_refused() -> None:
    with pytest.raises(TypeError, match="method: Rejecting may reject points: set can_reject=True in its traits"):
        jaxgd.minimize(jnp.cosh, 3.0, method=Rejecting())
    with pytest.raises(TypeError, match="method: Ending may end the run: set can_end=True in its traits"):
        jaxgd.minimize(jnp.cosh, 3.0, method=Ending())


RULES: list[Any] = [made(kind) if kind is not stopping.Patience else kind(3) for kind in classes(stopping.StoppingRule)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rule", RULES, ids=name)
def test_a_stopping_rule_keeps_its_state_and_knows_the_end(rule: Any, dtype: Any) -> None:
    with jax.enable_x64(dtype == np.float64):
        params = {"a": jnp.ones(2, dtype), "b": jnp.asarray(3, dtype)}
        zero, cost = jax.tree.map(jnp.zeros_like, params), jnp.asarray(2, dtype)
        still = stopping.Observation(params, cost, zero, zero)
        state = rule.init(params, dtype)
        fired = []
        for _ in range(6):  # nothing moves any more
            verdict, after = rule.check(still, state)
            alike = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), after, state)
            assert jax.tree.all(alike) and verdict.shape == () and verdict.dtype == bool
            state = after
            fired.append(bool(verdict))
        assert fired[-1] and rule.watches in ("update", "progress") and isinstance(rule.status, Status)
        moving = jax.tree.map(lambda leaf: leaf * jnp.nan, params)
        lost = stopping.Observation(params, cost * jnp.nan, moving, moving)
        assert not bool(rule.check(lost, rule.init(params, dtype))[0])


SCHEDULES: list[Any] = [
    schedules.Cosine(0.5, 20),
    schedules.Exponential(0.5, 0.5, 20),
    schedules.InverseTime(1.0, 10.0),
    schedules.PiecewiseConstant([5, 10], [0.5, 0.1, 0.01]),
    schedules.Plateau(schedules.Cosine(0.5, 20)),
    schedules.WarmUp(schedules.Cosine(0.5, 20), 5),
]


def test_every_schedule_is_tested() -> None:
    assert {name(one) for one in SCHEDULES} == {kind.__name__ for kind in classes(schedules.Schedule)}


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
def test_a_schedule_is_a_function_of_the_step_alone(schedule: Any) -> None:
    bound = schedule.bind(3)
    steps = jnp.asarray([0, 1, 7, 2**31 - 2], jnp.int32)
    alone = np.asarray([bound(step) for step in steps])
    assert np.all(np.isfinite(alone)) and np.all(alone >= 0) and alone[1] > 0
    np.testing.assert_allclose(jax.jit(jax.vmap(bound))(steps), alone, rtol=1e-6)


def test_former_names_go_on_to_work_and_say_what_is_new() -> None:
    for module, old, new in ((stopping, "Rule", "StoppingRule"), (first_order, "Rule", "FirstOrderMethod")):
        with pytest.warns(DeprecationWarning, match=f"jaxgd: {module.__name__}.{old} is now called {new}"):
            assert getattr(module, old) is getattr(module, new)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        getattr(stopping, "Nothing")  # noqa: B009
    with pytest.warns(
        DeprecationWarning, match="jaxgd: Former: the method (memory|recurrence) .* is now called (init|update)_leaf"
    ):

        @jaxgd.pytree
        class Former(first_order.FirstOrderMethod):
            learning_rate: Any = 0.25

            def memory(self, leaf: Any) -> Any:
                return ()

            def recurrence(self, gradient: Any, memory: Any, params: Any, count: Any) -> Any:
                return -self.learning_rate * gradient, memory

    result = jaxgd.minimize(lambda v: v**2, 1.0, method=Former(), stop=(), max_steps=3)
    assert float(result.params) == 0.125
