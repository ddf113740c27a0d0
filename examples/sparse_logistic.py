"""A sparse logistic regression: the path of its coefficients over the weight of an L1 penalty, and the weight that others confirm.

    cost of the run: the mean of -log(probability of the label) over the rows + weight * sum(|coefficient|)

The intercept has no penalty. One call of `jaxgd.penalty_path` runs all weights, from the largest that does anything. Then the
weight is chosen whose coefficients do best on rows that were not fitted, and a derivative says how the coefficients move with it.

For your own data: a table `x` with columns of similar sizes, as made here by dividing by their standard deviations, and `y` zeros
and ones.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer

import jaxgd

PICTURE = Path(__file__).parent / "pictures" / "sparse_logistic.png"


def cost(p, data):
    """The mean of -log(probability of the label)."""
    x, y = data
    score = x @ p["weights"] + p["intercept"]
    return jnp.mean(jnp.logaddexp(0, score) - y * score)


def main(arguments: list[str] | None = None) -> None:
    """Run the path, choose a weight, print the coefficients that it leaves, and draw both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer weights")
    parser.add_argument("--output", type=Path, default=PICTURE, help="the path of the picture")
    options = parser.parse_args(arguments)

    table: Any = load_breast_cancer()
    x = (table.data - table.data.mean(axis=0)) / table.data.std(axis=0)
    order = np.random.default_rng(0).permutation(len(x))
    train, others = ((x[part], table.target[part].astype(float)) for part in (order[:380], order[380:]))
    start = {"weights": np.zeros(x.shape[1]), "intercept": 0.0}

    penalty = {"weights": jaxgd.L1(1.0), "intercept": None}
    count = 25 if options.quick else 100
    path = jaxgd.penalty_path(cost, start, train, penalty=penalty, n_factors=count, ratio=1e-3, dtype="float64")
    print(path.result)
    coefficients = path.result.params["weights"]
    held_out = np.array(jax.vmap(lambda p: cost(p, others))(path.result.params))
    best = int(np.argmin(held_out))
    kept = np.flatnonzero(coefficients[best])
    print(f"weight {path.factors[best]:.4f}: {len(kept)} of {len(coefficients[best])} coefficients, of cost {held_out[best]:.4f}")
    for k in kept[np.argsort(-np.abs(coefficients[best, kept]))]:
        print(f"  {coefficients[best, k]:+7.3f}  {table.feature_names[k]}")
    right = np.mean((others[0] @ coefficients[best] + path.result.params["intercept"][best] > 0) == others[1])
    print(f"{100 * right:.1f} % of {len(others[1])} rows that were not fitted are read rightly")

    def fitted(weight):
        chosen = {"weights": jaxgd.L1(weight), "intercept": None}
        return jaxgd.minimize(cost, start, train, penalty=chosen).params["weights"]

    slope = np.asarray(jax.jit(jax.jacrev(fitted))(path.factors[best]))
    largest = kept[np.argmax(np.abs(coefficients[best, kept]))]
    print(f"d(coefficient of {table.feature_names[largest]}) / d(weight) = {slope[largest]:.1f}")

    figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 4.2), layout="constrained")
    for k, one in enumerate(coefficients.T):
        label = table.feature_names[k] if k in kept[np.argsort(-np.abs(coefficients[best, kept]))][:5] else None
        left.semilogx(path.factors, one, linewidth=1.6 if label else 0.7, color=None if label else "0.75", label=label)
    left.axvline(path.factors[best], color="k", linewidth=0.8, linestyle=":")
    left.set(title="the coefficients", xlabel="weight of the penalty")
    left.legend(fontsize="small", loc="lower right")
    right.semilogx(path.factors, held_out, label="rows not fitted")
    right.semilogx(path.factors, [cost(jax.tree.map(lambda leaf, k=k: leaf[k], path.result.params), train) for k in range(count)])
    right.lines[1].set(label="fitted rows", color="0.5", linestyle="--")
    right.axvline(path.factors[best], color="k", linewidth=0.8, linestyle=":")
    right.set(title="mean of -log(probability of the label)", xlabel="weight of the penalty", ylim=(0, None))
    right.legend()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=110)
    print(f"Picture of the coefficients and the costs over the weight: {options.output}")


if __name__ == "__main__":
    main()
