"""Time sparse regressions by `penalty=` beside scikit-learn: a lasso and an L1-logistic regression of three sizes each.

Columns are correlated with their neighbours (0.9), one in twenty has a coefficient, and the weight is a twentieth of the one at
which all are zero. Of each way the loosest tolerance counts that brings the objective to 1e-6 of itself above the minimum; what the
default of jaxgd takes, which goes on to the precision of the run, is listed beside. All is in float64, after compiling.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxgd
from jaxgd.stopping import GradientTolerance

SIZES = (20_000, 100), (2000, 1000), (500, 5000)
TOLERANCES = [10.0**-k for k in range(1, 13)]
NEAR = 1e-6


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.penalties", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: that everything runs, not how fast")
    quick = parser.parse_args().quick
    rounds = 1 if quick else 5
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}\n")
    print("| problem | way | ms | evaluations or sweeps | above the minimum |\n|---|---|---|---|---|")
    for name, cost, made, theirs in PROBLEMS:
        for rows, columns in [(200, 20), (50, 100)] if quick else SIZES:
            data = made(rows, columns)
            weight = 0.05 * float(np.max(np.abs(slope(cost, columns, data))))
            objective = whole(cost, data, weight)
            ways = {"scikit-learn": theirs(data, weight), "jaxgd": ours(cost, data, weight)}
            lowest = objective(ways["jaxgd"](None)[0])
            for way, call in ways.items():
                for told, tolerance in [("", loosest(call, objective, lowest))] + [(", to the end", None)] * (way == "jaxgd"):
                    seconds, found = timed(call, tolerance, rounds)
                    gap = max(objective(found[0]) / lowest - 1, 0)
                    print(
                        f"| {name}, {rows} x {columns} | {way}{told} | {1e3 * seconds:.3g} | {found[1]} | {gap:.0e} |", flush=True
                    )


def timed(call: Callable[[Any], Any], tolerance: Any, rounds: int) -> tuple[float, Any]:
    """The median time of a call, in seconds, and what it found."""
    times, found = [], call(tolerance)
    for _ in range(rounds):
        began = time.perf_counter()
        found = call(tolerance)
        times.append(time.perf_counter() - began)
    return median(times), found


def loosest(call: Callable[[Any], Any], objective: Any, lowest: float) -> float | None:
    """The loosest tolerance that is near enough."""
    return next((one for one in TOLERANCES if objective(call(one)[0]) <= lowest * (1 + NEAR)), TOLERANCES[-1])


def table(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Correlated columns, and what the coefficients make of them."""
    random = np.random.default_rng(0)
    x = random.normal(size=(rows, columns))
    for k in range(1, columns):
        x[:, k] = 0.9 * x[:, k - 1] + 0.19**0.5 * x[:, k]
    chosen = random.choice(columns, max(columns // 20, 2), replace=False)
    return x, x[:, chosen] @ random.normal(size=len(chosen)) + random.normal(size=rows)


def labelled(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """The same with labels."""
    x, y = table(rows, columns)
    return x, (y > 0).astype(float)


def squares(w: Any, data: Any) -> Any:
    """The cost of a lasso."""
    x, y = data
    return jnp.mean((x @ w - y) ** 2) / 2


def logistic(w: Any, data: Any) -> Any:
    """The cost of a logistic regression."""
    x, y = data
    score = x @ w
    return jnp.mean(jnp.logaddexp(0.0, score) - y * score)


def slope(cost: Any, columns: int, data: Any) -> Any:
    """The gradient at zero."""
    with jax.enable_x64(True):
        return jax.jit(jax.grad(cost))(np.zeros(columns), data)


def whole(cost: Any, data: Any, weight: float) -> Callable[[Any], float]:
    """The objective, cost and penalty, in float64."""
    value = jax.jit(cost)

    def objective(w: Any) -> float:
        with jax.enable_x64(True):
            return float(value(np.asarray(w), data)) + weight * float(np.sum(np.abs(w)))

    return objective


def ours(cost: Any, data: Any, weight: float) -> Callable[[Any], Any]:
    """`minimize` with `penalty=`, to its own end, or to a tolerance relative to the largest gradient so far."""
    with jax.enable_x64(True):
        data = jax.tree.map(jnp.asarray, data)

    def call(tolerance: Any) -> Any:
        stop = None if tolerance is None else GradientTolerance(tolerance, relative=True)
        start = np.zeros(data[0].shape[1])
        found = jaxgd.minimize(cost, start, data, penalty=jaxgd.L1(weight), stop=stop, dtype="float64")
        return found.params, found.n_evaluations

    return call


def lasso(data: Any, weight: float) -> Callable[[Any], Any]:
    """`Lasso`, by coordinate descent."""
    from sklearn.linear_model import Lasso

    def call(tolerance: Any) -> Any:
        found = Lasso(alpha=weight, fit_intercept=False, tol=tolerance, max_iter=100_000).fit(*data)
        return found.coef_, found.n_iter_

    return call


def classifier(data: Any, weight: float) -> Callable[[Any], Any]:
    """`LogisticRegression` by liblinear, the fastest of its solvers here."""
    from sklearn.linear_model import LogisticRegression

    def call(tolerance: Any) -> Any:
        settings: dict[str, Any] = {"l1_ratio": 1.0, "C": 1 / (weight * len(data[0])), "fit_intercept": False}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = LogisticRegression(solver="liblinear", tol=tolerance, max_iter=10_000, **settings).fit(*data)
        return found.coef_[0], int(found.n_iter_[0])

    return call


PROBLEMS: list[tuple[str, Any, Any, Any]] = [("lasso", squares, table, lasso), ("L1-logistic", logistic, labelled, classifier)]


if __name__ == "__main__":
    main()
