"""Real tables in minibatches, raw and scaled: one half was looked at while the race was mended, the other only afterwards.

Most are those that scikit-learn ships; the large ones are the pixels of its photographs.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sklearn.datasets

from tests.benchmarks.tuning_problems import HALVES, cross_entropy, logistic, plane, problem, squares
from tests.benchmarks.tuning_problems import PROBLEMS as PROBLEMS

SHOWN, ASIDE = HALVES[2:]


def table(name: str, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """The columns and the answers of a table of scikit-learn."""
    return getattr(sklearn.datasets, f"load_{name}")(return_X_y=True, **options)


def standardised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(0)) / np.maximum(x.std(0), 1e-9)


def pixels(name: str) -> np.ndarray:
    """A photograph as bytes, height by width by colour."""
    return sklearn.datasets.load_sample_image(name)


def softmax(params: Any, rows: Any) -> Any:
    return cross_entropy(rows[0] @ params["w"] + params["b"], rows[1])


def planes(n_columns: int, n_classes: int) -> dict[str, np.ndarray]:
    return {"w": np.zeros((n_columns, n_classes)), "b": np.zeros(n_classes)}


def huber(params: Any, rows: Any) -> Any:
    """A robust cost with an edge at ten."""
    x, y = rows
    size = jnp.abs(x @ params["w"] + params["b"] - y)
    return jnp.mean(jnp.where(size < 10, size**2 / 2, 10 * (size - 5)))


def ninth_decile(params: Any, rows: Any) -> Any:
    """The cost of a quantile, that below which nine tenths of the answers lie."""
    x, y = rows
    residual = y - x @ params["w"] - params["b"]
    return jnp.mean(jnp.maximum(0.9 * residual, -0.1 * residual))


def counts(params: Any, rows: Any) -> Any:
    """Poisson's, with a logarithmic link."""
    x, y = rows
    score = x @ params["w"] + params["b"]
    return jnp.mean(jnp.exp(score) - y * score)


