"""Single calls of all kinds: new costs, costs that are objects, cached programs, least squares, constraints, many fits."""

import itertools
import os
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxgd
from tests.benchmarks.case import Bar, Per, available, case
from tests.benchmarks.solvers import optax_solver, optimistix_solver, rosenbrock, scipy_solver

START = np.full(10, -1.0)
TERMS = (jnp.sin, jnp.cos, jnp.tanh, jnp.arctan, jnp.sinh, jnp.cosh, jnp.exp, jnp.square, jnp.abs, jnp.log1p)


@case(Bar("Optax L-BFGS", 1, None), Bar("Optimistix BFGS", 1, None))
def new_costs(quick: bool) -> dict[str, Any]:
    """a new cost of ten variables in each call, float64"""

    def costs() -> Any:
        for terms in itertools.permutations(TERMS, 3):
            yield lambda x, terms=terms: rosenbrock(x) + sum(jnp.sum(term(x**2 / 9)) for term in terms)

    def each(solve: Any) -> Any:
        new = costs()
        return lambda: solve(next(new))

    return {
        "jaxgd": each(lambda cost: jaxgd.minimize(cost, START, dtype="float64").params),
        "jaxgd, LBFGS": each(lambda cost: jaxgd.minimize(cost, START, method=jaxgd.LBFGS(), dtype="float64").params),
        "Optax L-BFGS": each(lambda cost: optax_solver(cost, START)()),
        **({"Optimistix BFGS": each(lambda cost: optimistix_solver(cost, START)())} if available("optimistix") else {}),
        "SciPy L-BFGS-B": each(lambda cost: scipy_solver(cost, START)()),
    }


class Valley:
    """A cost that is an object, with a method that is one too."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, x: Any) -> Any:
        return rosenbrock(x) * self.scale

    def cost(self, x: Any) -> Any:
        """The same, under a name."""
        return self(x)


@case(Bar("a closure", 0.5, 1, ours="an object"), Bar("a closure", 0.5, 1, ours="640 kB of NumPy"))
def kinds_of_costs(quick: bool) -> dict[str, Any]:
    """Rosenbrock-10 as a cost of several kinds, float64"""
    shift, table = np.zeros(10), np.zeros((8000, 10))
    on_device, valley = jnp.asarray(table), Valley(1.0)

    def with_numpy(x: Any) -> Any:
        return rosenbrock(x + table[0])

    def with_jax(x: Any) -> Any:
        return rosenbrock(x + on_device[0].astype(x.dtype))

    costs: dict[str, Any] = {
        "a closure": lambda x: rosenbrock(x + shift),
        "an object": valley,
        "a method": valley.cost,
        "640 kB of NumPy": with_numpy,
        "640 kB of JAX": with_jax,
        "jax.jit of the former": jax.jit(with_numpy),
    }
    return {name: lambda cost=cost: jaxgd.minimize(cost, START, dtype="float64").params for name, cost in costs.items()}


def kept_programs(process: int) -> Path:
    """The folder for programs that the processes of one run of the benchmarks keep, by the process that starts them."""
    return Path(tempfile.gettempdir()) / f"jaxgd-benchmarks-{process}"


@case(Bar("without", 1.5, 3, "first", ours="jaxgd.cache()"), Bar("without", 1.5, 3, "first", ours="jaxgd.cache(), another cost"))
def cached(quick: bool) -> dict[str, Any]:
    """Rosenbrock-10, float64, in a process whose programs an earlier one has compiled (the first of three had none)"""
    three = list(itertools.permutations(TERMS, 3))[os.getpid() % 720]

    def ours(*, kept: bool, another: bool) -> Any:
        def cost(x: Any) -> Any:
            return rosenbrock(x) + (sum(jnp.sum(term(x**2 / 9)) for term in three) if another else 0)

        def run() -> Any:
            if kept and not quick:  # quick ones share a process
                jaxgd.cache(kept_programs(os.getppid()))
            return jaxgd.minimize(cost, START, dtype="float64").params

        return run

    return {
        "jaxgd.cache()": ours(kept=True, another=False),
        "jaxgd.cache(), another cost": ours(kept=True, another=True),
        "without": ours(kept=False, another=False),
    }


@case(Bar("SciPy lm", 2, 5), Bar("Optimistix LM", 1, None, "first"))
def decay(quick: bool) -> dict[str, Any]:
    """least squares: three parameters of a decay to 40 readings, float64"""
    x = np.linspace(0, 4, 40)
    y = 3 * np.exp(-0.8 * x) + 0.5 + 0.05 * np.random.default_rng(0).normal(size=40)
    start = np.array([1.0, 1.0, 0.0])

    def residuals(p: Any, data: Any) -> Any:
        x, y = data
        return p[0] * jnp.exp(-p[1] * x) + p[2] - y

    def scipy() -> Any:
        from scipy.optimize import least_squares

        with jax.enable_x64(True):
            values = jax.jit(residuals)
            slopes: Any = jax.jit(jax.jacfwd(residuals))

        def run() -> Any:
            with jax.enable_x64(True):
                return least_squares(values, start, slopes, args=((x, y),), method="lm").x

        return run

    def optimistix() -> Any:
        import optimistix  # type: ignore[import-not-found]

        solver = optimistix.LevenbergMarquardt(rtol=1e-8, atol=1e-8)

        def run() -> Any:
            with jax.enable_x64(True):
                data = jnp.asarray(x), jnp.asarray(y)
                return optimistix.least_squares(residuals, solver, jnp.asarray(start), data).value

        return run

    return {
        "jaxgd": lambda: jaxgd.least_squares(residuals, start, (x, y), dtype="float64").params,
        "SciPy lm": scipy(),
        **({"Optimistix LM": optimistix()} if available("optimistix") else {}),
    }


@case(Bar("SciPy L-BFGS-B", 5), Bar("Optax L-BFGS", 5))
def differential_equation(quick: bool) -> dict[str, Any]:
    """four rates of a predator and its prey, 1000 steps of Runge and Kutta, float64"""
    start, rates = np.array([1.0, 0.3, 0.15, 0.5]), np.array([1.1, 0.4, 0.1, 0.4])

    def solved(p: Any) -> Any:
        def slope(y: Any) -> Any:
            return jnp.stack([p[0] * y[0] - p[1] * y[0] * y[1], p[2] * y[0] * y[1] - p[3] * y[1]])

        def step(y: Any, _: Any) -> Any:
            first = slope(y)
            second = slope(y + 0.005 * first)
            third = slope(y + 0.005 * second)
            y = y + 0.01 / 6 * (first + 2 * second + 2 * third + slope(y + 0.01 * third))
            return y, y

        return jax.lax.scan(step, jnp.array([10.0, 5.0], p.dtype), None, length=20 if quick else 1000)[1]

    with jax.enable_x64(True):
        seen = np.asarray(solved(jnp.asarray(rates)))

    def cost(p: Any) -> Any:
        return jnp.mean((solved(p) - seen) ** 2)

    return {
        "jaxgd": lambda: jaxgd.minimize(cost, start, dtype="float64").params,
        "jaxgd, LBFGS": lambda: jaxgd.minimize(cost, start, method=jaxgd.LBFGS(), dtype="float64").params,
        "SciPy L-BFGS-B": scipy_solver(cost, start),
        "Optax L-BFGS": optax_solver(cost, start),
        **({"Optimistix BFGS": optimistix_solver(cost, start)} if available("optimistix") else {}),
    }


@case(Bar("SciPy SLSQP", 1, 3))
def constrained(quick: bool) -> dict[str, Any]:
    """Hock and Schittkowski's problem 71: a bound on each of four variables, an equality, an inequality, float64"""
    start, low, high = np.array([1.0, 5.0, 5.0, 1.0]), np.full(4, 1.0), np.full(4, 5.0)

    def cost(x: Any) -> Any:
        return x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2]

    def on_sphere(x: Any) -> Any:
        return jnp.sum(x**2) - 40

    def large(x: Any) -> Any:
        return jnp.prod(x) - 25

    def scipy(method: str) -> Any:
        from scipy.optimize import minimize

        with jax.enable_x64(True):
            evaluate = jax.jit(jax.value_and_grad(cost))
            made = [(kind, jax.jit(one), jax.jit(jax.grad(one))) for kind, one in (("eq", on_sphere), ("ineq", large))]
        constraints = [
            {"type": kind, "fun": lambda x, f=one: float(f(x)), "jac": lambda x, f=slope: np.asarray(f(x))}
            for kind, one, slope in made
        ]

        def run() -> Any:
            with jax.enable_x64(True):
                return minimize(
                    lambda x: [np.asarray(part) for part in evaluate(x)],
                    start,
                    jac=True,
                    method=method,
                    bounds=list(zip(low, high, strict=True)),
                    constraints=constraints,
                ).x

        return run

    return {
        "jaxgd": lambda: (
            jaxgd.minimize(cost, start, equality=on_sphere, inequality=large, bounds=(low, high), dtype="float64").params
        ),
        "SciPy SLSQP": scipy("SLSQP"),
        "SciPy trust-constr": scipy("trust-constr"),
    }


