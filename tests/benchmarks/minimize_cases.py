"""All rows at once: hand-written loops, and the solvers of SciPy, Optax and Optimistix."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxgd
from tests.benchmarks.case import Bar, available, case


def rosenbrock(x: Any) -> Any:
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


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


@case()
def rosenbrock_10(quick: bool) -> dict[str, Any]:
    """minimum of Rosenbrock-10 to the solvers' own tolerance, float64"""
    start = np.full(10, -1.0)

    def scipy() -> Any:
        from scipy.optimize import minimize

        with jax.enable_x64(True):
            evaluate = jax.jit(jax.value_and_grad(rosenbrock))

        def run() -> Any:
            with jax.enable_x64(True):
                return minimize(lambda x: [np.asarray(part) for part in evaluate(x)], start, jac=True, method="L-BFGS-B").x

        return run

    def optax() -> Any:
        import optax

        solver = optax.lbfgs()

        @jax.jit
        def solve(x: jax.Array) -> jax.Array:
            evaluate = optax.value_and_grad_from_state(rosenbrock)

            def step(carry: Any) -> Any:
                x, state = carry
                value, gradient = evaluate(x, state=state)
                updates, state = solver.update(gradient, state, x, value=value, grad=gradient, value_fn=rosenbrock)
                return optax.apply_updates(x, updates), state

            def going(carry: Any) -> Any:
                state = carry[1]
                return (optax.tree.get(state, "count") < 1000) & (
                    (optax.tree.get(state, "count") == 0) | (optax.tree.norm(optax.tree.get(state, "grad")) > 1e-8)
                )

            return lax.while_loop(going, step, (x, solver.init(x)))[0]

        def run() -> Any:
            with jax.enable_x64(True):
                return solve(jnp.asarray(start))

        return run

    def optimistix() -> Any:
        import optimistix  # type: ignore[import-not-found]

        solver = optimistix.BFGS(rtol=1e-8, atol=1e-8)

        def run() -> Any:
            with jax.enable_x64(True):
                return optimistix.minimise(lambda x, _: rosenbrock(x), solver, jnp.asarray(start), max_steps=1000).value

        return run

    return {
        "jaxgd": lambda: jaxgd.minimize(rosenbrock, start, dtype="float64").params,
        "SciPy L-BFGS-B": scipy(),
        "Optax L-BFGS": optax(),
        **({"Optimistix BFGS": optimistix()} if available("optimistix") else {}),
    }
