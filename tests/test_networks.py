"""Networks of Flax NNX and Equinox with dropout and batch normalisation train, and are saved, as any other cost is."""

import runpy
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxgd
from jaxgd.callbacks import Every
from tests.test_resume import same

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(120, 64)).astype(np.float32)
LABELS = (np.abs(IMAGES[:, 0] + 0.3 * IMAGES[:, 1]) > 0.7).astype(np.int32)
DATA = (IMAGES, LABELS)
OPTIONS: dict[str, Any] = {
    "batch_size": 24,
    "n_epochs": 12,
    "key": 1,
    "method": jaxgd.Adam(0.01),
    "validation": (IMAGES[:30], LABELS[:30]),
}


@pytest.fixture(autouse=True)
def standard_promotion() -> Any:
    """Their layers count on JAX's own rules."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def check(cost: Any, start: Any, state: Any) -> jaxgd.Result:
    """Train, and pause within an epoch: the bits are the same; the cost falls, and is that of the last state."""

    def fit(**options: Any) -> jaxgd.Result:
        return jaxgd.fit(cost, start, DATA, cost_state=state, **OPTIONS, **options)

    run = fit()
    paused = fit(callback=Every(lambda progress: progress.step == 28, steps=7))
    assert paused.n_steps == 28 and same(fit(resume=paused), run)
    assert float(run.cost) < 0.6 * float(run.start_cost)
    other: dict[str, Any] = OPTIONS | {"key": 2}
    assert not same(jaxgd.fit(cost, start, DATA, cost_state=state, **other), run)
    return run


@pytest.mark.slow
def test_equinox() -> None:
    equinox = pytest.importorskip("equinox")
    example = runpy.run_path(str(Path(__file__).parent.parent / "examples" / "batch_norm.py"))
    network, state = equinox.nn.make_with_state(example["Network"])(jax.random.key(0), 0.2)
    run = check(example["cost"], network, state)
    assert isinstance(run.params, type(network))
    still = equinox.nn.inference_mode(run.params)
    scores, _ = example["scores"](still, IMAGES, run.cost_state, jax.random.key(3))
    expected = optax.softmax_cross_entropy_with_integer_labels(scores, LABELS).mean()
    np.testing.assert_allclose(run.cost, expected, rtol=1e-5)


@pytest.mark.slow
def test_flax() -> None:
    nnx: Any = pytest.importorskip("flax.nnx")

    class Network(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            self.first, self.second = nnx.Linear(64, 32, rngs=rngs), nnx.Linear(32, 2, rngs=rngs)
            self.norm, self.dropout = nnx.BatchNorm(32, rngs=rngs), nnx.Dropout(0.2)

        def __call__(self, x: Any, rngs: Any = None) -> Any:
            return self.second(self.dropout(nnx.relu(self.norm(self.first(x))), rngs=rngs))

    model = Network(nnx.Rngs(0))
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def cost(params: Any, batch: Any, state: Any, key: Any, training: bool) -> Any:
        x, y = batch
        network = nnx.merge(graph, params, state, copy=True)
        network.train() if training else network.eval()
        scores = network(x, rngs=nnx.Rngs(dropout=key))
        state = nnx.split(network, nnx.Param, ...)[2]
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(scores, y)), state

    run = check(cost, params, rest)
    nnx.update(model, run.params, run.cost_state)
    model.eval()
    expected = optax.softmax_cross_entropy_with_integer_labels(model(IMAGES), LABELS).mean()
    np.testing.assert_allclose(run.cost, expected, rtol=1e-5)
    assert np.any(np.asarray(model.norm.mean[...]) != 0)
