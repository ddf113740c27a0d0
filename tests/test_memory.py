"""A cost that has not changed is not traced again, and one that has changed is, wherever the change lies."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd

FACTOR: Any = 2.0
LIST = [2.0]


def slope(cost: Any) -> float:
    """The gradient at 1, told from one step."""
    result = jaxgd.minimize(cost, 1.0, method=jaxgd.GradientDescent(2.0**-10), max_steps=1, stop=(), dtype="float64")
    return (1.0 - float(result.params)) * 2**10


def by_global() -> Any:
    return lambda v: FACTOR * v


def test_globals_closures_defaults_and_contents_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    for factor in (2.0, 3.0, 2.0, np.float64(5.0)):
        monkeypatch.setattr(__import__(__name__, fromlist=["FACTOR"]), "FACTOR", factor)
        assert slope(by_global()) == pytest.approx(factor)
        assert slope(lambda v: by_global()(v)) == pytest.approx(factor)
    for factor in (2.0, 3.0):
        LIST[0] = factor
        assert slope(lambda v: LIST[0] * v) == pytest.approx(factor)
        assert slope(functools.partial(lambda f, v: f["a"] * v, {"a": factor})) == pytest.approx(factor)
        assert slope(functools.partial(lambda v, f: f * v, f=factor)) == pytest.approx(factor)


def test_arrays_that_change_in_place_are_seen() -> None:
    array = np.array([2.0, 7.0])
    cost = lambda v: jnp.sum(array[:1] * v)  # noqa: E731
    for factor in (2.0, 3.0, 2.0):
        array[0] = factor
        assert slope(cost) == pytest.approx(factor)
    other = np.array([3.0, 7.0])
    for mine in (array, other):
        assert slope(lambda v, a=mine: jnp.sum(a[:1] * v)) == pytest.approx(mine[0])


def test_an_attribute_of_a_function_and_of_an_object_are_seen() -> None:
    def cost(v: Any) -> Any:
        return cost.factor * v  # type: ignore[attr-defined]

    class Holder:
        factor = 2.0

    holder = Holder()
    for factor in (2.0, 3.0):
        cost.factor = factor  # type: ignore[attr-defined]
        Holder.factor = factor
        assert slope(cost) == pytest.approx(factor)
        assert slope(lambda v: holder.factor * v) == pytest.approx(factor)
        assert slope(lambda v: Holder.factor * v) == pytest.approx(factor)


class Observed(NamedTuple):
    times: np.ndarray
    weight: float


def test_a_named_tuple_of_arrays_may_be_closed_over() -> None:
    for factor in (2.0, 3.0):
        observed = Observed(np.array([factor, 1.0]), 1.0)
        assert slope(lambda v, seen=observed: seen.weight * seen.times[0] * v) == pytest.approx(factor)


def test_a_variable_without_a_value_yet_and_recursion() -> None:
    def power(v: Any, k: int) -> Any:
        return v if k == 0 else v * power(v, k - 1)

    assert slope(lambda v: power(v, 2)) == pytest.approx(3.0)

    def outer() -> Any:
        cost = lambda v: later * v  # noqa: E731
        later = 4.0
        return cost

    assert slope(outer()) == pytest.approx(4.0)


def plain() -> Any:
    return lambda v: jnp.sum((v - 1) ** 2)


def with_arrays(ours: Any = jnp.ones(3), theirs: Any = np.ones(3)) -> Any:  # noqa: B008
    return lambda v: (
        jnp.sum(ours.astype(v.dtype) * jax.nn.softplus(v) * math.pi) + sum([jnp.sum(theirs.astype(v.dtype) * v) for _ in range(2)])
    )


def with_a_jitted_helper(helper: Any = jax.jit(lambda v: v**2)) -> Any:  # noqa: B008
    return lambda v: jnp.sum(helper(v))


@pytest.mark.parametrize("make", [plain, with_arrays, with_a_jitted_helper])
def test_a_cost_that_has_not_changed_is_not_traced_again(make: Any, traces: Any) -> None:
    run = lambda: jaxgd.minimize(make(), np.zeros(3, np.float32), method=jaxgd.GradientDescent(0.1), max_steps=2)  # noqa: E731
    with traces() as first:
        run()
    with traces() as second:
        run()
    assert first and not second


class Shift:
    """A cost that is a method, its number an attribute."""

    def __init__(self, by: float) -> None:
        self.by = by

    def cost(self, v: Any) -> Any:
        return jnp.sum((v - self.by) ** 2)


def shifted(by: float) -> Any:
    return lambda v: jnp.sum((v - by) ** 2)


def shifted_by_default(by: float) -> Any:
    return lambda v, by=by: jnp.sum((v - by) ** 2)


def shifted_by_global(by: float) -> Any:
    globals()["FACTOR"] = by
    return lambda v: jnp.sum((v - FACTOR) ** 2)


WAYS: dict[str, Any] = {
    "closed over": shifted,
    "NumPy scalar": lambda by: shifted(np.float64(by)),  # type: ignore[arg-type]
    "default": shifted_by_default,
    "global": shifted_by_global,
    "partial": lambda by: functools.partial(lambda by, v: jnp.sum((v - by) ** 2), by),
    "method": lambda by: Shift(by).cost,
    "helper": lambda by: (lambda helper: lambda v: helper(v))(shifted(by)),
    "jitted": lambda by: jax.jit(shifted(by)),
    "in where": lambda by: lambda v: jnp.sum(jnp.where(v > 100, v, v - by) ** 2),
}


@pytest.mark.parametrize("way", WAYS)
def test_another_number_in_the_place_of_one_closed_over_compiles_nothing(way: str, compilations: Any) -> None:
    def run(by: float) -> Any:
        return jaxgd.minimize(WAYS[way](by), np.zeros(3), method=jaxgd.GradientDescent(0.5), max_steps=5, dtype="float64").params

    np.testing.assert_array_equal(run(3.25), 3.25)
    with compilations() as compiled:
        np.testing.assert_array_equal([np.asarray(run(by))[0] for by in (7.5, -40.0, 3.25, 1e-3, 11)], [7.5, -40.0, 3.25, 1e-3, 11])
    assert not compiled


def test_exponents_and_equal_numbers_are_told_apart() -> None:
    def cost(a: float, b: float, power: float) -> Any:
        return lambda v: a * v**2 + b * v + 0 * jnp.abs(v) ** power

    for a, b in ((3.0, 3.0), (3.0, 5.0), (5.0, 3.0)):
        assert slope(cost(a, b, 2.5)) == pytest.approx(2 * a + b, rel=1e-9)
    for power in (2.5, 3.5):
        assert slope(lambda v, p=power: v**p) == pytest.approx(power, rel=1e-9)
