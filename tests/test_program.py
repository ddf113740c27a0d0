"""Programs are found again by structure, and never confused."""

import functools
import gc
import importlib
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd._compile import jaxprs, memory, program
from tests.problems import X, Y, line

DESCENT = jaxgd.GradientDescent(1e-3)


def slope(cost: Any, start: Any = 2.0, **options: Any) -> float:
    """The gradient that a run saw at its start, told from the one step that it made."""
    result = jaxgd.minimize(
        cost, start, method=jaxgd.GradientDescent(2.0**-10), max_steps=1, stop=(), history="params", dtype="float64", **options
    )
    assert result.history is not None
    return float(result.history.params[0] - result.history.params[1]) * 2**10


def test_fresh_functions_data_keys_and_hyperparameters_compile_nothing(compilations: Any) -> None:
    def minimize(weight: Any, rate: Any, shift: float) -> Any:
        cost = lambda v, d: jnp.sum(weight * (v - d) ** 2)  # noqa: E731
        return jaxgd.minimize(
            cost,
            np.ones(3) * shift,
            np.arange(3.0) + shift,
            method=jaxgd.GradientDescent(rate),
            max_steps=5,
            stop=jaxgd.stopping.UpdateTolerance(rate),
        )

    def fit(weight: Any, rate: float, key: Any) -> Any:
        cost = lambda v, d: jnp.mean(weight[0] * (v - d) ** 2)  # noqa: E731
        return jaxgd.fit(
            cost, float(key), np.arange(5.0) + rate, batch_size=2, n_epochs=4, key=key, method=jaxgd.RMSProp(rate), average=rate
        )

    ones, weights = jnp.ones(3), jnp.arange(1.0, 4.0)
    doubled = 2 * weights
    minimize(ones, 0.1, 0.0)
    fit(ones, 0.1, 0)
    with compilations() as compiled:
        runs = [minimize(weights, 0.2, 1.0).params, minimize(doubled, 0.2, 1.0).params]
        fits = [fit(weights, 0.2, key).params for key in (1, 2)]
    assert not compiled
    assert not np.array_equal(*runs) and not np.array_equal(*fits)


def test_switching_the_precision_and_back_compiles_nothing_more(compilations: Any) -> None:
    def runs() -> list[Any]:
        return [
            jaxgd.minimize(line, [0.5, 0.5], (X, Y), method=DESCENT, max_steps=3, dtype=dtype).params
            for dtype in ("float32", "float64")
        ]

    first = runs()
    with compilations() as compiled:
        again = runs()
    assert not compiled
    jax.tree.map(np.testing.assert_array_equal, first, again)


class Model:
    """A cost that is a method, with its constant in the object."""

    def __init__(self, factor: Any) -> None:
        self.factor = factor

    def cost(self, v: Any) -> Any:
        return self.factor * v


def with_default(factor: Any) -> Any:
    return lambda v, factor=factor: factor * v


def nested_jit(factor: Any) -> Any:
    return lambda v: jax.jit(lambda u: factor * u)(v)


def custom_value(factor: Any) -> Any:
    @jax.custom_jvp
    def scaled(v: Any) -> Any:
        return factor * v

    scaled.defjvps(lambda tangent, _, v: 0.0 * v + tangent * 1.0)  # a rule that hides the factor from the gradient
    return lambda v: factor * v + 0.0 * scaled(v)


def custom_rule(factor: Any) -> Any:
    @jax.custom_jvp
    def scaled(v: Any) -> Any:
        return v

    scaled.defjvps(lambda tangent, _, v: factor * tangent)
    return scaled


def custom_vjp_rule(factor: Any) -> Any:
    @jax.custom_vjp
    def scaled(v: Any) -> Any:
        return v

    scaled.defvjp(lambda v: (v, None), lambda _, g: (factor * g,))
    return scaled


def in_a_loop(factor: Any) -> Any:
    return lambda v: jax.lax.fori_loop(0, 1, lambda _, u: factor * u, v)


