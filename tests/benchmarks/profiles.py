"""Time intervals and contours beside iminuit's MINOS and MNCONTOUR, where iminuit is installed, and say how far apart the two are.

The likelihoods are those of the tests, and a mixture over many rows. iminuit calls costs of NumPy, without a gradient; both begin
at the minimum. Differences of ends are in standard errors. Those of contours are how far the points of each are from the contour,
by the cost there, in units of the ellipse; of likelihoods of two parameters alone, whose cost is the profile.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import jax
import numpy as np

import jaxgd
from tests.likelihoods import Likelihood, likelihoods, mixture

LEVEL, POINTS = 0.68, 40


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.profiles", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two likelihoods, one round: that everything runs, not how fast")
    quick = parser.parse_args().quick
    rounds = 1 if quick else 7
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, float64\n")
    print("| likelihood | intervals | MINOS | ends apart | contour | MNCONTOUR | ours off | theirs off |")
    print("|---|---|---|---|---|---|---|---|")
    cases = [*likelihoods(), large(1000 if quick else 100_000)]
    for one in cases[-2:] if quick else cases:
        print(f"| {one.name} | {' | '.join(compared(one, rounds))} |", flush=True)


def large(n_rows: int) -> Likelihood:
    """A mixture over many rows."""
    random = np.random.default_rng(1)
    times = np.where(random.uniform(size=n_rows) < 0.6, random.exponential(1.0, n_rows), random.uniform(0, 6, n_rows))
    return Likelihood(f"mixture, {n_rows} rows", mixture, [0.5, 1.0], times[times < 6], [(0.0, 1.0), (0.05, 20.0)])


def compared(one: Likelihood, rounds: int) -> list[str]:
    """The columns of a likelihood."""
    options: dict[str, Any] = {"bounds": one.box, "dtype": "float64"}
    best = jaxgd.minimize(one.cost, one.start, one.data, **options)
    errors = jaxgd.covariance(one.cost, best.params, one.data, scale=one.scale, **options).standard_errors
    several = len(one.start) > 1
    minuit = of_iminuit(one, best.params)
    pair = {"parameters": (0, 1), "level": LEVEL, "n_points": POINTS}
    calls: list[Callable[[], Any] | None] = [
        lambda: jaxgd.intervals(one.cost, best, one.data, scale=one.scale, **options),
        None if minuit is None else minuit.minos,
        (lambda: jaxgd.contour(one.cost, best, one.data, scale=one.scale, **pair, **options)) if several else None,
        (lambda: minuit.mncontour(0, 1, cl=LEVEL, size=POINTS)) if several and minuit else None,
    ]
    (found, _, contour, points), seconds = timed(calls, rounds)
    ends, ours, theirs = "", "", ""
    if minuit is not None:
        by_minos = np.array([(best.params[k] + e.lower, best.params[k] + e.upper) for k, e in enumerate(minuit.merrors.values())])
        valid = [e.is_valid or e.at_lower_limit or e.at_upper_limit for e in minuit.merrors.values()]
        apart = np.abs(np.stack([found.lower, found.upper], axis=1) - by_minos) / np.asarray(errors)[:, None]
        ends = f"{np.max(apart[valid], initial=0.0):.1g}" + ("" if all(valid) else f", {valid.count(False)} not found by MINOS")
    if contour is not None and len(one.start) == 2:
        crossed = contour.code == 0
        ours = f"{off(one, contour, contour.values[crossed]):.1g}"
        theirs = "" if points is None else f"{off(one, contour, np.asarray(points)):.1g}"
    first, second, third, fourth = ("" if one is None else f"{1e3 * one:.3g} ms" for one in seconds)
    return [first, second, ends, third, fourth, ours, theirs]


def off(one: Likelihood, contour: jaxgd.Contour, points: np.ndarray) -> float:
    """How far points inside the bounds are from a contour, at most."""
    low, high = (np.full(2, -np.inf), np.full(2, np.inf)) if one.box is None else map(np.array, one.box)
    low, high = (np.where(side == None, sign * np.inf, side).astype(float) for side, sign in ((low, -1), (high, 1)))  # noqa: E711
    inside = np.all((points > low + 1e-6) & (points < high - 1e-6), axis=1)
    rises = np.array([float(one.cost(point, one.data, np)) for point in points[inside]]) - float(contour.cost)
    return float(np.max(np.abs(np.sqrt(np.maximum(rises, 0) / float(contour.rise)) - 1), initial=0.0))


def of_iminuit(one: Likelihood, params: Any) -> Any:
    """The same fit in iminuit, at its minimum; None where it is not installed."""
    try:
        from iminuit import Minuit  # type: ignore[import-not-found]
    except ImportError:
        return None
    cost: Any = lambda v: float(one.cost(v, one.data, np))  # noqa: E731
    minuit = Minuit(cost, np.asarray(params))
    minuit.errordef, minuit.strategy = one.scale, 2
    if one.bounds is not None:
        minuit.limits = one.bounds
    for minuit.tol in (1e-3, 1e-2, 1e-1):
        minuit.migrad().minos()
        if all(e.is_valid or e.at_lower_limit or e.at_upper_limit for e in minuit.merrors.values()):
            break
    return minuit


def timed(calls: list[Callable[[], Any] | None], rounds: int) -> tuple[list[Any], list[float | None]]:
    """What each call returns, and the median of its times, in turns, after a first that compiles."""
    found = [None if call is None else call() for call in calls]
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, times in zip(calls, seconds, strict=True):
            if call is not None:
                began = time.perf_counter()
                call()
                times.append(time.perf_counter() - began)
    return found, [median(times) if times else None for times in seconds]


if __name__ == "__main__":
    main()
