"""The solvers of SciPy, Optax and Optimistix as contenders, and a cost for them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def rosenbrock(x: Any) -> Any:
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def scipy_solver(cost: Any, start: np.ndarray) -> Any:
    """SciPy's L-BFGS-B with a jitted gradient, in float64."""
    from scipy.optimize import minimize

    with jax.enable_x64(True):
        evaluate = jax.jit(jax.value_and_grad(cost))

    def run(*data: Any) -> Any:
        with jax.enable_x64(True):
            return minimize(lambda x: [np.asarray(part) for part in evaluate(x, *data)], start, jac=True, method="L-BFGS-B").x

    return run


def optax_solver(cost: Any, start: np.ndarray) -> Any:
    """L-BFGS of Optax in a loop that ends by the gradient, in float64."""
    import optax

    solver = optax.lbfgs()

    @jax.jit
    def solve(x: jax.Array) -> jax.Array:
        evaluate = optax.value_and_grad_from_state(cost)

        def step(carry: Any) -> Any:
            x, state = carry
            value, gradient = evaluate(x, state=state)
            updates, state = solver.update(gradient, state, x, value=value, grad=gradient, value_fn=cost)
            return optax.apply_updates(x, updates), state

        def going(carry: Any) -> Any:
            count, gradient = (optax.tree.get(carry[1], name) for name in ("count", "grad"))
            return (count < 1000) & ((count == 0) | (optax.tree.norm(gradient) > 1e-8))

        return lax.while_loop(going, step, (x, solver.init(x)))[0]

    def run() -> Any:
        with jax.enable_x64(True):
            return solve(jnp.asarray(start))

    return run


def optimistix_solver(cost: Any, start: np.ndarray) -> Any:
    """BFGS of Optimistix, in float64."""
    import optimistix  # type: ignore[import-not-found]

    solver = optimistix.BFGS(rtol=1e-8, atol=1e-8)

    def run() -> Any:
        with jax.enable_x64(True):
            return optimistix.minimise(lambda x, _: cost(x), solver, jnp.asarray(start), max_steps=1000, throw=False).value

    return run
