"""A cost that has not changed is not traced again, and one that has changed is, wherever the change lies."""

import functools
import math
from typing import Any

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
    return lambda v: jnp.sum(ours * jax.nn.softplus(v) * math.pi) + sum([jnp.sum(theirs.astype(v.dtype) * v) for _ in range(2)])


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
