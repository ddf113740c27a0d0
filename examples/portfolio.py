"""Choose a portfolio: the least risk for a wanted return, with limits on every share, and what each limit costs.

    minimise w' C w   subject to   sum(w) = 1,  r' w >= wanted,  sum(w[group]) <= 0.4,  sum((w - old)**2) <= 0.1,  0 <= w <= 0.3

w are the shares of twelve assets, r their expected returns and C the covariance of their returns, here made up. For your own,
replace `returns` by a table with a row for each month. The multiplier of a constraint is the derivative of the risk with respect to
what it asks for: what another per cent of return costs, or how much would be won by a limit that is less strict.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxgd

PICTURE = Path(__file__).parent / "pictures" / "portfolio.png"
NAMES = [*(f"stock {k}" for k in range(1, 7)), *(f"bond {k}" for k in range(1, 4)), "gold", "land", "cash"]
STOCKS = slice(0, 6)
OLD = np.full(12, 1 / 12)  # the shares that are held now


def returns(months: int) -> np.ndarray:
    """Monthly returns in per cent, here made up: stocks move together, bonds against them."""
    random = np.random.default_rng(3)
    market = random.normal(size=(months, 1))
    slopes = np.array([4.5, 4.0, 3.8, 3.0, 2.5, 2.0, -0.4, -0.2, 0.3, -0.8, 1.0, 0.0])
    own = np.array([3.0, 2.5, 4.0, 2.0, 2.5, 1.5, 0.9, 0.7, 1.2, 3.5, 2.0, 0.05])
    means = np.array([1.1, 1.0, 0.95, 0.8, 0.7, 0.6, 0.3, 0.25, 0.4, 0.45, 0.5, 0.15])
    return means + market * slopes + own * random.normal(size=(months, 12))


def risk(weights, data):
    """The variance of the return."""
    _, covariance, _ = data
    return weights @ covariance @ weights


def whole(weights, data):
    """All is invested."""
    return jnp.sum(weights) - 1


def limits(weights, data):
    """What has to be at least zero."""
    means, _, wanted = data
    return {
        "return": means @ weights - wanted,
        "stocks": 0.4 - jnp.sum(weights[STOCKS]),
        "trades": 0.1 - jnp.sum((weights - OLD) ** 2),
    }


def main(arguments: list[str] | None = None) -> None:
    """Find a portfolio, print what its limits cost, and draw the least risk for every return."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer returns in the picture")
    parser.add_argument("--output", type=Path, default=PICTURE, help="where the picture goes")
    options = parser.parse_args(arguments)

    table = returns(240)
    means, covariance = np.mean(table, axis=0), np.cov(table.T)
    problem: dict[str, Any] = {"equality": whole, "inequality": limits, "bounds": (0, 0.3), "dtype": "float64"}
    traced: dict[str, Any] = problem | {"dtype": None}

    result = jaxgd.minimize(risk, OLD, (means, covariance, 0.6), **problem)
    print(result)
    found = result.constraints
    for name, price in found.multipliers["inequality"].items():
        print(f"{name}: {'active' if found.active['inequality'][name] else 'not active'}, multiplier {price:.3f}")

    def least(wanted):
        return jaxgd.minimize(risk, OLD, (means, covariance, wanted), **traced).cost

    with jax.enable_x64(True):
        slope = jax.grad(least)(0.6)
    print(f"the derivative of the least risk with respect to the return: {slope:.3f}")
    hopeless = jaxgd.minimize(risk, OLD, (means, covariance, 1.2), **problem)
    print(f"a return of 1.2: {hopeless.status.name}, {hopeless.constraints.violation:.2f} too little")

    wanted = np.linspace(0.2, 0.9, 15 if options.quick else 57)
    tables = np.tile(means, (len(wanted), 1)), np.tile(covariance, (len(wanted), 1, 1)), wanted
    many = jaxgd.minimize_many(risk, OLD, tables, **problem)
    good = np.asarray(many.converged)
    shares, prices = np.asarray(many.params)[good], np.asarray(many.constraints.multipliers["inequality"]["return"])[good]
    print(f"{np.sum(good)} of {len(wanted)} returns can be had, up to {wanted[good][-1]:.2f}")

    figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 4.6), layout="constrained")
    left.plot(np.sqrt(np.asarray(many.cost)[good]), wanted[good], color="k")
    left.plot(table.std(axis=0), means, "o", color="0.6", markersize=4)
    left.plot(np.sqrt(risk(OLD, (means, covariance, 0))), OLD @ means, "s", color="C3", label="the old portfolio")
    left.plot(np.sqrt(result.cost), 0.6, "o", color="C0", label="the least risk for 0.6")
    left.set(xlabel="standard deviation, per cent a month", ylabel="return, per cent a month", title="the least risk")
    left.legend(loc="lower right")
    right.stackplot(wanted[good], shares.T, labels=NAMES, colors=plt.get_cmap("tab20")(np.arange(12)))
    right.set(xlabel="wanted return, per cent a month", ylabel="share", title="what to hold", ylim=(0, 1))
    right.set_xlim(wanted[good][0], wanted[good][-1])
    right.legend(loc="center left", bbox_to_anchor=(1, 0.5), reverse=True, fontsize="small")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=110)
    print(f"largest price of return: {np.max(prices):.1f}")
    print(f"Picture of the least risk: {options.output}")


if __name__ == "__main__":
    main()
