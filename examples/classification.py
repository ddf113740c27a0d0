"""A logistic classifier in minibatches: two clouds of points, the line between them, and the cost by epoch.

The cost is a mean over the rows of a batch, so that the learning rate does not depend on the batch size. The tutorial has the sum
over 32 rows and the rate 0.01, which takes the same steps as the mean and 0.32.

For your own data: make `x` a table with a row for each observation and a column of ones, `y` zeros and ones, and start from as many
numbers as there are columns. If you don't know a learning rate, say `--learning-rate auto`: a short race of rates finds it.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_blobs

import jaxgd

PICTURE = Path(__file__).parent / "pictures" / "classification.png"


def probability(w, x):
    """The model: how likely a row belongs to the upper class."""
    return jax.nn.sigmoid(x @ w)


def cost(w, batch):
    """The mean squared error of the rows of a batch."""
    x, y = batch
    return jnp.mean((probability(w, x) - y) ** 2)


def main(arguments: list[str] | None = None) -> None:
    """Learn to tell the clouds apart, and draw where the line between them is and how the cost fell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=100, help="passes over the points")
    parser.add_argument("--learning-rate", default="0.32", help="a number, or auto to have it found")
    parser.add_argument("--batch-size", type=int, default=32, help="rows in a minibatch")
    parser.add_argument("--quick", action="store_true", help="twenty epochs")
    parser.add_argument("--output", type=Path, default=PICTURE, help="the picture to write")
    options = parser.parse_args(arguments)

    points, y = make_blobs(n_samples=400, centers=[(-2, 0), (2, 1.5)], cluster_std=1.4, random_state=1)[:2]
    x = np.hstack([points, np.ones((400, 1))])  # the last weight is the intercept

    rate = "auto" if options.learning_rate == "auto" else float(options.learning_rate)
    result = jaxgd.fit(
        cost,
        jaxgd.normal(3),
        (x, y),
        batch_size=options.batch_size,
        n_epochs=20 if options.quick else options.epochs,
        key=0,
        method=jaxgd.GradientDescent(rate),
        history="cost",
    )
    print(result)
    history: Any = result.history  # the first entry is the cost of the start
    first, last = history.cost[1], history.cost[-1]
    print(f"Mean cost of the minibatches: {first:.4f} in the first epoch, {last:.4f} in the last")
    wrong = np.sum((probability(result.params, x) > 0.5) != y)
    print(f"On the wrong side of the line: {wrong} of 400 points")
    w = result.params
    print(f"The line: x1 = {-w[2] / w[1]:.3f} {-w[0] / w[1]:+.3f} * x0")

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
    jaxgd.plot.decision_boundary(probability, result.params, (x, y), ax=left, labels=["class 0", "class 1"])
    left.set(title="the points and the line learned", xlabel="x0", ylabel="x1")
    jaxgd.plot.cost(result, ax=right)
    right.set(title="the mean cost of the minibatches", ylabel="mean squared error")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=110)
    print(f"Picture of the points with the line learned, and the cost by epoch: {options.output}")


if __name__ == "__main__":
    main()