def layers(sizes: Sequence[int], gain: float, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Random weights and no shifts; the gain is 1 for tanh and 2 for relu."""
    rng = np.random.default_rng(seed)
    pairs = itertools.pairwise(sizes)
    return [(rng.normal(size=(before, after)) * np.sqrt(gain / before), np.zeros(after)) for before, after in pairs]


def network(bend: Callable[[Any], Any], cost: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The cost of a network's outputs."""

    def of_rows(params: Any, rows: Any) -> Any:
        values, answers = rows
        for weights, shift in params[:-1]:
            values = bend(values @ weights + shift)
        weights, shift = params[-1]
        return cost(values @ weights + shift, answers)

    return of_rows


def mean_square(outputs: Any, answers: Any) -> Any:
    return jnp.mean((outputs[:, 0] - answers) ** 2)


tanh_classes, relu_classes = (network(bend, cross_entropy) for bend in (jnp.tanh, jax.nn.relu))
tanh_values, relu_values = (network(bend, mean_square) for bend in (jnp.tanh, jax.nn.relu))


@problem(SHOWN, batch_size=4, n_epochs=100)
def gym_raw() -> tuple[Any, Any, Any]:
    """Twenty men of a club: their weight by three exercises."""
    x, y = table("linnerud")
    return squares, plane(3), (x, y[:, 0])


@problem(SHOWN, batch_size=32, n_epochs=20)
def digits_tanh_raw() -> tuple[Any, Any, Any]:
    """A network of 16 tanh for digits whose pixels go from 0 to 16."""
    return tanh_classes, layers((64, 16, 10), 1, 1), table("digits")


@problem(SHOWN, batch_size=16, n_epochs=100)
def iris_raw() -> tuple[Any, Any, Any]:
    """Three kinds of iris, in centimetres."""
    return softmax, planes(4, 3), table("iris")


@problem(SHOWN, batch_size=32, n_epochs=40)
def iris_few() -> tuple[Any, Any, Any]:
    """The same for 200 updates."""
    return softmax, planes(4, 3), table("iris")


@problem(SHOWN, batch_size=32, n_epochs=60)
def cancer_raw() -> tuple[Any, Any, Any]:
    """Thirty measures of cells, from a thousandth to thousands."""
    return logistic, plane(30), table("breast_cancer")


@problem(SHOWN, batch_size=16, n_epochs=60)
def wine_scaled() -> tuple[Any, Any, Any]:
    """Three kinds of wine by thirteen standardised columns."""
    x, y = table("wine")
    return softmax, planes(13, 3), (standardised(x), y)


@problem(SHOWN, batch_size=16, n_epochs=80)
def wine_tanh_raw() -> tuple[Any, Any, Any]:
    """A network of eight tanh for columns of up to 1700, at first all saturated."""
    return tanh_classes, layers((13, 8, 3), 1, 2), table("wine")


@problem(SHOWN, batch_size=32, n_epochs=100)
def diabetes_unit() -> tuple[Any, Any, Any]:
    """The progress of an illness, from 25 to 346, by ten columns of length one."""
    return squares, plane(10), table("diabetes")


@problem(SHOWN, batch_size=32, n_epochs=100)
def diabetes_huber_raw() -> tuple[Any, Any, Any]:
    """A robust regression of the same on raw columns."""
    return huber, plane(10), table("diabetes", scaled=False)


@problem(SHOWN, batch_size=32, n_epochs=80)
def diabetes_relu_raw() -> tuple[Any, Any, Any]:
    """A network of 16 relu for the same, raw columns and raw answers."""
    return relu_values, layers((10, 16, 1), 2, 3), table("diabetes", scaled=False)


@problem(SHOWN, batch_size=256, n_epochs=1)
def photograph_blue() -> tuple[Any, Any, Any]:
    """The blue of the 273 000 pixels of a photograph by red and green, from 0 to 255."""
    colours = pixels("china.jpg").reshape(-1, 3).astype(float)
    return squares, plane(2), (colours[:, :2], colours[:, 2])


@problem(ASIDE, batch_size=8, n_epochs=160)
def gym_jumps_raw() -> tuple[Any, Any, Any]:
    """The jumps of the twenty men by weight, waist and pulse."""
    y, x = table("linnerud")
    return squares, plane(3), (x, y[:, 2])


@problem(ASIDE, batch_size=5, n_epochs=100)
def gym_counts_scaled() -> tuple[Any, Any, Any]:
    """The men's chin-ups as counts, by standardised columns."""
    y, x = table("linnerud")
    return counts, plane(3), (standardised(x), y[:, 0])


@problem(ASIDE, batch_size=64, n_epochs=40)
def digits_relu_raw() -> tuple[Any, Any, Any]:
    """A network of two hidden layers for digits whose pixels go from 0 to 16."""
    return relu_classes, layers((64, 32, 24, 10), 2, 4), table("digits")


@problem(ASIDE, batch_size=32, n_epochs=20)
def digits_softmax_raw() -> tuple[Any, Any, Any]:
    """The same digits without a hidden layer."""
    return softmax, planes(64, 10), table("digits")


@problem(ASIDE, batch_size=16, n_epochs=100)
def wine_raw() -> tuple[Any, Any, Any]:
    """Three kinds of wine by thirteen raw columns."""
    return softmax, planes(13, 3), table("wine")


@problem(ASIDE, batch_size=32, n_epochs=50)
def wine_few() -> tuple[Any, Any, Any]:
    """Three kinds of wine by standardised columns, for 300 updates."""
    x, y = table("wine")
    return softmax, planes(13, 3), (standardised(x), y)


@problem(ASIDE, batch_size=16, n_epochs=100)
def iris_tanh_raw() -> tuple[Any, Any, Any]:
    """A network of ten tanh for kinds of iris, in centimetres."""
    return tanh_classes, layers((4, 10, 3), 1, 5), table("iris")


@problem(ASIDE, batch_size=32, n_epochs=60)
def cancer_scaled() -> tuple[Any, Any, Any]:
    """Thirty measures of cells, standardised."""
    x, y = table("breast_cancer")
    return logistic, plane(30), (standardised(x), y)


@problem(ASIDE, batch_size=32, n_epochs=60)
def cancer_relu_raw() -> tuple[Any, Any, Any]:
    """A network of 16 relu for thirty raw measures of cells."""
    return relu_classes, layers((30, 16, 2), 2, 6), table("breast_cancer")


@problem(ASIDE, batch_size=32, n_epochs=100)
def diabetes_raw() -> tuple[Any, Any, Any]:
    """The progress of an illness by ten raw columns."""
    return squares, plane(10), table("diabetes", scaled=False)


@problem(ASIDE, batch_size=32, n_epochs=60)
def diabetes_decile() -> tuple[Any, Any, Any]:
    """The ninth decile of the same by standardised columns."""
    x, y = table("diabetes", scaled=False)
    return ninth_decile, plane(10), (standardised(x), y)


@problem(ASIDE, batch_size=256, n_epochs=2)
def photograph_tanh_raw() -> tuple[Any, Any, Any]:
    """The brightness of every second pixel of a photograph by its eight neighbours, all from 0 to 255, with a network."""
    grey = pixels("flower.jpg").astype(float).mean(axis=2)
    height, width = grey.shape
    offsets = itertools.product(range(3), repeat=2)
    parts = [grey[down : height - 2 + down, right : width - 2 + right][:, ::2].ravel() for down, right in offsets]
    return tanh_values, layers((8, 24, 1), 1, 7), (np.stack(parts[:4] + parts[5:], axis=1), parts[4])
