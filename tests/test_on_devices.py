"""What `fit` does otherwise on a GPU than on a processor: loops of known length and larger blocks, done here on the processor."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd import Status, _fit
from jaxgd._compile.jaxprs import all_jaxprs
from jaxgd._run import end, fused
from jaxgd.data import source
from jaxgd.data.shuffle import seed
from tests import test_callbacks
from tests.test_shuffle import orders

DESCENT = jaxgd.GradientDescent(0.25)
ROWS = np.random.default_rng(1).normal(size=301)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 40 batches at most, and loops of known length from two batches on."""
    monkeypatch.setattr(source, "_DEVICE_BATCHES", 40)
    monkeypatch.setattr(fused, "_FEW", 2)


@pytest.fixture(params=[True, False], ids=["host", "device"])
def on_host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fit, "is_cpu", lambda: request.param)


def distance(x: Any, rows: Any) -> Any:
    return jnp.mean((x - rows) ** 2) / 2


def test_which_loops_a_device_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def lengths() -> set[int]:
        run = jax.make_jaxpr(lambda: jaxgd.fit(distance, 0.0, ROWS, batch_size=3, n_epochs=2, key=0, method=DESCENT).params)
        equations = (eqn for jaxpr in all_jaxprs(run().jaxpr) for eqn in jaxpr.eqns)
        return {eqn.params["length"] for eqn in equations if eqn.primitive.name == "scan"}

    monkeypatch.setattr(_fit, "is_cpu", lambda: True)
    on_a_processor = lengths()
    monkeypatch.setattr(_fit, "is_cpu", lambda: False)
    assert lengths() - on_a_processor >= {34 + 2, 1}  # three blocks of the 101 batches, four turns together; the last batch


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [1, 3, 7, 43, 150])
def test_the_trajectory(batch_size: int, shuffle: bool, on_host: None) -> None:
    options: dict[str, Any] = {"batch_size": batch_size, "n_epochs": 3, "key": 0, "shuffle": shuffle, "dtype": "float64"}
    seen = jaxgd.fit(distance, 5.0, ROWS, method=DESCENT, history="cost", **options)
    in_order = np.tile(np.arange(301), (3, 1))
    x, costs = 5.0, np.zeros(3)
    for epoch, rows in enumerate(orders(301, 3, seed(jax.random.key(0))) if shuffle else in_order):
        for batch in np.split(ROWS[rows], np.arange(batch_size, 301, batch_size)):
            costs[epoch] += len(batch) / 301 * np.mean((x - batch) ** 2) / 2
            x = x - 0.25 * np.mean(x - batch)
    assert seen.history is not None and seen.status is Status.MAX_EPOCHS
    np.testing.assert_allclose(seen.params, x, rtol=1e-12)
    np.testing.assert_allclose(seen.history.cost[1:], costs, rtol=1e-12)


@pytest.mark.parametrize("place", [0, 5, 29, 150, 300])
def test_the_end_within_a_block(place: int, on_host: None) -> None:
    """The batch in which the cost is not finite, and the one after whose update the run ends, are those of the loop by hand."""
    rows, options = np.ones(301), {"batch_size": 1, "n_epochs": 2, "shuffle": False, "dtype": "float64"}
    rows[place] = np.nan
    broken = jaxgd.fit(distance, 0.0, rows, method=DESCENT, **options)
    assert broken.status is Status.NONFINITE_DATA and broken.n_steps == max(place - 1, 0)
    np.testing.assert_allclose(broken.params, 1 - 0.75 ** max(place - 1, 0))
    rows[place] = 0.0
    stop = jaxgd.stopping.UpdateTolerance(1e-3)
    ended = jaxgd.fit(lambda x, rows: -x * jnp.mean(rows), 0.0, rows, method=jaxgd.GradientDescent(1.0), stop=stop, **options)
    assert (ended.status, ended.n_steps, float(ended.params)) == (Status.UPDATE_TOLERANCE, place, place)


@pytest.mark.parametrize("shape", test_callbacks.SHAPES)
def test_pauses_change_no_bit(shape: str, on_host: None, monkeypatch: pytest.MonkeyPatch) -> None:
    test_callbacks.test_a_pause_within_an_epoch_changes_no_bit(shape, 1, monkeypatch)


def test_skipped_steps_and_lanes(on_host: None) -> None:
    rows = np.where(np.arange(301) % 50 == 7, np.nan, 1.0)
    options: dict[str, Any] = {"batch_size": 2, "n_epochs": 2, "shuffle": False, "method": DESCENT, "dtype": "float64"}
    skipping = jaxgd.fit(distance, 0.0, rows, on_nonfinite="skip", **options)
    assert skipping.n_steps == 2 * (151 - 6)
    np.testing.assert_allclose(skipping.params, 1, rtol=1e-15)
    starts, ones = np.array([0.0, 3.0]), np.ones(301)
    options |= {"dtype": None}
    lanes = jax.vmap(lambda start: jaxgd.fit(distance, start, ones, **options).params)(jnp.asarray(starts))
    np.testing.assert_allclose(lanes, 1 + (starts - 1) * 0.75**302, rtol=1e-6)


def test_the_cost_alone_of_the_start_of_large_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best point of a run that rises is the start, whose cost is found without its gradient where the data are large."""
    options: dict[str, Any] = {"batch_size": 43, "n_epochs": 1, "key": 0, "method": jaxgd.GradientDescent(2.5), "dtype": "float64"}
    whole = jaxgd.fit(distance, 0.5, ROWS, **options)
    monkeypatch.setattr(end, "_LARGE", 1)
    alone = jaxgd.fit(distance, 0.5, ROWS, **options)
    assert alone.status is whole.status is Status.WORSE and float(alone.best.params) == 0.5
    np.testing.assert_allclose(alone.best.cost, np.mean((0.5 - ROWS) ** 2) / 2, rtol=1e-14)
    np.testing.assert_array_equal(alone.cost, whole.cost)
