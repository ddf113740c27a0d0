"""Small problems in minibatches, as they are met: half of them to tune a method on, the other half held out to judge it by.

The half that was held out has since been looked at, when the race was made anew; what was not is among the real tables.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

HALVES = ("tuning", "held out", "real, shown", "real, set aside")  # the last two in `tuning_tables`


@dataclasses.dataclass(frozen=True)
class Problem:
    """A cost of minibatches with its data, where a sensible person would start it, and for how long it runs."""

    name: str
    cost: Callable[[Any, Any], Any]
    start: Any
    data: Any
    batch_size: int
    n_epochs: int
    half: str

    @property
    def n_batches(self) -> int:
        """The updates of one epoch."""
        return math.ceil(len(jax.tree.leaves(self.data)[0]) / self.batch_size)

    @property
    def n_steps(self) -> int:
        """The updates of the whole run."""
        return self.n_epochs * self.n_batches

    def cut(self, n_steps: int) -> "Problem":
        """The same problem with fewer epochs: at most so many updates, or one epoch where that alone has more."""
        return dataclasses.replace(self, n_epochs=min(self.n_epochs, max(1, n_steps // self.n_batches)))


PROBLEMS: dict[str, Callable[[], Problem]] = {}


def problem(half: str, batch_size: int, n_epochs: int) -> Callable[[Any], Any]:
    """Register a function that makes (cost, start, data) as a problem of that half, by the function's name."""

    def register(make: Callable[[], tuple[Any, Any, Any]]) -> Any:
        def made() -> Problem:
            cost, start, data = make()
            start, data = jax.tree.map(_single, (start, data))
            return Problem(make.__name__, cost, start, data, batch_size, n_epochs, half)

        PROBLEMS[make.__name__] = made
        return make

    return register


def _single(leaf: Any) -> np.ndarray:
    """Real numbers in 32 bits, and so are whole numbers."""
    array = np.asarray(leaf)
    return array.astype(np.int32 if array.dtype.kind == "i" else np.float32)


def squares(params: Any, rows: Any) -> Any:
    x, y = rows
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2) / 2


def logistic(params: Any, rows: Any) -> Any:
    x, y = rows
    score = x @ params["w"] + params["b"]
    return jnp.mean(jnp.logaddexp(0.0, score) - y * score)


def cross_entropy(scores: Any, labels: Any) -> Any:
    chosen = jnp.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(scores, axis=1) - chosen)


def plane(n_columns: int) -> dict[str, np.ndarray]:
    return {"w": np.zeros(n_columns), "b": np.zeros(())}


def coin(rng: np.random.Generator, score: np.ndarray) -> np.ndarray:
    """Labels 0 and 1 drawn with the odds that the scores stand for."""
    return (rng.random(score.shape) < 1 / (1 + np.exp(-score))).astype(float)