def in_a_branch(factor: Any) -> Any:
    return lambda v: jax.lax.cond(v > 0, lambda u: factor * u, lambda u: u, v)


WAYS: dict[str, Any] = {
    "literal": lambda factor: {2.0: lambda v: 2.0 * v, 3.0: lambda v: 3.0 * v}[factor],
    "closed-over float": lambda factor: lambda v: factor * v,
    "closed-over NumPy scalar": lambda factor: (lambda f: lambda v: f * v)(np.float64(factor)),
    "closed-over array": lambda factor: (lambda f: lambda v: f[1] * v)(np.array([0.0, factor])),
    "closed-over JAX scalar": lambda factor: (lambda f: lambda v: f.astype(v.dtype) * v)(jnp.asarray(factor)),
    "closed-over JAX array": lambda factor: (lambda f: lambda v: f[1].astype(v.dtype) * v)(jnp.asarray([0.0, factor])),
    "default argument": with_default,
    "functools.partial": lambda factor: functools.partial(lambda f, v: f * v, factor),
    "method of an object": lambda factor: Model(factor).cost,
    "callable object": lambda factor: type("Cost", (), {"__call__": lambda self, v: factor * v})(),
    "nested jit": nested_jit,
    "nested jit of an array": lambda factor: nested_jit(np.array(factor)),
    "static argument": lambda factor: lambda v: jax.jit(lambda f, u: f * u, static_argnums=0)(factor, v),
    "custom_jvp": custom_value,
    "custom_jvp's rule": custom_rule,
    "custom_vjp's rule": custom_vjp_rule,
    "a loop's body": in_a_loop,
    "a branch": in_a_branch,
    "a shape": lambda factor: lambda v: jnp.sum(jnp.ones(int(factor), v.dtype)) * v,
    "a power": lambda factor: lambda v: v**factor * (4.0 / (2 ** (factor - 1) * factor) * factor / 4.0),
    "checkpoint": lambda factor: jax.checkpoint(lambda v: factor * v),
}


@pytest.mark.parametrize("way", WAYS)
def test_costs_that_differ_only_in_a_constant_are_never_confused(way: str) -> None:
    make = WAYS[way]
    for factor in (2.0, 3.0, 2.0):
        assert slope(make(factor)) == pytest.approx(factor, rel=1e-9)


def test_a_constant_that_changes_inside_one_object_is_seen() -> None:
    model = Model(2.0)
    assert slope(model.cost) == pytest.approx(2.0, rel=1e-9)
    model.factor = 3.0
    assert slope(model.cost) == pytest.approx(3.0, rel=1e-9)


def test_signed_zeros_integers_and_truth_values_are_told_apart() -> None:
    def key(cost: Any) -> Any:
        return program.trace(cost, jnp.ones(())).code

    constants = [0.0, -0.0, 1.0, 2.0]
    codes = [key(lambda v, c=c: v * c + jnp.arctan2(c, v)) for c in constants]
    assert len(set(codes)) == len(constants)
    assert key(lambda v: jnp.where(True, v, v)) != key(lambda v: jnp.where(1 > 2, v, v))
    assert key(lambda v: v * 2.0) == key(lambda u: u * 2.0)


def test_a_rule_in_a_library_function_does_not_hinder_finding_the_program(compilations: Any) -> None:
    def run() -> Any:
        return jaxgd.minimize(lambda v: jnp.sum(jax.nn.relu(v) + jax.nn.softplus(-v)), np.ones(3), method=DESCENT, max_steps=2)

    run()
    with compilations() as compiled:
        run()
    assert not compiled


@pytest.mark.slow
def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "_CACHE_SIZE", 6)
    for power in range(2, 12):
        slope(lambda v, power=power: v**power)
    assert len(program._programs) <= 6
    assert slope(lambda v: v**2) == pytest.approx(4.0)


