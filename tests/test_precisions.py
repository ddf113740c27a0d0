"""A function that closes over arrays is the same in either precision, in any order, also after they have changed in place."""

import dataclasses
import functools
import itertools
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd

THIRDS = np.arange(4.0) / 3
EPS = {"float32": 2.0**-23, "float64": 2.0**-52}
ORDERS = [("float32", "float64", "float32"), ("float64", "float32", "float64")]
DESCENT = jaxgd.GradientDescent(1.0)


class Table(NamedTuple):
    target: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    target: Any


class Model:
    """A cost that is a method."""

    shared: Any = None

    def __init__(self, target: Any) -> None:
        self.parts = {"target": [target]}

    def cost(self, v: Any) -> Any:
        return distance(v, self.parts["target"][0])

    def of_class(self, v: Any) -> Any:
        return distance(v, type(self).shared)


def distance(v: Any, target: Any) -> Any:
    return jnp.sum((v - target) ** 2) / 2


def of_global(_: Any) -> Any:
    return lambda v: distance(v, THIRDS)


def of_module(target: Any) -> Any:
    module = types.ModuleType("measurements")
    module.target = target  # type: ignore[attr-defined]
    scope = {"measurements": module, "distance": distance}
    exec("def cost(v): return distance(v, measurements.target)", scope)
    return scope["cost"]


def of_class(target: Any) -> Any:
    Model.shared = target
    return Model(None).of_class


def of_default(target: Any) -> Any:
    return lambda v, *, target=target: distance(v, target)


def in_scan(target: Any) -> Any:
    return lambda v: distance(*jax.lax.scan(lambda u, _: (u + 0 * target, target), v, None, length=1)[0:1], target)


def with_rule(target: Any) -> Any:
    @jax.custom_jvp
    def residual(v: Any) -> Any:
        return v - target

    residual.defjvps(lambda tangent, _, v: tangent + 0 * target)
    return lambda v: jnp.sum(residual(v) ** 2) / 2


def of_two_helpers(target: Any) -> Any:
    inner = jax.jit(lambda v: v - target)
    outer = jax.jit(lambda v, power: inner(v) ** power, static_argnums=1)
    return lambda v: jnp.sum(outer(v, 2)) / 2


WAYS: dict[str, Callable[[Any], Any]] = {
    "closed over": lambda target: lambda v: distance(v, target),
    "made an array of JAX": lambda target: lambda v: distance(v, jnp.asarray(target)),
    "global": of_global,
    "module": of_module,
    "class": of_class,
    "default": of_default,
    "partial": lambda target: functools.partial(lambda t, v: distance(v, t), target),
    "method": lambda target: Model(target).cost,
    "named tuple": lambda target: (lambda table: lambda v: distance(v, table.target))(Table(target)),
    "slots": lambda target: (lambda table: lambda v: distance(v, table.target))(Frozen(target)),
    "jitted": lambda target: jax.jit(lambda v: distance(v, target)),
    "jitted helpers": of_two_helpers,
    "vectorised helper": lambda target: lambda v: jnp.sum(jax.vmap(lambda u: jnp.mean((u - target) ** 2))(v[None])) * 2,
    "scan": in_scan,
    "checkpoint": lambda target: jax.checkpoint(lambda v: distance(v, target)),
    "custom rule": with_rule,
    "cache": lambda target: (lambda load: lambda v: distance(v, load()))(functools.cache(lambda: target)),
}


def end(cost: Any, dtype: str, start: Any = None, method: Any = DESCENT, **options: Any) -> np.ndarray:
    """Where a step of descent ends, which is the target."""
    start = np.zeros(4) if start is None else start
    return np.asarray(
        jaxgd.minimize(cost, start, **{"method": method, "max_steps": 1, "dtype": dtype, "stop": ()} | options).params
    )


@pytest.mark.sweep(keep=5)
@pytest.mark.parametrize("way", WAYS)
def test_a_closed_over_array_has_the_precision_of_the_run(way: str) -> None:
    for order in ORDERS:
        target = THIRDS if way == "global" else THIRDS.copy()
        cost = WAYS[way](target)
        kept = jax.jit(lambda target=target: target + 1)
        kept()  # whatever others did with the array before
        for dtype, jit in itertools.product(order, (True, False)):
            found = end(cost, dtype, jit=jit)
            assert found.dtype == dtype
            np.testing.assert_allclose(found, THIRDS, rtol=8 * EPS[dtype])


def test_a_change_in_place_is_seen_in_either_precision() -> None:
    target = np.zeros(4)
    helper = jax.jit(lambda: target + 1)
    for cost in (lambda v: distance(v, target), lambda v: distance(v, jnp.asarray(target)), Model(target).cost):
        for value, dtype in itertools.product((1 / 3, 2 / 3), ("float32", "float64")):
            target[:] = value
            helper()
            np.testing.assert_allclose(end(cost, dtype), target, rtol=8 * EPS[dtype])


