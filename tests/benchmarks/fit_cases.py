"""Minibatches: the loops that others write, scikit-learn's, and the tightest program written by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxgd
from tests.benchmarks import peers
from tests.benchmarks.case import Bar, Per, available, case

RATE = 1e-3
SAME = 1 / 1.15
LIMITS = Bar("hand-written JAX", SAME, 1), Bar("the same, with the cost of the end", SAME, 1)


def line(params: Any, rows: Any) -> Any:
    x, y = rows
    return jnp.mean((params[0] + params[1] * x - y) ** 2) / 2


def plane(params: Any, rows: Any) -> Any:
    x, y = rows
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2) / 2


def table(n_rows: int, n_columns: int = 10) -> Any:
    """Rows of a linear regression, in float32."""
    x = jax.random.normal(jax.random.key(1), (n_rows, n_columns))
    return jax.block_until_ready((x, x @ jnp.arange(1.0, n_columns + 1) + 0.5))


def plane_start() -> Any:
    return {"w": jnp.zeros(10), "b": jnp.zeros(())}


def regression(n_rows: int, batch_size: int, n_epochs: int = 1) -> dict[str, Any]:
    """Ours and the hand-written program on the same rows in the same order."""
    data, start = table(n_rows), plane_start()
    method = jaxgd.GradientDescent(RATE)
    options: dict[str, Any] = {"batch_size": batch_size, "n_epochs": n_epochs}
    return {
        "jaxgd": Per(lambda: jaxgd.fit(plane, start, data, key=0, method=method, **options).params, n_epochs),
        "hand-written JAX": Per(peers.hand_written(plane, start, data, RATE, **options), n_epochs),
        "the same, with the cost of the end": Per(peers.hand_written(plane, start, data, RATE, end=True, **options), n_epochs),
    }


@case(Bar("NumPy loop", 300, 1000), Bar("NumPy loop", 10, 25, "first"))
def six_rows(quick: bool) -> dict[str, Any]:
    """six-row regression, 100 000 epochs, batch 3"""
    x, y = np.array([5, 15, 25, 35, 45, 55.0]), np.array([5, 20, 14, 32, 22, 38.0])
    n_epochs = 1000 if quick else 100_000
    data, start = (jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)), jnp.asarray([0.5, 0.5])
    method = jaxgd.GradientDescent(0.0008)

    def scan() -> Any:
        import optax

        return peers.optax_scan(line, start, data, optax.sgd(0.0008), 3, n_epochs)

    return {
        "jaxgd": lambda: jaxgd.fit(line, start, data, batch_size=3, n_epochs=n_epochs, key=0, method=method).params,
        "NumPy loop": Per(peers.numpy_loop(x, y, 0.0008, 3, n_epochs // 10), 0.1),
        "Optax scan": scan(),
        "hand-written JAX": peers.hand_written(line, start, data, 0.0008, 3, n_epochs),
    }


@case(Bar("Optax scan", 10, 20), Bar("SGDRegressor", 3, 6), *LIMITS)
def million_rows_batch_256(quick: bool) -> dict[str, Any]:
    """1e6 x 10 rows, batch 256, one epoch"""
    import optax

    n_rows = 10_000 if quick else 1_000_000
    data = table(n_rows)
    return {
        **regression(n_rows, 256),
        "Optax scan": peers.optax_scan(plane, plane_start(), data, optax.sgd(RATE), 256, 1),
        "SGDRegressor": peers.sgd_regressor(data, RATE, 1),
        **_torch(data, 1, "mse_loss", "SGD", RATE, 256, 1),
    }


@case(Bar("SGDRegressor", 2, 5), *LIMITS)
def hundred_thousand_rows_batch_1(quick: bool) -> dict[str, Any]:
    """1e5 x 10 rows, batch 1, one epoch"""
    n_rows = 1000 if quick else 100_000
    return {**regression(n_rows, 1), "SGDRegressor": peers.sgd_regressor(table(n_rows), RATE, 1)}


@case(*LIMITS)
def million_rows_batch_1(quick: bool) -> dict[str, Any]:
    """1e6 x 10 rows, batch 1, one epoch"""
    return regression(1000 if quick else 1_000_000, 1)


@case(*LIMITS)
def million_rows_batch_32(quick: bool) -> dict[str, Any]:
    """1e6 x 10 rows, batch 32, one epoch"""
    return regression(10_000 if quick else 1_000_000, 32)


@case(*LIMITS)
def million_rows_batch_4096(quick: bool) -> dict[str, Any]:
    """1e6 x 10 rows, batch 4096, one epoch"""
    return regression(10_000 if quick else 1_000_000, 4096)


@case(*LIMITS)
def million_rows_full_batch(quick: bool) -> dict[str, Any]:
    """1e6 x 10 rows, all in every step, of ten steps each"""
    n_rows = 10_000 if quick else 1_000_000
    return regression(n_rows, n_rows, 10)


@case(Bar("Optax scan", 2, 5), Bar("Optax scan", 1 / 1.2, None, "first"))
def digits(quick: bool) -> dict[str, Any]:
    """digits softmax 1797 x 64 x 10, batch 32, 50 epochs, Adam"""
    import optax

    n_epochs = 2 if quick else 50
    problem, method = softmax(), jaxgd.Adam(RATE)
    data = problem[2]
    return {
        "jaxgd": lambda: jaxgd.fit(*problem, batch_size=32, n_epochs=n_epochs, key=0, method=method).params,
        "Optax scan": peers.optax_scan(*problem, optax.adam(RATE), 32, n_epochs),
        "SGDClassifier": peers.sgd_classifier(data, RATE, n_epochs),
        **_torch(data, 10, "cross_entropy", "Adam", RATE, 32, n_epochs),
    }


@case(Bar("Adam, named", 1 / 1.6, 1), Bar("Adam, named", 1 / 2, 1, "first"))
def digits_without_a_rate(quick: bool) -> dict[str, Any]:
    """digits softmax, batch 32, 50 epochs, no method named"""
    problem = softmax()
    options: dict[str, Any] = {"batch_size": 32, "n_epochs": 2 if quick else 50, "key": 0}
    return {
        "jaxgd": lambda: jaxgd.fit(*problem, **options).params,
        "Adam, named": lambda: jaxgd.fit(*problem, method=jaxgd.Adam(RATE), **options).params,
    }


@case(Bar("Adam, named", 1 / 1.6, 1), Bar("Adam, named", 1 / 2, 1, "first"))
def million_rows_without_a_rate(quick: bool) -> dict[str, Any]:
    """1e6 x 10 rows, batch 256, one epoch, no method named"""
    data = table(10_000 if quick else 1_000_000)
    options: dict[str, Any] = {"batch_size": 256, "n_epochs": 1, "key": 0}
    return {
        "jaxgd": lambda: jaxgd.fit(plane, plane_start(), data, **options).params,
        "Adam, named": lambda: jaxgd.fit(plane, plane_start(), data, method=jaxgd.Adam(RATE), **options).params,
    }


def softmax() -> tuple[Any, Any, Any]:
    """The cost, the start and the data of a linear classifier of digits."""
    import optax
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    data = jnp.asarray(x / 16, jnp.float32), jnp.asarray(y, jnp.int32)

    def cost(params: Any, rows: Any) -> Any:
        x, y = rows
        return optax.softmax_cross_entropy_with_integer_labels(x @ params["w"] + params["b"], y).mean()

    return cost, {"w": jnp.zeros((64, 10)), "b": jnp.zeros(10)}, data


@case(Bar("10 000 rows", 1 / 1.5, 1, ours="10 000 000 rows"))
def sizes(quick: bool) -> dict[str, Any]:
    """time of a row, batch 256, for tables of different lengths"""
    total = 1_000_000 if quick else 10_000_000

    def of(n_rows: int) -> Per:
        made: list[Any] = []

        def run() -> Any:
            if not made:
                made.append(table(n_rows))
            options: dict[str, Any] = {"batch_size": 256, "n_epochs": total // n_rows, "key": 0}
            return jaxgd.fit(plane, plane_start(), made[0], method=jaxgd.GradientDescent(RATE), **options).params

        return Per(run, total)

    return {
        f"{n_rows:_} rows".replace("_", " "): of(n_rows // (10 if quick else 1))
        for n_rows in (10_000, 100_000, 1_000_000, 10_000_000)
    }


def _torch(*arguments: Any) -> dict[str, Any]:
    return {"PyTorch": peers.torch_loop(*arguments)} if available("torch") else {}
