"""A straight line through noisy points: the closed form, all rows in every step, row by row, and a grid of learning rates.

The closed form is there to compare with; only linear models have one. The rest works for any model.

For your own data: put your columns in the place of `x` and `y`, and your model in the place of `line`; `start` has as many numbers
as your model has parameters. `jaxgd.minimize(cost, start, data)` finds the minimum without a learning rate.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import SGDRegressor

import jaxgd

PICTURE = Path(__file__).parent / "pictures" / "regression.png"


def line(theta, x):
    """The model: an intercept and a slope."""
    return theta[0] + theta[1] * x


def cost(theta, data):
    """The mean square of the residuals."""
    x, y = data
    return jnp.mean((line(theta, x) - y) ** 2)


def main(arguments: list[str] | None = None) -> None:
    """Fit the line in many ways, and draw how the learning rate decides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a grid of 9 learning rates rather than 61")
    parser.add_argument("--output", type=Path, default=PICTURE, help="where to write the picture")
    options = parser.parse_args(arguments)

    rng = np.random.RandomState(42)
    x = 2 * rng.rand(100)
    y = 4 + 3 * x + rng.randn(100)
    data, start = (x, y), rng.randn(2)
    table = np.stack([np.ones(100), x], axis=1)
    print(f"The closed form:              {np.linalg.solve(table.T @ table, table.T @ y)}")

    runs = {}
    every_step: dict = {"stop": (), "max_steps": 1000, "history": "cost", "dtype": "float64"}
    for rate in (0.002, 0.1, 0.6):
        runs[f"rate {rate}"] = run = jaxgd.minimize(cost, start, data, method=jaxgd.GradientDescent(rate), **every_step)
        print(f"All rows, rate {rate}:".ljust(29), f"{run.params} after {run.n_steps} steps: {run.status.name}")

    decaying = jaxgd.GradientDescent(jaxgd.schedules.InverseTime(5, 50))
    rows: dict = {"batch_size": 1, "n_epochs": 50, "key": 0, "shuffle": "replacement", "method": decaying, "dtype": "float64"}
    drawn = jaxgd.fit(cost, start, data, history="params", **rows)
    print(f"Row by row, decaying rate:    {drawn.params}")
    averaged = jaxgd.fit(cost, start, data, average=0.5, history="params", **rows)
    print(f"The last half of it averaged: {averaged.params}")
    model = SGDRegressor(alpha=0.0, eta0=0.1, random_state=42).fit(x[:, None], y)
    print(f"Scikit-learn's SGDRegressor:  {model.intercept_} {model.coef_}")

    def end_of(rate):
        return jaxgd.minimize(cost, start, data, method=jaxgd.GradientDescent(rate), stop=(), max_steps=20).cost

    rates = np.geomspace(0.001, 1.0, 9 if options.quick else 61)
    sweep = jaxgd.Sweep(rates, jax.vmap(end_of)(rates))  # every rate in one program
    print(f"The best of {len(rates)} learning rates for 20 steps: {sweep.best:.3g}")

    figure, ((fitted, costs), (path, ends)) = plt.subplots(2, 2, figsize=(8, 6), layout="constrained")
    jaxgd.plot.fit(line, runs["rate 0.1"], (x, y), ax=fitted)
    fitted.set_title("100 points and the line")
    jaxgd.plot.cost(runs, ax=costs)
    costs.set(title="all rows in every step", xlim=(0, 100), ylim=(0.5, 1e5))
    jaxgd.plot.path(drawn, cost, data, ax=path)
    path.set(title="row by row, epoch by epoch", xlabel="intercept", ylabel="slope")
    jaxgd.plot.sweep(sweep, ax=ends)
    ends.set_title("after 20 steps, for each rate")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=110)
    print(f"Picture of the line, the costs, a path and a grid of rates: {options.output}")


if __name__ == "__main__":
    main()
