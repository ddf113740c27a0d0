"""Gradient descent as the tutorials write it by hand, here from the cost alone: no gradient, no loop.

The learning rate decides. Too small, and fifty steps lead nowhere; too large, and they jump out of the valley. The first picture
shows the points visited on a parabola and on a quartic with two valleys, the second one what momentum adds, in two variables.

For your own function: write it in the place of `quartic`, with `jax.numpy` in the place of `numpy`. Where you only want its
minimum there is nothing to choose: `jaxgd.minimize(quartic, start=0.0)`.
"""

import argparse
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

import jaxgd

PICTURE = Path(__file__).parent / "pictures" / "gradient_descent.png"


def parabola(v):
    """One valley: the minimum is at 0."""
    return v**2


def quartic(v):
    """Two valleys: the deeper one is at 1.7139, the other at -1.4023."""
    return v**4 - 5 * v**2 - 3 * v


def line(b, data):
    """Half the mean square of the distances of a straight line from points: a regression."""
    x, y = data
    return jnp.mean((b[0] + b[1] * x - y) ** 2) / 2


def bowl(w):
    """The sum of two squares."""
    return jnp.sum(w**2)


def in_one_dimension() -> Figure:
    """Three learning rates for the parabola and three for the quartic, with the points that they visit."""
    figure, axes = plt.subplots(2, 3, figsize=(8, 4.8), layout="constrained")
    parabolas = [(parabola, 10.0, 0.0, rate) for rate in (0.005, 0.2, 0.8)]
    quartics = [(quartic, 0.0, 1.71394, rate) for rate in (0.005, 0.1, 0.2)]
    words = ["too small", "good", "a zigzag", "too small", "not yet there", "wrong valley"]
    for ax, (cost, start, minimum, rate), word in zip(axes.flat, parabolas + quartics, words, strict=True):
        result = jaxgd.gradient_descent(cost, start, learning_rate=rate, max_steps=50, history="params")
        print(f"  {cost.__name__:8}  learning rate {rate:<5}  {result.n_steps} steps  v = {result.params:.15g}")
        jaxgd.plot.path(result, cost, ax=ax, minimum=minimum)
        ax.set_title(f"learning rate {rate}: {word}", fontsize=9)
        ax.set(xlabel="v", ylabel=cost.__name__)
        ax.get_legend().remove()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def regression() -> None:
    """A line through six points: all of them in every step, in minibatches of three, and without a learning rate."""
    data = np.array([5, 15, 25, 35, 45, 55]), np.array([5, 20, 14, 32, 22, 38])
    batch = jaxgd.gradient_descent(line, [0.5, 0.5], data, learning_rate=0.0008, max_steps=100_000)
    print(f"  all rows     {batch.params}, after {batch.n_steps} steps")
    minibatches: dict[str, Any] = {"batch_size": 3, "n_epochs": 100_000, "key": 0}
    scattered = jaxgd.sgd(line, [0.5, 0.5], data, learning_rate=0.0008, **minibatches)
    print(f"  minibatches  {scattered.params}, which scatters for ever: the learning rate is constant")
    method = jaxgd.GradientDescent(0.0004)
    averaged = jaxgd.fit(line, [0.5, 0.5], data, method=method, average=0.9, dtype="float64", **minibatches)
    print(f"  the average  {averaged.params}, of the last nine tenths of such a run")
    print(f"  no method    {jaxgd.minimize(line, [0.5, 0.5], data, dtype='float64').params}, by jaxgd.minimize")


def main(arguments: list[str] | None = None) -> None:
    """Run what the tutorials run, and draw the paths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="draw a smaller grid of paths")
    parser.add_argument(
        "--output", type=Path, default=PICTURE, help="the first picture; the other is beside it, its name with _grid"
    )
    options = parser.parse_args(arguments)

    print("One variable, 50 steps at most:")
    figure = in_one_dimension()

    print("Two variables, v[0]**2 + v[1]**4:")
    result = jaxgd.gradient_descent(lambda v: v[0] ** 2 + v[1] ** 4, [1.0, 1.0], learning_rate=0.2, tolerance=1e-8)
    print(f"  [{result.params[0]:.8e}, {result.params[1]:.8e}]")

    print("A line through six points:")
    regression()

    print("A hundred steps with momentum, as Keras takes them, for 2 + v**2:")
    momentum = jaxgd.GradientDescent(0.1, momentum=0.9)
    result = jaxgd.minimize(lambda v: 2 + v**2, 2.5, method=momentum, max_steps=100, stop=(), dtype="float32")
    print(f"  v = {result.params:.6g}, cost {result.cost:.8g}")

    rates = [0.05, 0.5] if options.quick else [0.05, 0.2, 0.5, 0.8]
    grid = jaxgd.plot.paths_grid(bowl, [4.0, 3.0], learning_rates=rates, momenta=[0, 0.5, 0.9], max_steps=5)

    options.output.parent.mkdir(parents=True, exist_ok=True)
    second = options.output.with_stem(options.output.stem + "_grid")
    for picture, drawn, dpi in ((options.output, figure, 110), (second, grid[0, 0].figure, 90)):
        drawn.savefig(picture, dpi=dpi)
        print(f"Picture: {picture}")


if __name__ == "__main__":
    main()
