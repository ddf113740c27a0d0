"""A network of Equinox with batch normalisation and dropout: its cost has a state and a random key, and the run can be saved.

The running means and variances of the layers are the state of the cost; dropout draws from its key. Where the cost is only
measured, on validation data and at the end, the layers use the running statistics, and nothing is dropped.

For your own network: make it with `equinox.nn.make_with_state`, and keep `cost` as it is but for the last line.
"""

import argparse
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxgd

PICTURE = Path(__file__).parent / "pictures" / "batch_norm.png"


class Network(eqx.Module):
    """Two layers for images of 64 pixels and ten classes, with batch normalisation and dropout between them."""

    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout
    second: eqx.nn.Linear

    def __init__(self, key, share_dropped):
        one, two = jax.random.split(key)
        self.first = eqx.nn.Linear(64, 128, key=one)
        self.norm = eqx.nn.BatchNorm(128, axis_name="batch", mode="batch")
        self.dropout = eqx.nn.Dropout(share_dropped)
        self.second = eqx.nn.Linear(128, 10, key=two)

    def __call__(self, image, state, key):
        """Return a score for each class, and the next state."""
        hidden, state = self.norm(self.first(image), state)
        return self.second(self.dropout(jax.nn.relu(hidden), key=key)), state


def scores(network, images, state, key):
    """Return the scores for many images, and the next state."""
    keys = jax.random.split(key, len(images))
    return jax.vmap(network, axis_name="batch", in_axes=(0, None, 0), out_axes=(0, None))(images, state, keys)


def cost(network, batch, state, key, training):
    """Return the mean of -log(probability of the true class), and the next state."""
    images, labels = batch
    network = eqx.nn.inference_mode(network, value=not training)
    found, state = scores(network, images, state, key)
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(found), labels[:, None], axis=1)), state


def main(arguments: list[str] | None = None) -> None:
    """Train with and without dropout, print how many digits are read wrongly, and draw the learning curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="8 epochs rather than 60")
    parser.add_argument("--output", type=Path, default=PICTURE, help="the PNG to write")
    options = parser.parse_args(arguments)

    images, labels = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(images / 16, labels, test_size=0.5, stratify=labels, random_state=0)
    x, x_validation, y, y_validation = train_test_split(x, y, test_size=0.3, stratify=y, random_state=0)

    n_epochs = 8 if options.quick else 60
    figure, panels = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    for panel, share_dropped in zip(panels, (0.0, 0.5), strict=True):
        network, state = eqx.nn.make_with_state(Network)(jax.random.key(0), share_dropped)
        result = jaxgd.fit(
            cost,
            network,
            (x, y),
            cost_state=state,
            batch_size=32,
            n_epochs=n_epochs,
            key=0,
            method=jaxgd.Adam(jaxgd.schedules.Cosine(0.01, n_epochs, unit="epoch")),
            validation=(x_validation, y_validation),
            history="cost",
        )
        read, _ = scores(eqx.nn.inference_mode(result.params), x_test, result.cost_state, jax.random.key(0))
        wrong = np.sum(np.argmax(read, axis=1) != y_test)
        print(f"{share_dropped:.0%} dropped: {wrong} of {len(y_test)} digits not seen before are read wrongly")
        epochs, history = np.arange(1, n_epochs + 1), result.history
        assert history is not None
        panel.semilogy(epochs, history.cost[1:], label="training batches")
        panel.semilogy(epochs, history.validation_cost[1:], label="validation data")
        panel.set(title=f"{share_dropped:.0%} dropped: {wrong / len(y_test):.1%} read wrongly", xlabel="epoch")
    panels[0].set_ylabel("-log(probability of the true class)")
    panels[0].legend()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=110)
    print(f"Picture of the learning curves: {options.output}")


if __name__ == "__main__":
    main()