def test_what_a_run_is_given_has_its_precision_whatever_jax_knows_of_it() -> None:
    target = THIRDS.copy()
    others = jax.jit(lambda: target + 1)
    for order in ORDERS:
        for dtype in order:
            others()
            with jax.enable_x64(dtype != "float64"):
                found = [end(distance_of_data, dtype, data=target), end(lambda v: 0 * jnp.sum(v), dtype, start=target)]
                found += [end(lambda v: distance(v, 2 * target), dtype, bounds=(None, target))]
            for one in found:
                assert one.dtype == dtype
                np.testing.assert_allclose(one, THIRDS, rtol=8 * EPS[dtype])


def distance_of_data(v: Any, target: Any) -> Any:
    return distance(v, target)


@pytest.mark.filterwarnings("error")
def test_an_array_of_jax_in_64_bits_serves_in_32() -> None:
    with jax.enable_x64(True):
        target = jnp.asarray(THIRDS)
        for dtype in ("float64", "float32", "float64"):
            np.testing.assert_allclose(end(lambda v: distance(v, target.astype(v.dtype)), dtype), THIRDS, rtol=8 * EPS[dtype])
            np.testing.assert_allclose(end(lambda v: distance(v, target), dtype), THIRDS, rtol=8 * EPS[dtype])


@jaxgd.pytree
class Steps:
    """A method in the convention of Optax whose steps are in a global array."""

    def init(self, params: Any) -> Any:
        return jnp.zeros((), jnp.int32)

    def update(self, gradient: Any, state: Any, params: Any = None) -> Any:
        return jax.tree.map(lambda g: jnp.asarray(THIRDS, g.dtype) - jnp.asarray(THIRDS[0], g.dtype) + 0 * g, gradient), state + 1


def test_methods_schedules_starts_and_residuals_see_arrays_in_the_precision_of_the_run() -> None:
    rates = THIRDS.copy()
    flat = lambda v: jnp.sum(0 * v)  # noqa: E731
    for order in ORDERS:
        for dtype in order:
            eps = EPS[dtype]
            schedule = jaxgd.GradientDescent(lambda step: jnp.asarray(rates)[step + 1])
            found = end(lambda v: -jnp.sum(v), dtype, method=schedule, start=np.zeros(1))
            np.testing.assert_allclose(found, rates[1], rtol=8 * eps)
            np.testing.assert_allclose(end(flat, dtype, method=Steps()), THIRDS, rtol=8 * eps)
            np.testing.assert_allclose(end(flat, dtype, start=lambda key: jnp.asarray(rates), key=0), rates, rtol=8 * eps)
            jacobian = jaxgd.covariance(None, 1.0, residuals=lambda v: v * jnp.asarray(rates), scale=0.5, dtype=dtype)
            np.testing.assert_allclose(jacobian.matrix, 1 / np.sum(rates**2), rtol=8 * eps)


def test_aux_and_validation_have_the_precision_of_the_run() -> None:
    target, rows = THIRDS.copy(), np.zeros((4, 1))
    for dtype in ("float64", "float32", "float64"):
        eps = EPS[dtype]
        pair = jaxgd.minimize(lambda v: (0 * v, jnp.asarray(target)), 1.0, method=DESCENT, max_steps=1, has_aux=True, dtype=dtype)
        np.testing.assert_allclose(pair.aux, target, rtol=eps)
        fit = jaxgd.fit(
            lambda v, b: jnp.sum((v - jnp.asarray(target)) ** 2) / 2 + 0 * jnp.sum(b),
            np.zeros(4),
            rows,
            batch_size=4,
            n_epochs=1,
            method=jaxgd.GradientDescent(0.5),
            validation=rows,
            history="cost",
            dtype=dtype,
        )
        assert fit.history is not None
        np.testing.assert_allclose(fit.history.validation_cost, [np.sum(target**2) / 2, np.sum(target**2) / 8], rtol=8 * eps)


def test_what_was_shown_in_place_of_arrays_is_taken_away_again() -> None:
    target, model, table = THIRDS.copy(), Model(THIRDS), {"target": [THIRDS.copy()]}
    inner = table["target"][0]

    def cost(v: Any) -> Any:
        seen.append((target, table["target"][0]))
        return distance(v, target) + 0 * distance(v, table["target"][0]) + 0 * model.cost(v)

    seen: list[Any] = []
    end(cost, "float64")
    assert cost.__closure__ is not None and any(cell.cell_contents is target for cell in cost.__closure__)
    assert table["target"][0] is inner and model.parts["target"][0] is THIRDS
    assert all(one is not target and np.shares_memory(one, target) and np.shares_memory(two, inner) for one, two in seen)

    mine = id(inner)

    def broken(v: Any) -> Any:
        raise RuntimeError(f"{id(table['target'][0]) == mine}")

    with pytest.raises(RuntimeError, match="False"):
        end(broken, "float64")
    assert table["target"][0] is inner


def test_an_array_that_nothing_can_be_shown_in_place_of_is_told() -> None:
    @functools.lru_cache(4)
    def load() -> np.ndarray:
        return np.arange(4.0) / 3

    known = jax.make_jaxpr(lambda: jnp.sin(load()))()  # in 32 bits, and kept
    with pytest.raises(TypeError, match=r"^cost: it can't be traced: numbers of 32 and of 64 bits meet .*pass as data"):
        end(lambda v: distance(v, load()), "float64")
    del known
