"""The package's own products of matrices have all bits of their numbers on every device, whatever the products of the cost have."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxgd
from jaxgd._compile import native, within
from jaxgd._compile.jaxprs import all_jaxprs
from tests.test_contracts import METHODS, bowl, name, posed

HIGHEST = lax.Precision.HIGHEST, lax.Precision.HIGHEST
START = {"free": np.array([2.0, -1.0], np.float32), "held": np.array([1.0, 3.0], np.float32), "scale": np.float32(0.5)}


@pytest.fixture(autouse=True)
def no_native_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a product in a native function nothing is left but sums; there are none on other devices than CPUs."""
    for module in (native, within):
        monkeypatch.setattr(module, "is_possible", lambda leaves=(): False)


def precisions(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """The precision of every product of matrices that a function has, with all that it calls."""
    closed = jax.make_jaxpr(function)(*arguments)
    equations = (eqn for jaxpr in all_jaxprs(closed.jaxpr) for eqn in jaxpr.eqns)
    return [eqn.params["precision"] for eqn in equations if eqn.primitive.name == "dot_general"]


@pytest.mark.parametrize("method", METHODS, ids=name)
def test_products_of_methods(method: Any) -> None:
    cost = posed(method, bowl)
    held = precisions(lambda start: jaxgd.minimize(cost, start, method=method, bounds=(-9, 9), max_steps=3).params, START)
    assert set(held) <= {HIGHEST}


PENALTY = jaxgd.L1(0.1)


@pytest.mark.parametrize("method", [jaxgd.InteriorPoint(), jaxgd.AugmentedLagrangian(jaxgd.LBFGS())], ids=name)
def test_products_of_methods_with_constraints(method: Any) -> None:
    def rim(params: Any) -> Any:
        return jnp.sum(params["held"] ** 2) - 4, params["free"] - 0.1

    def run(start: Any) -> Any:
        return jaxgd.minimize(bowl, start, equality=rim, inequality=lambda p: p["scale"], method=method, max_steps=3).params

    found = precisions(run, START)
    assert found and set(found) == {HIGHEST}


def test_products_of_penalties() -> None:
    for method in (None, jaxgd.ProximalGradient(), jaxgd.ProximalNewton()):
        found = precisions(lambda s, m=method: jaxgd.minimize(bowl, s, method=m, penalty=PENALTY, max_steps=3).params, START)
        assert found and set(found) == {HIGHEST}


def implicit(**options: Any) -> Callable[[Any], Any]:
    def minimum(at: Any) -> Any:
        return jaxgd.minimize(lambda x, a: jnp.sum(jnp.cosh(x - a)) + x[0] * x[1], jnp.zeros(3), at, **options).params

    return jax.jacobian(minimum)


@pytest.mark.parametrize(
    "options",
    [{}, {"penalty": PENALTY}, {"equality": lambda x, _: x[0] + x[2]}, {"method": jaxgd.LBFGS()}, {"bounds": (0, 1)}],
    ids=["smooth", "penalty", "equality", "LBFGS", "bounds"],
)
def test_products_of_derivatives(options: Any) -> None:
    found = precisions(implicit(max_steps=3, **options), jnp.ones(3))
    assert found and set(found) == {HIGHEST}


def test_products_of_the_cost_are_as_the_user_has_them() -> None:
    matrix = jnp.eye(3)
    method = jaxgd.GradientDescent(0.1)
    assert set(
        precisions(lambda x: jaxgd.minimize(lambda x: jnp.sum((matrix @ x) ** 2), x, method=method).params, jnp.ones(3))
    ) == {None}