@problem("tuning", batch_size=32, n_epochs=30)
def linear_standardised() -> tuple[Any, Any, Any]:
    """Ten standardised columns, some of them correlated."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1000, 10)) @ (np.eye(10) + 0.3 * rng.normal(size=(10, 10)))
    y = 20 + x @ rng.normal(size=10) + rng.normal(size=1000)
    return squares, plane(10), ((x - x.mean(0)) / x.std(0), y)


@problem("tuning", batch_size=32, n_epochs=80)
def logistic_raw() -> tuple[Any, Any, Any]:
    """Age, pressure, cholesterol, mass index and sex of patients, in the units of the surgery."""
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(800, 4))
    noise[:, 1] += 0.4 * noise[:, 0]
    x = np.c_[noise * [12, 18, 40, 4] + [50, 130, 220, 27], rng.integers(0, 2, 800)]
    return logistic, plane(5), (x, coin(rng, 1.2 * noise[:, 0] + 0.8 * noise[:, 1] - 0.5 * noise[:, 2] + 0.7 * x[:, 4] - 0.8))


@problem("tuning", batch_size=32, n_epochs=30)
def softmax_digits() -> tuple[Any, Any, Any]:
    """Ten classes of pictures of 64 pixels, from 0 to 1, with a noisy prototype each."""
    rng = np.random.default_rng(3)
    prototypes, labels = rng.random((10, 64)) ** 2, rng.integers(0, 10, 1500)
    x = np.clip(0.5 * prototypes[labels] + 0.3 * rng.random((1500, 64)) + 0.5 * rng.normal(size=(1500, 64)), 0, 1)

    def cost(params: Any, rows: Any) -> Any:
        return cross_entropy(rows[0] @ params["w"] + params["b"], rows[1])

    return cost, {"w": np.zeros((64, 10)), "b": np.zeros(10)}, (x, labels)


@problem("tuning", batch_size=32, n_epochs=40)
def poisson() -> tuple[Any, Any, Any]:
    """Counts with a logarithmic link; the columns lie between 0 and 3."""
    rng = np.random.default_rng(4)
    x = 3 * rng.random((1000, 5))
    y = rng.poisson(np.exp(1.0 + x @ [0.5, -0.4, 0.3, 0.0, 0.2])).astype(float)

    def cost(params: Any, rows: Any) -> Any:
        x, y = rows
        score = x @ params["w"] + params["b"]
        return jnp.mean(jnp.exp(score) - y * score)

    return cost, plane(5), (x, y)


@problem("tuning", batch_size=32, n_epochs=400)
def decay() -> tuple[Any, Any, Any]:
    """An exponential decay, a exp(-b t) + c, whose parameters differ in scale by thousands."""
    rng = np.random.default_rng(5)
    t = 200 * rng.random(400)
    y = 100 * np.exp(-0.02 * t) + 8 + 4 * rng.normal(size=400)

    def cost(params: Any, rows: Any) -> Any:
        t, y = rows
        return jnp.mean((params["a"] * jnp.exp(-params["b"] * t) + params["c"] - y) ** 2)

    return cost, {"a": 80.0, "b": 0.01, "c": 0.0}, (t, y)


@problem("tuning", batch_size=32, n_epochs=100)
def network_regression() -> tuple[Any, Any, Any]:
    """A network with one hidden layer, tanh, for a smooth function of three columns."""
    rng = np.random.default_rng(6)
    x = rng.uniform(-2, 2, (500, 3))
    y = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.1 * rng.normal(size=500)

    def cost(params: Any, rows: Any) -> Any:
        x, y = rows
        (into, shift), (out, level) = params
        return jnp.mean((jnp.tanh(x @ into + shift) @ out + level - y) ** 2)

    return cost, [(rng.normal(size=(3, 20)) / np.sqrt(3), np.zeros(20)), (rng.normal(size=20) / np.sqrt(20), 0.0)], (x, y)


@problem("tuning", batch_size=8, n_epochs=250)
def tiny_houses() -> tuple[Any, Any, Any]:
    """Thirty houses: prices by area and rooms, as a tutorial has them."""
    rng = np.random.default_rng(7)
    area = rng.uniform(40, 200, 30)
    rooms = np.round(area / 30 + rng.normal(size=30)).clip(1)
    return squares, plane(2), (np.c_[area, rooms], 50 + 2.5 * area + 12 * rooms + 20 * rng.normal(size=30))


@problem("tuning", batch_size=32, n_epochs=20)
def sparse_logistic() -> tuple[Any, Any, Any]:
    """Words in short texts: 200 columns, mostly zeros, rare ones among them."""
    rng = np.random.default_rng(8)
    x = (rng.random((2000, 200)) < 0.3 / np.arange(1, 201) ** 0.6) * rng.integers(1, 4, (2000, 200))
    return logistic, plane(200), (x.astype(float), coin(rng, x @ rng.normal(size=200)))


@problem("tuning", batch_size=256, n_epochs=2)
def large_linear() -> tuple[Any, Any, Any]:
    """200 000 rows of ten columns."""
    rng = np.random.default_rng(9)
    x = rng.normal(size=(200_000, 10)) * np.linspace(0.3, 3, 10)
    return squares, plane(10), (x, x @ np.arange(1.0, 11) / 5 + 3 + 2 * rng.normal(size=200_000))


@problem("held out", batch_size=32, n_epochs=80)
def linear_raw() -> tuple[Any, Any, Any]:
    """Columns as they come, of different offsets and scales."""
    rng = np.random.default_rng(11)
    x = rng.normal(size=(800, 6)) * [12, 0.2, 150, 1, 3, 0.05] + [45, 0.5, 400, 0, -10, 1]
    y = x @ [0.8, 30, 0.05, 4, -2, 60] + 10 + 3 * rng.normal(size=800)
    return squares, plane(6), (x, y)


@problem("held out", batch_size=32, n_epochs=100)
def linear_mixed_scales() -> tuple[Any, Any, Any]:
    """Seven columns whose scales go from a thousandth to a thousand."""
    rng = np.random.default_rng(12)
    x, scales = rng.normal(size=(640, 7)), 10.0 ** np.arange(-3, 4)
    return squares, plane(7), (x * scales, 2 + x @ [1, -2, 3, 1, -1, 2, -3] + rng.normal(size=640))


@problem("held out", batch_size=32, n_epochs=40)
def logistic_standardised() -> tuple[Any, Any, Any]:
    """Eight standardised columns."""
    rng = np.random.default_rng(13)
    x = rng.normal(size=(600, 8))
    x[:, 4:] = 0.8 * x[:, :4] + 0.6 * x[:, 4:]
    return logistic, plane(8), (x, coin(rng, x @ rng.normal(size=8) + 0.5))


@problem("held out", batch_size=32, n_epochs=100)
def huber_outliers() -> tuple[Any, Any, Any]:
    """A robust regression: a tenth of the rows is far off."""
    rng = np.random.default_rng(14)
    x = rng.normal(size=(500, 6)) * [1, 1, 2, 2, 5, 0.2] + [0, 3, 0, 0, 10, 0]
    y = x @ [2, -1, 0.5, 3, 0.4, 6] + 4 + 0.5 * rng.normal(size=500) + (rng.random(500) < 0.1) * rng.normal(size=500) * 100

    def cost(params: Any, rows: Any) -> Any:
        x, y = rows
        size = jnp.abs(x @ params["w"] + params["b"] - y)
        return jnp.mean(jnp.where(size < 1, size**2 / 2, size - 0.5))

    return cost, plane(6), (x, y)


@problem("held out", batch_size=32, n_epochs=60)
def factorisation() -> tuple[Any, Any, Any]:
    """Marks from 1 to 5 that 60 people gave to 40 films, as the product of two matrices of rank three."""
    rng = np.random.default_rng(15)
    people, films = rng.normal(size=(60, 3)), rng.normal(size=(40, 3))
    i, j = rng.integers(0, 60, 1500), rng.integers(0, 40, 1500)
    y = np.clip(3 + 0.6 * np.sum(people[i] * films[j], axis=1) + 0.3 * rng.normal(size=1500), 1, 5)

    def cost(params: Any, rows: Any) -> Any:
        i, j, y = rows
        return jnp.mean((jnp.sum(params["people"][i] * params["films"][j], axis=1) + params["mean"] - y) ** 2)

    start = {"people": 0.1 * rng.normal(size=(60, 3)), "films": 0.1 * rng.normal(size=(40, 3)), "mean": 0.0}
    return cost, start, (i, j, y)


@problem("held out", batch_size=32, n_epochs=25)
def network_classifier() -> tuple[Any, Any, Any]:
    """A network of 11 000 weights with two hidden layers, relu, for pictures of five noisy classes with two prototypes each."""
    rng = np.random.default_rng(16)
    prototypes, kinds = rng.normal(size=(10, 32)), rng.integers(0, 10, 640)
    x = prototypes[kinds] + 1.6 * rng.normal(size=(640, 32))
    sizes = (32, 96, 80, 5)

    def cost(layers: Any, rows: Any) -> Any:
        values, labels = rows
        for weights, shift in layers[:-1]:
            values = jax.nn.relu(values @ weights + shift)
        weights, shift = layers[-1]
        return cross_entropy(values @ weights + shift, labels)

    pairs = itertools.pairwise(sizes)
    layers = [(rng.normal(size=(before, after)) * np.sqrt(2 / before), np.zeros(after)) for before, after in pairs]
    return cost, layers, (x, kinds % 5)


@problem("held out", batch_size=32, n_epochs=300)
def frequency() -> tuple[Any, Any, Any]:
    """A noisy sine: amplitude, frequency, phase and level, from a rough guess."""
    rng = np.random.default_rng(17)
    t = 10 * rng.random(300)
    y = 2.5 * np.sin(2.1 * t + 0.6) + 1.5 + rng.normal(size=300)

    def cost(params: Any, rows: Any) -> Any:
        t, y = rows
        wave = params["amplitude"] * jnp.sin(params["frequency"] * t + params["phase"])
        return jnp.mean((wave + params["level"] - y) ** 2)

    return cost, {"amplitude": 1.0, "frequency": 2.0, "phase": 0.0, "level": 0.0}, (t, y)


@problem("held out", batch_size=8, n_epochs=1500)
def tiny_dose() -> tuple[Any, Any, Any]:
    """Twenty-four answers to a dose, of a logistic curve: height, slope, and the dose of the half."""
    rng = np.random.default_rng(18)
    dose = np.repeat([1.0, 2, 5, 10, 20, 50, 100, 200], 3)
    y = 90 / (1 + (dose / 15) ** -1.5) + 4 * rng.normal(size=24)

    def cost(params: Any, rows: Any) -> Any:
        dose, y = rows
        share = jax.nn.sigmoid(params["slope"] * (jnp.log(dose) - jnp.log(10.0) - params["half"]))
        return jnp.mean((params["height"] * share - y) ** 2)

    return cost, {"height": 100.0, "slope": 1.0, "half": 0.0}, (dose, y)


@problem("held out", batch_size=256, n_epochs=1)
def large_logistic() -> tuple[Any, Any, Any]:
    """200 000 rows of ten columns that are not centred."""
    rng = np.random.default_rng(19)
    x = rng.gamma(2.0, 1.0, size=(200_000, 10)) * np.linspace(0.2, 2, 10)
    return logistic, plane(10), (x, coin(rng, (x - x.mean(0)) @ rng.normal(size=10) / 2 - 1))
