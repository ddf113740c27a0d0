"""Tell handwritten zeros from ones: scikit-learn's bundled digits, by gradient descent on all rows and row by row."""

import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxgd


def half_sum_of_squares(weights, data):
    """The cost: a straight line through labels 0 and 1."""
    x, y = data
    return jnp.sum((y - x @ weights) ** 2) / 2


def error_rate(weights, x, y) -> float:
    """The share of rows on the wrong side of one half, in percent."""
    return 100 * float(np.mean((x @ np.asarray(weights) >= 0.5) != y))


def main() -> None:
    """Run both verbs with the same method, and print how each ended and how many digits it gets wrong."""
    images, labels = load_digits(n_class=2, return_X_y=True)
    table = np.hstack([np.ones((len(images), 1)), images])
    x_train, x_test, y_train, y_test = train_test_split(table, labels, test_size=0.2, random_state=10)
    start = np.random.RandomState(19).uniform(-1, 1, table.shape[1]) * 1e-6

    method = jaxgd.GradientDescent(learning_rate=1e-6, momentum=0.7)
    stop = jaxgd.stopping.CostTolerance(0.1)
    all_rows = jaxgd.minimize(
        half_sum_of_squares, start, (x_train, y_train), method=method, stop=stop, max_steps=100, dtype="float64"
    )
    row_by_row = jaxgd.fit(
        half_sum_of_squares,
        start,
        (x_train, y_train),
        batch_size=1,
        n_epochs=100,
        key=0,
        method=method,
        stop=stop,
        validation=(x_train, y_train),
        dtype="float64",
    )
    for name, result in (("All rows in every step", all_rows), ("Row by row, in shuffled order", row_by_row)):
        train, test = error_rate(result.params, x_train, y_train), error_rate(result.params, x_test, y_test)
        print(f"{name}:\n{result}\n  errors    {train:.2f} % of the training rows, {test:.2f} % of the others\n")


if __name__ == "__main__":
    main()
