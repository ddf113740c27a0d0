"""Time thousands of fits by `minimize_many` beside `jax.vmap` of `minimize`, `jax.vmap` of Optimistix, and a loop over SciPy.

Each fit is a sum of decays, their logarithmic heights and times the parameters, to 100 readings. Of *even* fits all are alike, up
to the noise. Of those *with stragglers* one in a hundred is the slowest of thirty others, whose decays can hardly be told apart.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxgd
from tests.benchmarks.case import available

TIMES = np.linspace(0, 10, 100, dtype=np.float32)
FEW = 40  # fits of SciPy's, of which the time of all follows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.many", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few fits, one round: that everything runs, not how fast")
    quick = parser.parse_args().quick
    rounds = 1 if quick else 3
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}\n")
    print("| fits | way | microseconds a fit | evaluations a fit |\n|---|---|---|---|")
    for n_decays, stragglers, count in ((2, False, 10_000), (3, False, 2000), (3, True, 2000)):
        count = 200 if quick else count
        data, start = problem(count, n_decays, stragglers)
        name = f"{count} of {n_decays} decays, {'with stragglers' if stragglers else 'even'}"
        calls = {way: made(data, start) for way, made in WAYS.items()}
        seconds: dict[str, list[float]] = {way: [] for way in calls}
        evaluations = {way: call() for way, call in calls.items()}  # compiles
        for _ in range(rounds):
            for way, call in calls.items():
                began = time.perf_counter()
                call()
                seconds[way].append(time.perf_counter() - began)
        for way, times in seconds.items():
            fits = FEW if way.startswith("SciPy") else count
            print(f"| {name} | {way} | {1e6 * median(times) / fits:.3g} | {evaluations[way]:.3g} |", flush=True)


def problem(count: int, n_decays: int, stragglers: bool) -> tuple[Any, Any]:
    """The readings of all fits with their weights, and the start of each."""
    random = np.random.default_rng(n_decays)
    times = 0.4 * 5.0 ** np.arange(n_decays)
    heights, lasting = random.uniform(0.8, 1.2, (count, n_decays)), times * random.uniform(0.9, 1.1, (count, n_decays))
    clean = np.sum(heights[:, None, :] * np.exp(-TIMES[None, :, None] / lasting[:, None, :]), axis=-1)
    readings = (clean + 0.01 * random.normal(size=clean.shape)).astype(np.float32)
    start = np.concatenate([np.zeros(n_decays), np.log(1.2 * times)]).astype(np.float32)
    if stragglers:
        others = n_decays * random.uniform(0.1, 1, (30 * (count // 100), 1, n_decays)) * times
        blurred = (np.exp(-TIMES[:, None] / others).sum(axis=-1) + 0.01 * random.normal(size=(len(others), 100))).astype(np.float32)
        slowest = np.argsort(jaxgd.minimize_many(cost, start, blurred).n_evaluations)[-(count // 100) :]
        readings[::100] = blurred[slowest]
    return readings, start


def cost(p: Any, y: Any) -> Any:
    """Half the sum of the squared misfits."""
    heights, rates = jnp.split(p, 2)
    model = jnp.sum(jnp.exp(heights)[:, None] * jnp.exp(-TIMES * jnp.exp(-rates)[:, None]), axis=0)
    return jnp.sum((model - y) ** 2) / 2


def in_lanes(data: Any, start: Any) -> Callable[[], float]:
    """`minimize_many`."""

    def call() -> float:
        found = jaxgd.minimize_many(cost, start, data)
        return float(np.mean(found.n_evaluations))

    return call


def mapped(data: Any, start: Any) -> Callable[[], float]:
    """`jax.vmap` of `minimize`."""

    def one(y: Any) -> Any:
        found = jaxgd.minimize(cost, start, y)
        return found.params, found.n_evaluations

    run = jax.jit(jax.vmap(one))
    return lambda: float(np.mean(jax.block_until_ready(run(data))[1]))


def optimistix(data: Any, start: Any) -> Callable[[], float]:
    """`jax.vmap` of BFGS from Optimistix, to about the same accuracy."""
    import optimistix as optx  # type: ignore[import-not-found]

    solver = optx.BFGS(rtol=1e-4, atol=1e-6)  # it stops about where float32 does

    def one(y: Any) -> Any:
        found = optx.minimise(lambda p, y: cost(p, y), solver, start, y, max_steps=1000, throw=False)
        return found.value, found.stats["num_steps"]

    run = jax.jit(jax.vmap(one))
    return lambda: float(np.mean(jax.block_until_ready(run(data))[1]))


def scipy_loop(*, gradient: bool) -> Callable[..., Callable[[], float]]:
    """A loop over `scipy.optimize.minimize`, whose cost is NumPy's, with or without its gradient, written by hand."""
    from scipy.optimize import minimize

    times = TIMES.astype(np.float64)

    def value(p: Any, y: Any) -> Any:
        heights, rates = np.split(p, 2)
        rates = np.exp(-rates)[:, None]
        decays = np.exp(heights)[:, None] * np.exp(-times * rates)
        misfit = decays.sum(axis=0) - y
        slopes = np.concatenate([decays @ misfit, (decays * times * rates) @ misfit])
        return (misfit @ misfit / 2, slopes) if gradient else misfit @ misfit / 2

    def made(data: Any, start: Any) -> Callable[[], float]:
        step, wide = max(1, len(data) // FEW), start.astype(np.float64)

        def call() -> float:
            with np.errstate(all="ignore"):
                found = [minimize(value, wide, (y.astype(np.float64),), jac=gradient) for y in data[1::step][:FEW]]
            return float(np.mean([one.nfev for one in found]))

        return call

    return made


WAYS: dict[str, Callable[..., Callable[[], float]]] = {
    "minimize_many": in_lanes,
    "vmap of minimize": mapped,
    **({"vmap of Optimistix's BFGS": optimistix} if available("optimistix") else {}),
    "SciPy's BFGS with a gradient": scipy_loop(gradient=True),
    "SciPy's BFGS without": scipy_loop(gradient=False),
}


if __name__ == "__main__":
    main()