@pytest.mark.slow
def test_memory_stays_flat_over_fresh_lambdas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_SIZE", 4)

    def run(size: int) -> None:
        scale = jnp.ones(size)
        jaxgd.minimize(lambda v: jnp.sum(scale[:3] * v**2), np.ones(3), method=DESCENT, max_steps=1)

    def live() -> int:
        gc.collect()
        return sum(isinstance(item, program.Traced | program._Code) for item in gc.get_objects()) + len(jax.live_arrays())

    for size in (3, 100_000):  # small enough to be remembered, and too large
        for _ in range(8):
            run(size)
        before = live()
        for _ in range(40):
            run(size)
        assert live() <= before


def test_a_program_does_not_keep_the_data_that_a_cost_closed_over() -> None:
    def run(large: Any) -> Any:
        jaxgd.minimize(lambda v: jnp.mean((large - v) ** 2), 0.0, method=DESCENT, max_steps=1)
        return weakref.ref(large)

    gone = run(jnp.arange(100_000.0))
    gc.collect()
    assert gone() is None


@pytest.mark.slow
def test_the_result_is_the_same_inside_an_outer_program() -> None:
    def run(start: Any, rate: Any) -> jaxgd.Result:
        return jaxgd.minimize(lambda v: (v - 1) ** 2, start, method=jaxgd.GradientDescent(rate), max_steps=200, history="cost")

    starts = jnp.asarray([0.0, 2.0, 5.0])
    rates = jnp.asarray([0.1, 0.2, 0.3])
    lanes = jax.vmap(run)(starts, rates)
    alone = [run(start, rate) for start, rate in zip(starts, rates, strict=True)]
    np.testing.assert_allclose(lanes.params, [one.params for one in alone], rtol=1e-6)
    assert [one.n_steps for one in alone] == lanes.n_steps.tolist()
    assert [one.status for one in alone] == lanes.status.tolist()
    assert lanes.converged.tolist() == [True, True, True]
    for lane, one in enumerate(alone):
        assert one.history is not None and lanes.history is not None
        np.testing.assert_allclose(lanes.history.cost[lane, : one.n_steps + 1], one.history.cost, rtol=1e-5, atol=1e-12)
    inside = jax.jit(run)(starts[0], rates[0])
    assert int(inside.n_steps) == alone[0].n_steps and inside.status is alone[0].status
    fits = jax.vmap(lambda key: jaxgd.fit(line, [0.5, 0.5], (X, Y), batch_size=4, n_epochs=3, key=key, method=DESCENT).params)(
        jax.random.split(jax.random.key(0), 3)
    )
    for lane, key in enumerate(jax.random.split(jax.random.key(0), 3)):
        one = jaxgd.fit(line, [0.5, 0.5], (X, Y), batch_size=4, n_epochs=3, key=key, method=DESCENT)
        np.testing.assert_allclose(fits[lane], one.params, rtol=1e-5)


def test_a_history_inside_an_outer_program_is_as_long_as_the_longest_run() -> None:
    def costs(start: Any) -> Any:
        result = jaxgd.minimize(
            lambda v: v**2,
            start,
            method=jaxgd.GradientDescent(0.25),
            max_steps=3,
            stop=jaxgd.stopping.UpdateTolerance(0.1),
            history="cost",
        )
        assert result.history is not None
        return result.history.cost

    np.testing.assert_allclose(jax.jit(costs)(1.0), [1, 0.25, 0.0625, 0.015625])
    np.testing.assert_allclose(
        jax.vmap(costs)(jnp.asarray([1.0, 0.25])), [[1, 0.25, 0.0625, 0.015625], [0.0625, 0.015625, np.nan, np.nan]]
    )

    def epochs(start: Any) -> Any:
        result = jaxgd.fit(line, start, (X, Y), batch_size=6, n_epochs=4, method=DESCENT, history="cost")
        assert result.history is not None
        return result.history.cost

    alone = epochs(jnp.asarray([0.5, 0.5]))
    assert alone.shape == (5,)
    np.testing.assert_allclose(jax.jit(epochs)(jnp.asarray([0.5, 0.5])), alone, rtol=1e-5)


