"""Tell handwritten zeros from ones: scikit-learn's bundled digits, by gradient descent on all rows and row by row.

The model is as plain as can be, a weight for each of the 64 pixels: the weights are a picture, too.

For your own images or tables: a row for each, a column of ones for the intercept, labels 0 and 1. For more than two classes begin
with `neural_network.py`.
"""

import argparse
from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxgd

PICTURE = Path(__file__).parent / "pictures" / "digits.png"


def half_sum_of_squares(weights, data):
    """The cost: a straight line through labels 0 and 1."""
    x, y = data
    return jnp.sum((y - x @ weights) ** 2) / 2


def error_rate(weights, x, y) -> float:
    """The share of rows on the wrong side of one half, in percent."""
    return 100 * float(np.mean((x @ np.asarray(weights) >= 0.5) != y))


def small_start(seed: int) -> np.ndarray:
    """Weights near zero."""
    return np.random.RandomState(seed).uniform(-1, 1, 65) * 1e-6


def draw(runs, row_by_row, images):
    """The costs by step or epoch, two digits, and the weights as an image."""
    figure = plt.figure(figsize=(8, 4), layout="constrained")
    panels = figure.subplot_mosaic([["costs", "a zero", "a one"], ["costs", "weights", "weights"]], width_ratios=[4.4, 1, 1])
    jaxgd.plot.cost(runs, ax=panels["costs"])
    panels["costs"].plot(row_by_row.history.validation_cost, "k--", label="row by row, after each epoch")
    panels["costs"].set(xlabel="step or epoch", ylabel="half the sum of squares", title="the cost, by step or epoch", ylim=(1, 100))
    panels["costs"].legend()
    weights = np.asarray(row_by_row.params[1:])
    largest = np.max(np.abs(weights))
    image = panels["weights"].imshow(weights.reshape(8, 8), cmap="RdBu", vmin=-largest, vmax=largest)
    bar = figure.colorbar(image, ax=panels["weights"], ticks=[-largest, 0, largest])
    bar.set_ticklabels(["zero", "neither", "one"])
    for name, pixels in zip(("a zero", "a one"), images, strict=False):
        panels[name].imshow(pixels.reshape(8, 8), cmap="Greys")
    for name in ("a zero", "a one", "weights"):
        panels[name].set(xticks=[], yticks=[], title=name)
    return figure


def main(arguments: list[str] | None = None) -> None:
    """Run both verbs with the same method, and plain descent with three momenta; print how many digits each gets wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one momentum rather than three")
    parser.add_argument("--output", type=Path, default=PICTURE, help="the file for the picture")
    options = parser.parse_args(arguments)

    images, labels = load_digits(n_class=2, return_X_y=True)
    table = np.hstack([np.ones((len(images), 1)), images])
    x_train, x_test, y_train, y_test = train_test_split(table, labels, test_size=0.2, random_state=10)
    train = x_train, y_train

    method = jaxgd.GradientDescent(learning_rate=1e-6, momentum=0.7)
    run = {"stop": jaxgd.stopping.CostTolerance(0.1), "dtype": "float64", "history": "cost"}
    all_rows = jaxgd.minimize(half_sum_of_squares, small_start(19), train, method=method, max_steps=100, **run)
    row_by_row = jaxgd.fit(
        half_sum_of_squares, small_start(19), train, batch_size=1, n_epochs=100, key=0, method=method, validation=train, **run
    )
    for name, result in (("All rows in every step", all_rows), ("Row by row, in shuffled order", row_by_row)):
        errors = error_rate(result.params, *train), error_rate(result.params, x_test, y_test)
        print(f"{name}:\n{result}\n  errors    {errors[0]:.2f} % of the training rows, {errors[1]:.2f} % of the others\n")

    print("All rows, until a step changes the cost by less than 0.01:")
    runs = {}
    for momentum in (0.9,) if options.quick else (0.0, 0.5, 0.9):
        method = jaxgd.GradientDescent(1e-6, momentum)
        run["stop"] = jaxgd.stopping.CostTolerance(0.01)
        runs[f"momentum {momentum}"] = end = jaxgd.minimize(
            half_sum_of_squares, small_start(11), train, method=method, max_steps=100, **run
        )
        errors = error_rate(end.params, *train), error_rate(end.params, x_test, y_test)
        print(f"  momentum {momentum}: {end.n_steps} steps, cost {end.cost:.10f}, errors {errors[0]:.2f} % and {errors[1]:.2f} %")

    figure = draw(runs, row_by_row, images)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=110)
    print(f"Picture of the costs, two digits and the weights: {options.output}")


if __name__ == "__main__":
    main()