@case(Bar("SciPy L-BFGS-B", 20), Bar("vmap of Optimistix BFGS", 1))
def thousand_fits(quick: bool) -> dict[str, Any]:
    """1000 fits of an exponential decay to 40 readings, float64"""
    n_fits, generator, x = (10 if quick else 1000), np.random.default_rng(0), np.linspace(0, 4, 40)
    height, rate, offset = (generator.uniform(low, high, (n_fits, 1)) for low, high in ((1, 5), (0.3, 2), (-1, 1)))
    rows = height * np.exp(-rate * x) + offset + 0.05 * generator.normal(size=(n_fits, 40))
    start = np.array([1.0, 1.0, 0.0])

    def residuals(params: Any, y: Any) -> Any:
        return params[0] * jnp.exp(-params[1] * x.astype(y.dtype)) + params[2] - y

    def cost(params: Any, y: Any) -> Any:
        return jnp.sum(residuals(params, y) ** 2) / 2

    def mapped(one: Any) -> Any:
        fits = jax.jit(jax.vmap(one))

        def run() -> Any:
            with jax.enable_x64(True):
                return fits(jnp.asarray(rows))

        return run

    def optimistix() -> Any:
        import optimistix  # type: ignore[import-not-found]

        solver = optimistix.BFGS(rtol=1e-8, atol=1e-8)
        return mapped(lambda y: optimistix.minimise(cost, solver, jnp.asarray(start), y, max_steps=1000, throw=False).value)

    few, solve = min(n_fits, 100), scipy_solver(cost, start)
    return {
        "jaxgd": lambda: jaxgd.minimize_many(cost, start, rows, dtype="float64").params,
        "jaxgd, least squares": lambda: jaxgd.minimize_many(jaxgd.SumOfSquares(residuals), start, rows, dtype="float64").params,
        "vmap of jaxgd.minimize": mapped(lambda y: jaxgd.minimize(cost, start, y).params),
        "SciPy L-BFGS-B": Per(lambda: [solve(y) for y in rows[:few]], few / n_fits),
        **({"vmap of Optimistix BFGS": optimistix()} if available("optimistix") else {}),
    }