def test_a_jitted_cost_is_found_again_too(compilations: Any) -> None:
    arrays = [jnp.asarray(np.arange(3.0) + k) for k in range(3)]
    runs = []
    for k, array in enumerate(arrays):
        with compilations() as compiled:
            runs.append(
                jaxgd.minimize(
                    jax.jit(lambda v, a=array: jnp.sum((v - a.astype(v.dtype)) ** 2)), np.zeros(3), method=DESCENT, max_steps=2
                ).params
            )
        assert k == 0 or not compiled
    assert len({tuple(np.asarray(run)) for run in runs}) == 3


def test_a_method_and_a_schedule_of_ones_own() -> None:
    @jaxgd.pytree
    class Halving(jaxgd.schedules.Schedule):
        first: Any

        def rate(self, time: Any) -> Any:
            return self.first * 0.5**time

    @jaxgd.pytree
    class Signs:
        """A method in the convention of Optax: steps of a fixed length."""

        length: Any

        def init(self, params: Any) -> Any:
            return ()

        def update(self, gradient: Any, state: Any, params: Any = None) -> Any:
            return jax.tree.map(lambda g: -self.length * jnp.sign(g), gradient), state

    result = jaxgd.minimize(lambda v: -v, 0.0, method=jaxgd.GradientDescent(Halving(1.0)), max_steps=5, stop=(), dtype="float64")
    assert float(result.params) == 1.9375
    signs = jaxgd.minimize(lambda v: (v - 1) ** 2, 0.0, method=Signs(0.25), max_steps=4, dtype="float64")
    assert float(signs.params) == 1.0 and signs.converged


def test_operations_are_counted() -> None:
    matrix, other, vector = jnp.ones((30, 40)), jnp.ones((40, 50)), jnp.ones(40)

    def count(function: Any, *arguments: Any) -> float:
        return program.trace(function, *arguments).operations

    assert count(lambda v: 2 * v + 1, vector) == 2 * 40
    assert count(lambda a, v: a @ v, matrix, vector) == 30 * 40
    assert count(lambda a, b: a @ b, matrix, other) == 40 * 50  # a library's function
    assert count(lambda v: jax.lax.scan(lambda c, x: (c * x, None), jnp.ones(()), v)[0], vector) == 40
    assert count(lambda v: jax.lax.while_loop(lambda c: c < 9, lambda c: c + v[0], 0.0), vector) == np.inf


def test_the_evaluation_at_the_end_is_compiled_quickly_where_it_is_short() -> None:
    def cost(x: Any, rows: Any) -> Any:
        return jnp.mean(jnp.cosh(x - rows))

    found = []
    for n_rows in (50, 2**18):
        program._programs.clear()
        jaxgd.fit(cost, 0.0, np.linspace(0, 1, n_rows), batch_size=5, n_epochs=1, shuffle=False, method=DESCENT)
        programs: dict[Any, Any] = dict(program._programs)
        found += [name[-1] for name, one in programs.items() if one.function.__name__ == "_evaluated"]
    assert found == [jax.default_backend() == "cpu", False]


def test_the_classes_of_jaxprs_are_those_that_jax_shows() -> None:
    shown = importlib.import_module("jax.extend.core")
    found = jaxprs.core()
    assert all(getattr(found, name) is getattr(shown, name) for name in ("ClosedJaxpr", "Jaxpr", "Var", "Literal", "Primitive"))


@pytest.mark.slow
def test_a_first_call_waits_for_no_import_of_rarely_used_parts_of_jax(tmp_path: Path) -> None:
    fit = "jaxgd.fit(lambda p, d: ((d - p) ** 2).mean(), 0.0, numpy.arange(9.0), batch_size=4, n_epochs=2, key=0)"
    calls = f"jaxgd.cache({str(tmp_path)!r}); {fit}; jaxgd.minimize(lambda x: x**2 * jax.numpy.sin(x), 1.0)"
    program = f"import sys, jax, numpy, jaxgd; {calls}; sys.exit('jax.extend' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
