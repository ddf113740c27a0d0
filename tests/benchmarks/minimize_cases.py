"""All rows at once: hand-written loops, and the solvers of SciPy, Optax and Optimistix."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxgd
from tests.benchmarks.case import Bar, available, case
from tests.benchmarks.solvers import optax_solver, optimistix_solver, rosenbrock, scipy_solver


@case(Bar("hand-written scan", 1 / 1.1, 1))
def adam_rosenbrock(quick: bool) -> dict[str, Any]:
    """2000 Adam steps on Rosenbrock-10"""
    n_steps = 20 if quick else 2000
    start = jnp.full(10, -1.0)

    @jax.jit
    def scan(x: jax.Array) -> jax.Array:
        def step(carry: Any, _: None) -> Any:
            x, first, second, count = carry
            gradient = jax.grad(rosenbrock)(x)
            count = count + 1
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            size = jnp.sqrt(second / (1 - 0.999**count)) + 1e-8
            return (x - 0.01 * first / (1 - 0.9**count) / size, first, second, count), None

        return lax.scan(step, (x, jnp.zeros(10), jnp.zeros(10), jnp.zeros(())), length=n_steps)[0][0]

    method = jaxgd.Adam(0.01)
    return {
        "jaxgd": lambda: jaxgd.minimize(rosenbrock, start, method=method, stop=(), max_steps=n_steps).params,
        "hand-written scan": lambda: scan(start),
    }


@case(Bar("jaxgd", 50, None, "first/later"))
def fresh_lambdas(quick: bool) -> dict[str, Any]:
    """minimize() with a fresh lambda and a fresh array each"""
    start, generator = np.zeros(10, np.float32), np.random.default_rng(0)

    def run() -> Any:
        shift = generator.normal(size=10).astype(np.float32)
        return jaxgd.minimize(lambda x: jnp.sum(jnp.cosh(x - shift)), start).params

    return {"jaxgd": run}


@case(Bar("SciPy L-BFGS-B", 2))
def rosenbrock_10000(quick: bool) -> dict[str, Any]:
    """Rosenbrock's function of pairs, 10 000 variables, float64"""
    start = np.tile([-1.2, 1.0], 50 if quick else 5000)

    def pairs(x: Any) -> Any:
        return jnp.sum(100 * (x[1::2] - x[::2] ** 2) ** 2 + (1 - x[::2]) ** 2)

    return {
        "jaxgd": lambda: jaxgd.minimize(pairs, start, method=jaxgd.LBFGS(), dtype="float64").params,
        "SciPy L-BFGS-B": scipy_solver(pairs, start),
    }


@case(Bar("SciPy L-BFGS-B", 5), Bar("Optimistix BFGS", 1, None, "first"))
def rosenbrock_10(quick: bool) -> dict[str, Any]:
    """minimum of Rosenbrock-10 to the solvers' own tolerance, float64"""
    start = np.full(10, -1.0)
    inner = jax.jit(lambda x: jaxgd.minimize(rosenbrock, x).params)

    def inside() -> Any:
        with jax.enable_x64(True):
            return inner(start)

    return {
        "jaxgd": lambda: jaxgd.minimize(rosenbrock, start, dtype="float64").params,
        "jaxgd inside jax.jit": inside,
        "SciPy L-BFGS-B": scipy_solver(rosenbrock, start),
        "Optax L-BFGS": optax_solver(rosenbrock, start),
        **({"Optimistix BFGS": optimistix_solver(rosenbrock, start)} if available("optimistix") else {}),
    }
