"""A number computed from those that a function closes over is no new program, and one that shapes the program is never confused."""

import dataclasses
import functools
import gc
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxgd
from jaxgd._compile import memory, program

NUMBERS = (0.0713, 0.37, 1.0, 0.37, 0.25, 11.25)
STEP = jaxgd.GradientDescent(0.5)
X = np.arange(12, dtype=np.float32)


@dataclasses.dataclass
class Settings:
    strength: float


class Model:
    """A cost that is a method, its number an attribute of an attribute."""

    __slots__ = ("settings",)

    def __init__(self, strength: float) -> None:
        self.settings = Settings(strength)

    def cost(self, v: Any) -> Any:
        return to(v, 2 * self.settings.strength)


def to(v: Any, target: Any) -> Any:
    return jnp.sum((v - target) ** 2)


def by_global(a: float) -> Any:
    scope = {"A": a, "to": to}
    exec("def cost(v): return to(v, A + A)", scope)
    return scope["cost"]


def in_scan(a: float) -> Any:
    return lambda v: jax.lax.scan(lambda total, u: (total + (u - 2 * a) ** 2, None), jnp.zeros((), v.dtype), v)[0]


def in_a_loop(a: float) -> Any:
    return lambda v: jax.lax.fori_loop(0, 3, lambda i, total: total + (v[i] - 2 * a) ** 2, jnp.zeros((), v.dtype))


def in_a_branch(a: float) -> Any:
    return lambda v: jax.lax.cond(v[0] > 1e3 + a, lambda: jnp.sum(v), lambda: to(v, 2 * a))


def in_a_helper(a: float) -> Any:
    helper = jax.jit(lambda v, target: to(v, target) + to(v, 2 * a))
    return lambda v: helper(v, 2 * a) / 2


def by_rule(a: float) -> Any:
    @jax.custom_vjp
    def cost(v: Any) -> Any:
        return to(v, 2 * a)

    cost.defvjp(lambda v: (cost(v), v), lambda v, g: (2 * g * (v - 2 * a),))
    return cost


COSTS: dict[str, Callable[[float], Any]] = {
    "product": lambda a: lambda v: to(v, 2 * a),
    "function of math": lambda a: lambda v: to(v, math.sqrt(4 * a * a)),
    "function of NumPy": lambda a: lambda v: to(v, np.sqrt(np.square(np.float32(2 * a)))),
    "mean of an array": lambda a: (lambda array: lambda v: to(v, float(array.mean())))(np.array([a, 3 * a])),
    "sum of a list": lambda a: (lambda some: lambda v: to(v, sum(some)))([a / 2, a, a / 2]),
    "attribute": lambda a: Model(a).cost,
    "partial": lambda a: functools.partial(lambda a, v: to(v, 2 * a), a),
    "default": lambda a: lambda v, a=a: to(v, a + a),
    "global": by_global,
    "integer": lambda a: (lambda n: lambda v: to(v, 2 * (n / 1000)))(round(1000 * a)),
    "full array": lambda a: lambda v: to(v, jnp.full(3, 2 * a, v.dtype)),
    "scan": in_scan,
    "loop": in_a_loop,
    "branch": in_a_branch,
    "jitted helper": in_a_helper,
    "jitted helper of an array": lambda a: (lambda array: lambda v: jax.jit(lambda v: to(v, 2 * array))(v))(
        np.full(3, a, np.float32)
    ),
    "checkpoint": lambda a: lambda v: to(jax.checkpoint(lambda v: jnp.sinh((v - 2 * a) / 30) + 2 * a)(v), 2 * a) * 900,
    "rule": by_rule,
    "exponent": lambda a: lambda v: to(v, 2 * a) + 0 * jnp.sum((jnp.square(v - 2 * a) + 1) ** (a / math.pi)),
}


