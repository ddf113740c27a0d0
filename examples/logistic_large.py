"""A logistic regression of a million rows in minibatches, with nothing to tune and with a method named, and how long each takes.

The first call compiles, and later ones with data of the same shape don't. Without a method `fit` finds a learning rate first, in a
short race, and lets it decay; `result.method` is what it chose.

For your own data: a float32 table `x` with a row for each observation, and `y` zeros and ones; bring the columns to similar sizes
first, as in `(x - x.mean(axis=0)) / x.std(axis=0)`.
"""

import argparse
from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxgd

PICTURE = Path(__file__).parent / "pictures" / "logistic_large.png"
COLUMNS = 20


def cost(p, batch):
    """The mean of -log(probability of the label)."""
    x, y = batch
    score = x @ p["weights"] + p["intercept"]
    return jnp.mean(jnp.logaddexp(0, score) - y * score)


def accuracy(p, x, y) -> float:
    """The share of rows whose label is the likelier one, in percent."""
    return 100 * float(np.mean((x @ np.asarray(p["weights"]) + float(p["intercept"]) > 0) == y))


def table(rows: int, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normal columns, and labels drawn with the probabilities of a logistic model."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, COLUMNS), dtype=np.float32)
    return x, (rng.random(rows) < 1 / (1 + np.exp(-x @ weights - 0.5))).astype(np.float32)


def main(arguments: list[str] | None = None) -> None:
    """Fit twice, print times and accuracies, and draw the cost by epoch and the weights beside the true ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 000 rows")
    parser.add_argument("--output", type=Path, default=PICTURE, help="the path of the picture")
    options = parser.parse_args(arguments)

    rows = 100_000 if options.quick else 1_000_000
    true = np.linspace(-1, 1, COLUMNS).astype(np.float32)
    x, y = table(rows, true)
    held_out = rows // 10
    train, test = (x[held_out:], y[held_out:]), (x[:held_out], y[:held_out])
    print(f"{len(train[0])} rows of {COLUMNS} columns to learn from, {held_out} to judge by")

    start = {"weights": np.zeros(COLUMNS), "intercept": 0.0}
    runs = {}
    for name, method in (("no method", None), ("Adam(0.01)", jaxgd.Adam(0.01))):
        for call in ("the first call", "once more"):
            result = jaxgd.fit(
                cost, start, train, batch_size=1000, n_epochs=5, key=0, method=method, validation=test, history="cost"
            )
            print(f"  {name}, {call}: {result.seconds:.2f} s, {result.n_steps} steps")
        print(f"  {name}: cost {result.cost:.6f}, {accuracy(result.params, *test):.2f} % of the other rows right")
        runs[name] = result
    print(f"  the true weights: {accuracy({'weights': true, 'intercept': 0.5}, *test):.2f} %")
    print(runs["no method"])

    best = runs["no method"].params
    found = jaxgd.covariance(lambda p, data: len(train[0]) * cost(p, data), best, train)  # -log L is a sum, no mean
    errors = found.standard_errors["weights"]
    for name, result in runs.items():
        away = np.sqrt(np.mean(((result.params["weights"] - true) / errors) ** 2))
        print(f"  {name}: the weights are {away:.2f} standard errors from the truth, root mean square")

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
    jaxgd.plot.cost(runs, ax=left)
    left.set(title="the cost, from 0.693 at the start", xlim=(0.8, 5.2), ylim=(0.38, 0.40))
    for (name, result), shift, color in zip(runs.items(), (-0.01, 0.01), ("#0072B2", "#E69F00"), strict=True):
        right.errorbar(true + shift, result.params["weights"] - true, errors, fmt="o", color=color, markersize=4, label=name)
    right.axhline(0, color="0.6", linewidth=0.8)
    right.set(title="what is left of the weights' errors", xlabel="true weight", ylabel="learned - true")
    right.legend()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=110)
    print(f"Picture of the cost by epoch, and the weights beside the truth: {options.output}")


if __name__ == "__main__":
    main()
