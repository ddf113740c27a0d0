"""A neural network that reads handwritten digits: its parameters are a dict of arrays, no method is named, and validation ends it.

Nothing here is a framework: `scores` is a function of the parameters and the images, and the cost is one number.

For your own data: `x` of shape (rows, columns), scaled to about one, `y` the classes as integers from 0; change the sizes in
`SHAPES` to your columns and classes, and add layers as you like.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxgd

PICTURE = Path(__file__).parent / "pictures" / "neural_network.png"
SHAPES = {"first": (64, 64), "first_bias": (64,), "second": (64, 10), "second_bias": (10,)}


def scores(p, x):
    """Two layers: a score for each of the ten classes."""
    hidden = jax.nn.relu(x @ p["first"] + p["first_bias"])
    return hidden @ p["second"] + p["second_bias"]


def cost(p, batch):
    """The mean of -log(probability of the true class)."""
    x, y = batch
    chances = jax.nn.log_softmax(scores(p, x))
    return -jnp.mean(jnp.take_along_axis(chances, y[:, None], axis=1))


def main(arguments: list[str] | None = None) -> None:
    """Train, print how many digits are read wrongly, and draw the learning curve and some of those."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10 epochs at most rather than 30")
    parser.add_argument("--output", type=Path, default=PICTURE, help="the PNG to write")
    options = parser.parse_args(arguments)

    images, labels = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(images / 16, labels, test_size=0.25, stratify=labels, random_state=0)
    x, x_validation, y, y_validation = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)

    result = jaxgd.fit(
        cost,
        jaxgd.normal(SHAPES, scale=0.1),
        (x, y),
        batch_size=32,
        n_epochs=10 if options.quick else 30,
        key=0,
        validation=(x_validation, y_validation),
        stop=jaxgd.stopping.Patience(10),
        history="cost",
    )
    print(result)
    read = np.argmax(scores(result.best.params, x_test), axis=1)
    wrong = np.flatnonzero(read != y_test)
    print(f"Of {len(y_test)} digits not seen before {len(wrong)} are read wrongly, {100 * len(wrong) / len(y_test):.1f} %")

    figure = plt.figure(figsize=(8, 4), layout="constrained")
    panels = figure.subplot_mosaic([["curve", *"abcd"], ["curve", *"efgh"]], width_ratios=[5, 1, 1, 1, 1])
    jaxgd.plot.cost(result, ax=panels["curve"])
    panels["curve"].set(title="learning curve", ylabel="-log(probability of the true class)")
    for name, place in zip("abcdefgh", [*wrong, *[None] * 8], strict=False):
        panels[name].axis("off")
        if place is not None:
            panels[name].imshow(x_test[place].reshape(8, 8), cmap="Greys")
            panels[name].set_title(f"{y_test[place]}, read as {read[place]}", fontsize=8)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=110)
    print(f"Picture of the learning curve, and digits read wrongly: {options.output}")


if __name__ == "__main__":
    main()