@pytest.mark.sweep(keep=5)
@pytest.mark.parametrize("way", COSTS)
def test_a_cost_with_a_derived_number_compiles_once(way: str, compilations: Any) -> None:
    def run(a: float) -> Any:
        return jaxgd.minimize(COSTS[way](a), np.zeros(3, np.float32), method=STEP, max_steps=30).params

    run(0.21)
    with compilations() as compiled:
        for a in NUMBERS[:1] if way == "exponent" else NUMBERS[:2] if way == "integer" else NUMBERS:
            np.testing.assert_allclose(run(a), 2 * np.float32(round(a, 3) if way == "integer" else a), rtol=1e-5)
    assert not compiled


class Halving:
    """A schedule that is an object."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, step: Any) -> Any:
        return self.rate / (1 + self.rate * step.astype(np.float32))


def noisy(a: float) -> Any:
    def update(gradient: Any, key: Any, params: Any = None) -> Any:
        key, own = jax.random.split(key)
        return jax.tree.map(lambda g: -0.01 * (g + 2 * a * jax.random.normal(own, g.shape, g.dtype)), gradient), key

    pair: Any = optax.GradientTransformation
    return pair(lambda params: jax.random.key(3), update)


METHODS: dict[str, Callable[[float], Any]] = {
    "lambda": lambda a: jaxgd.Adam(lambda step: 0.1 / (1 + 2 * a * step.astype(np.float32))),
    "integer in a lambda": lambda a: (lambda n: jaxgd.Adam(lambda step: 0.1 / (1 + step / np.int32(2 * n))))(round(100 * a)),
    "object": lambda a: jaxgd.Adam(Halving(a / 10)),
    "schedule of Optax": lambda a: jaxgd.GradientDescent(optax.polynomial_schedule(a / 100, 0.0, 1, 20)),
    "SGD": lambda a: optax.sgd(a / 100, momentum=0.1),
    "chain": lambda a: optax.chain(optax.clip_by_global_norm(a), optax.add_decayed_weights(2 * a), optax.sgd(0.01)),
    "Lion": lambda a: optax.lion(a / 10),
    "a state with a key": noisy,
    "of one's own": lambda a: optax.stateless(lambda update, params: jax.tree.map(lambda g: -0.02 * a * g, update)),
}


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("way", METHODS)
def test_a_method_made_anew_compiles_once(way: str, compilations: Any) -> None:
    def run(a: float, jit: bool = True) -> Any:
        cost = lambda v, rows: jnp.mean((rows - v[0] - 2) ** 2)  # noqa: E731
        return jaxgd.fit(cost, np.zeros(1, np.float32), X, batch_size=5, n_epochs=4, key=0, method=METHODS[way](a), jit=jit).params

    run(0.21)
    with compilations() as compiled:
        ends = [np.asarray(run(a)) for a in NUMBERS]
    assert not compiled
    np.testing.assert_array_equal(ends[1], ends[3])
    assert len({end.tobytes() for end in ends}) == 5
    for a, end in list(zip(NUMBERS, ends, strict=True))[-1:]:
        np.testing.assert_allclose(end, run(a, jit=False), rtol=2e-6)


def power(n: int) -> Any:
    return lambda v: jnp.sum(v ** (n + 1)) / (n + 1)


def axis(n: int) -> Any:
    return lambda v: jnp.sum(jnp.max(jnp.outer(v, jnp.asarray([1, 2, 4], v.dtype)), axis=n % 2))


def length(n: int) -> Any:
    return lambda v: jax.lax.fori_loop(0, 2 * n, lambda _, total: total + jnp.sum(v), jnp.zeros((), v.dtype))


def shape(n: int) -> Any:
    return lambda v: jnp.sum(jnp.ones((n, 3), v.dtype) * v)


def branch(n: int) -> Any:
    return lambda v: 3 * jnp.sum(v) if n / 2 > 1 else 5 * jnp.sum(v)


def place(n: int) -> Any:
    return lambda v: v[n % 3] * jnp.asarray(2, v.dtype)


def unrolled(n: int) -> Any:
    return lambda v: functools.reduce(lambda total, k: total + k * jnp.sum(v), range(n), jnp.zeros((), v.dtype))


def at_least(n: int) -> Any:
    return lambda v: jnp.sum(v) * max(n / 2, 1.25)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("make", [power, axis, length, shape, branch, place, unrolled, at_least])
def test_a_constant_that_shapes_the_program_is_not_confused(make: Any) -> None:
    start = np.array([1.5, 1.25, 1.75], np.float32)
    for n in (1, 2, 3, 4, 2, 1):
        result = jaxgd.minimize(make(n), start, method=jaxgd.GradientDescent(2.0**-10), max_steps=1, stop=(), dtype="float64")
        with jax.enable_x64(True):
            gradient = jax.grad(make(n))(jnp.asarray(start, jnp.float64))
        np.testing.assert_allclose((start - result.params) * 2**10, gradient, rtol=1e-9)


@pytest.mark.slow
def test_the_bits_do_not_depend_on_the_calls_before() -> None:
    def run(a: float) -> bytes:
        cost = lambda v, rows: jnp.mean((rows * v[0] - v[1] / (3 * a)) ** 2) + jnp.sum(v**2) * max(a, 0.3) / 7  # noqa: E731
        method = optax.chain(optax.clip(3 * a), optax.sgd(a / 100, momentum=0.3))
        found = jaxgd.fit(cost, np.ones(2, np.float32), X, batch_size=5, n_epochs=4, key=0, method=method)
        return np.asarray(found.params).tobytes()

    def afresh(*numbers: float) -> list[bytes]:
        program._programs.clear()
        memory._made.clear()
        return [run(a) for a in numbers]

    first, second, third = afresh(0.1, 0.3, 0.7)
    assert afresh(0.7, 0.1, 0.3) == [third, first, second]
    assert afresh(0.3, 0.3, 0.1) == [second, second, first]


@pytest.mark.slow
def test_sweeps_covariances_and_many_starts_compile_once_too(compilations: Any) -> None:
    def run(a: float) -> None:
        rates = [0.01, 0.1]
        jaxgd.learning_rate_sweep(
            lambda v, b: jnp.mean((v[0] - 2 * a * b) ** 2), np.zeros(1), X, batch_size=4, n_epochs=2, learning_rates=rates, key=0
        )
        jaxgd.covariance(lambda v: to(v, 3.0) * 2 * a, np.full(3, 3.0, np.float32))
        jaxgd.minimize(lambda v: to(v, 2 * a), jaxgd.normal(3), key=0, n_starts=2, method=STEP, max_steps=5)

    run(0.21)
    with compilations() as compiled:
        for a in (0.3, 1.0):
            run(a)
    assert not compiled


@pytest.mark.slow
def test_memory_stays_flat_over_derived_numbers() -> None:
    def run(k: int) -> None:
        a = 0.1 + k / 1000
        jaxgd.minimize(lambda v: to(v, 2 * a), np.zeros(3, np.float32), method=STEP, max_steps=30)
        jaxgd.minimize(lambda v: to(v, 2), np.zeros(3, np.float32), method=optax.sgd(a / 10), max_steps=3)

    def live() -> tuple[int, int]:
        gc.collect()
        return sum(isinstance(item, program.Program) for item in gc.get_objects()), len(jax.live_arrays())

    for k in range(memory._SIZE):
        run(k)
    before = live()
    for k in range(100, 200):
        run(k)
    assert live()[0] == before[0] and live()[1] <= before[1]


def test_a_number_that_follows_from_others_is_rounded_once() -> None:
    first, second = 1.7e9 + 5.0, 1.7e9 + 2.0
    result = jaxgd.minimize(lambda v: to(v, first - second), np.zeros(3, np.float32), method=STEP)
    np.testing.assert_array_equal(result.params, 3.0)
