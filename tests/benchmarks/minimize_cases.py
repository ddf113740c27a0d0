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


def scipy_solver(cost: Any, start: np.ndarray) -> Any:
    """SciPy's L-BFGS-B with a jitted gradient, in float64."""
    from scipy.optimize import minimize

    with jax.enable_x64(True):
        evaluate = jax.jit(jax.value_and_grad(cost))

    def run(*data: Any) -> Any:
        with jax.enable_x64(True):
            return minimize(lambda x: [np.asarray(part) for part in evaluate(x, *data)], start, jac=True, method="L-BFGS-B").x

    return run


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


@case(Bar("SciPy L-BFGS-B", 20))
def thousand_fits(quick: bool) -> dict[str, Any]:
    """1000 fits of an exponential decay, by jax.vmap of minimize, float64"""
    n_fits, generator, x = (10 if quick else 1000), np.random.default_rng(0), np.linspace(0, 4, 40)
    height, rate, offset = (generator.uniform(low, high, (n_fits, 1)) for low, high in ((1, 5), (0.3, 2), (-1, 1)))
    rows = height * np.exp(-rate * x) + offset + 0.05 * generator.normal(size=(n_fits, 40))
    start = np.array([1.0, 1.0, 0.0])

    def cost(params: Any, y: Any) -> Any:
        return jnp.sum((params[0] * jnp.exp(-params[1] * x.astype(y.dtype)) + params[2] - y) ** 2) / 2

    fits = jax.jit(jax.vmap(lambda y: jaxgd.minimize(cost, start, y).params))
    one = scipy_solver(cost, start)

    def ours() -> Any:
        with jax.enable_x64(True):
            return fits(jnp.asarray(rows))

    return {"jaxgd": ours, "SciPy L-BFGS-B": lambda: [one(y) for y in rows]}


@case(Bar("SciPy L-BFGS-B", 5), Bar("Optimistix BFGS", 1, None, "first"))
def rosenbrock_10(quick: bool) -> dict[str, Any]:
    """minimum of Rosenbrock-10 to the solvers' own tolerance, float64"""
    start = np.full(10, -1.0)

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
        "SciPy L-BFGS-B": scipy_solver(rosenbrock, start),
        "Optax L-BFGS": optax(),
        **({"Optimistix BFGS": optimistix()} if available("optimistix") else {}),
    }
