"""Choose the penalties of a fit by a validation cost, with derivatives of the minimum: a bilevel problem.

    outer: the cost on the validation rows, at the weights that the inner fit returns, as a function of the penalties
    inner: the mean squared error on the training rows plus a penalty on the squares of the weights

A grid of penalties is enough for one of them. Here each of two groups of columns has its own; with derivatives there may be as many
as there are columns. The inner fit is a function like any other: `jaxgd.minimize` minimises through `jaxgd.minimize`.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxgd

PICTURE = Path(__file__).parent / "pictures" / "penalty.png"


def rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of 30 columns, here made up: the first ten tell much, the others little."""
    random = np.random.default_rng(1)
    x = random.normal(size=(count, 30))
    weights = random.normal(size=30) * np.repeat([0.9, 0.35], [10, 20])
    y = x @ weights + 3 * random.normal(size=count)
    return x.astype(np.float32), y.astype(np.float32)


def mean_square(weights, data):
    """The mean squared error of a linear model."""
    x, y = data
    return jnp.mean((x @ weights - y) ** 2)


def penalised(weights, data):
    """The inner cost."""
    table, penalties = data
    each = jnp.repeat(jnp.exp(penalties), jnp.array([10, 20]), total_repeat_length=30)
    return mean_square(weights, table) + jnp.sum(each * weights**2)


def main(arguments: list[str] | None = None) -> None:
    """Choose the penalties, print them, and draw the outer cost with the way to its minimum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a coarser picture")
    parser.add_argument("--output", type=Path, default=PICTURE, help="where the picture goes")
    options = parser.parse_args(arguments)

    x, y = rows(3060)
    train, validation, test = ((x[part], y[part]) for part in (slice(0, 60), slice(60, 1060), slice(1060, None)))

    def fitted(penalties):
        return jaxgd.minimize(penalised, np.zeros(30, np.float32), (train, penalties)).params

    def outer(penalties):
        return mean_square(fitted(penalties), validation)

    start = np.array([-4.0, -4.0], np.float32)
    result = jaxgd.minimize(outer, start, bounds=(-8, 4), history="params")
    print(result)
    slope = jax.jit(jax.grad(outer))(start)
    step = np.float32(0.05)
    differences = [(outer(start + step * one) - outer(start - step * one)) / (2 * step) for one in np.eye(2, dtype=np.float32)]
    print(f"derivatives at the start: {np.round(np.asarray(slope), 4)}, by differences {np.round(np.asarray(differences), 4)}")
    for name, penalties in (("at the start", start), ("chosen", result.params)):
        print(f"penalties {name}: {np.round(np.exp(penalties), 4)}, test error {mean_square(fitted(penalties), test):.2f}")

    ticks = np.linspace(-8, 4, 13 if options.quick else 49, dtype=np.float32)
    grid = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 2)
    many = jaxgd.minimize_many(lambda w, p, table: penalised(w, (table, p)), np.zeros(30, np.float32), grid, shared=train)
    costs = jax.vmap(lambda w: mean_square(w, validation))(many.params).reshape(len(ticks), -1)
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    levels = np.linspace(np.min(costs), np.percentile(costs, 85), 20)
    contours = axes.contourf(ticks, ticks, costs.T, levels=levels, extend="max", cmap="viridis_r")
    figure.colorbar(contours, label="cost on the validation rows", format="%.1f")
    way = [] if result.history is None else result.history.params
    axes.plot(*np.asarray(way).T, "o-", color="k", markersize=3, linewidth=1)
    axes.plot(*result.params, "*", color="w", markersize=12)
    axes.set(xlabel="log penalty of ten columns that tell much", ylabel="log penalty of twenty that tell little")
    axes.set_title("the way to the best two penalties")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=110)
    print(f"Picture of the outer cost: {options.output}")


if __name__ == "__main__":
    main()
