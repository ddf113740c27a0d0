"""Data in chunks: the numbers of the same rows in memory, each row once an epoch, three chunks in memory, nothing left behind."""

import os
import signal
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd import Adam, GradientDescent, Result, Status
from jaxgd.callbacks import Every
from jaxgd.data import Chunks, chunks, memory
from tests.problems import line
from tests.test_resume import same

N = 203
X = np.linspace(-1.0, 2.0, N)
Y = 3 * X + 4 + 0.1 * np.sin(np.arange(N) * 7.0)
ROWS = (X, Y)


@pytest.fixture(autouse=True)
def no_threads() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("jaxgd")]


def fit(data: Any = ROWS, **options: Any) -> Result:
    default: dict[str, Any] = {"batch_size": 8, "n_epochs": 3, "key": 1, "method": Adam(0.05), "dtype": "float64"}
    return jaxgd.fit(line, [0.5, 0.5], data, **(default | options))


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("n_rows", [70, 8])
def test_rows_in_order_give_the_bits_of_rows_in_memory(n_rows: int) -> None:
    options: dict[str, Any] = {
        "shuffle": False,
        "history": ("params", "gradient_norm"),
        "validation": (X[:5], Y[:5]),
        "average": 0.4,
    }
    plain, parted = fit(**options), fit(Chunks(ROWS, n_rows), **options)
    for name in ("params", "n_steps", "n_epochs", "status"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(parted, name))
    for name in ("params", "validation_cost"):
        np.testing.assert_array_equal(getattr(plain.history, name), getattr(parted.history, name))
    for name in ("cost", "gradient_norm"):
        np.testing.assert_allclose(getattr(plain.history, name), getattr(parted.history, name), rtol=1e-12)
    np.testing.assert_allclose([parted.cost, parted.best.cost], [plain.cost, plain.best.cost], rtol=1e-12)


def seen_rows(n: int, n_rows: int, batch_size: int, n_epochs: int, key: int = 0) -> tuple[np.ndarray, list[Any]]:
    """How often each row was used, and the rows of each batch in their order."""
    orders: list[Any] = []

    def count(w: Any, rows: Any) -> Any:
        return -jnp.sum(w[rows])

    def note(progress: Any) -> None:
        orders.append(np.asarray(progress.params))

    data = Chunks(np.arange(n, dtype=np.int32), n_rows)
    options: dict[str, Any] = {"batch_size": batch_size, "n_epochs": n_epochs, "key": key, "dtype": "float32"}
    result = jaxgd.fit(count, np.zeros(n, np.float32), data, **options, method=GradientDescent(1.0), callback=Every(note, steps=1))
    steps = np.diff([np.zeros(n), *orders], axis=0)
    return np.asarray(result.params), [np.flatnonzero(step) for step in steps]


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(
    "n, n_rows, batch_size", [(203, 40, 8), (200, 40, 8), (203, 7, 1), (17, 16, 16), (203, 300, 20), (90, 30, 29)]
)
def test_every_row_once_an_epoch(n: int, n_rows: int, batch_size: int) -> None:
    counts, batches = seen_rows(n, n_rows, batch_size, n_epochs=3)
    np.testing.assert_array_equal(counts, 3)
    per_epoch = -(-n // batch_size)
    for epoch in range(3):
        sizes = [len(batch) for batch in batches[epoch * per_epoch : (epoch + 1) * per_epoch]]
        assert sizes == [batch_size] * (n // batch_size) + [n % batch_size] * (n % batch_size > 0)


def test_the_order_follows_from_the_key_and_differs_from_epoch_to_epoch() -> None:
    _, batches = seen_rows(203, 40, 8, 2, key=3)
    _, again = seen_rows(203, 40, 8, 2, key=3)
    _, others = seen_rows(203, 40, 8, 2, key=4)
    alike = [[np.array_equal(*pair) for pair in zip(batches, some, strict=True)] for some in (again, others)]
    assert all(alike[0]) and not any(alike[1])
    assert not any(np.array_equal(*pair) for pair in zip(batches[:26], batches[26:], strict=True))
    assert all(np.ptp(batch) >= 8 for batch in batches[:25])  # no batch is rows that lie one after the other


def mean(w: Any, rows: Any) -> Any:
    x, y = rows
    return jnp.mean(jnp.log(jnp.cosh(w[0] * x + w[1] - y)))


def total(w: Any, rows: Any) -> Any:
    return 0.1 * jnp.sum(w**2) + rows[0].shape[0] * mean(w, rows)


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("cost", [mean, total])
@pytest.mark.parametrize("method", [None, jaxgd.LBFGS(), Adam(0.1)], ids=["TrustRegion", "LBFGS", "Adam"])
def test_minimize_adds_up_over_chunks(cost: Any, method: Any) -> None:
    options: dict[str, Any] = {"method": method, "max_steps": 40, "dtype": "float64", "history": "gradient_norm"}
    runs: Any = (jaxgd.minimize(cost, [0.0, 0.0], data, **options) for data in (ROWS, Chunks(ROWS, 50)))
    plain, parted = runs
    np.testing.assert_allclose(parted.params, plain.params, rtol=1e-9)
    n_steps = min(parted.n_steps, plain.n_steps)  # the last may be one of rounding alone, and the order of a sum decides on it
    assert max(parted.n_steps, plain.n_steps) <= n_steps + 1
    np.testing.assert_allclose(parted.history.cost[: n_steps + 1], plain.history.cost[: n_steps + 1], rtol=1e-10)
    assert parted.status is plain.status


def aligned(array: np.ndarray) -> np.ndarray:
    """Return a copy whose first byte lies where JAX takes an array as it is, and keeps it for as long as it uses it."""
    room = np.empty(array.nbytes + 64, np.uint8)
    found = room[-room.ctypes.data % 64 :][: array.nbytes].view(array.dtype).reshape(array.shape)
    found[...] = array
    return found


class Watched:
    """An array whose slices are counted for as long as they live."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.living, self.most = 0, 0

    def __getitem__(self, rows: Any) -> np.ndarray:
        found = aligned(self.array[rows])
        self.living += 1
        self.most = max(self.most, self.living)
        weakref.finalize(found.base, self.gone)  # what every view of it keeps
        return found

    def gone(self) -> None:
        self.living -= 1


def test_three_chunks_in_memory_at_most() -> None:
    x = Watched(np.tile(X, 64))
    result = fit(Chunks((x, np.tile(Y, 64)), 64), batch_size=64)
    assert result.n_epochs == 3 and x.most <= 5  # three chunks, the sample, and one that JAX lets go of a moment later
    x.most = x.living
    jaxgd.minimize(mean, [0.0, 0.0], Chunks((x, np.tile(Y, 64)), 64), dtype="float64", max_steps=2)
    assert x.most <= 6 and x.living <= 2  # both samples


def test_a_memory_map_beyond_half_the_memory_is_read_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, array in (("x", X), ("y", Y)):
        np.save(tmp_path / f"{name}.npy", array)
    data = tuple(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("x", "y"))
    assert chunks.as_chunks(data) is None and memory.available() > 2**28
    plain = fit(data, shuffle=False)
    monkeypatch.setattr(memory, "available", lambda: 4 * N)
    monkeypatch.setattr(chunks, "_BYTES", 50 * 16)
    assert chunks.as_chunks(data) is not None and chunks.as_chunks(ROWS) is None
    np.testing.assert_array_equal(fit(data, shuffle=False).params, plain.params)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"on_nonfinite": "skip", "accumulate": 2, "average": jaxgd.ExponentialAverage(0.9)}])
def test_pauses_change_no_bit_and_runs_are_resumed_in_the_middle(options: dict[str, Any], tmp_path: Path) -> None:
    data = Chunks(ROWS, 40)
    plain = fit(data, **options)
    stopped = fit(data, **options, callback=Every(lambda progress: progress.step >= 21, steps=3))
    assert stopped.n_steps == 21 and same(fit(data, **options, resume=stopped), plain)
    save = jaxgd.Checkpoint(tmp_path, every_steps=7)
    fit(data, **options, checkpoint=save, callback=Every(lambda progress: progress.step >= 16, steps=16))
    assert same(fit(data, **options, checkpoint=save), plain)
    with pytest.raises(ValueError, match="data differs"):
        fit(Chunks(ROWS, 64), **options, resume=stopped)


@pytest.mark.slow
def test_a_search_a_cost_in_python_and_one_with_extras() -> None:
    race = fit(Chunks(ROWS, 40), method=None, n_epochs=60)
    assert race.status is Status.MAX_EPOCHS and race.tried is not None
    np.testing.assert_allclose(race.params, [4, 3], atol=0.1)
    np.testing.assert_allclose(fit(Chunks(ROWS, 40), jit=False).params, fit(Chunks(ROWS, 40)).params, rtol=1e-12)

    def cost(w: Any, rows: Any, key: Any, state: Any, training: bool) -> Any:
        return line(w, rows), state + int(training)

    run = jaxgd.fit(cost, [0.5, 0.5], Chunks(ROWS, 40), batch_size=8, n_epochs=3, key=1, cost_state=0, method=Adam(0.05))
    assert run.cost_state == run.n_steps == 78


def test_an_interrupt_returns_the_point_within_an_epoch() -> None:
    def interrupt(progress: Any) -> None:
        if progress.step == 12:
            os.kill(os.getpid(), signal.SIGINT)

    result = fit(Chunks(ROWS, 40), callback=Every(interrupt, steps=4))
    assert result.status is Status.INTERRUPTED and result.n_steps == 12
    assert same(fit(Chunks(ROWS, 40), resume=result), fit(Chunks(ROWS, 40)))


@pytest.mark.slow
def test_integers_of_64_bits_and_floats_that_overflow() -> None:
    labels = np.arange(N) % 3

    def cost(w: Any, rows: Any) -> Any:
        x, label = rows
        assert label.dtype == jnp.int32
        return jnp.mean((w[label] - x) ** 2)

    run = jaxgd.minimize(cost, np.zeros(3, np.float32), Chunks((X.astype(np.float32), labels), 50), dtype="float32")
    np.testing.assert_allclose(run.params, [X[labels == k].mean() for k in range(3)], rtol=1e-5)
    labels = labels + 2**40 * (np.arange(N) == 150)
    with pytest.raises(ValueError, match=r"data\[1\]: holds integers of"):
        jaxgd.minimize(cost, np.zeros(3, np.float32), Chunks((X.astype(np.float32), labels), 50), dtype="float32")
    huge = np.where(np.arange(N) == 150, 1e300, X)
    with pytest.raises(ValueError, match=r"data\[0\]: holds numbers of 1e\+300, beyond float32"):
        fit(Chunks((huge, Y), 40), dtype="float32")


@pytest.mark.slow
def test_numbers_that_are_not_finite_are_named_by_their_row() -> None:
    x = np.where(np.arange(N) == 150, np.nan, X)
    for run in (fit(Chunks((x, Y), 40)), jaxgd.minimize(mean, [0.0, 0.0], Chunks((x, Y), 40))):
        assert run.status is Status.NONFINITE_DATA and "data[0], row 150, is NaN" in str(run.cause)

    def masked(w: Any, rows: Any) -> Any:
        x, y = rows
        return jnp.nanmean((w[0] * x + w[1] - y) ** 2)

    with pytest.raises(ValueError, match="neither a mean nor a sum"):
        jaxgd.minimize(masked, [0.0, 0.0], Chunks((x, Y), 40))


def in_chunks(**options: Any) -> Any:
    return lambda: fit(Chunks(ROWS, 40), **options)


def by_minimize(cost: Any = mean, start: Any = (0.0, 0.0), **options: Any) -> Any:
    return lambda: jaxgd.minimize(cost, start, Chunks(ROWS, 40), **options)


WRONG: dict[str, Any] = {
    "Chunks: arrays: expected an array, such as numpy.load": lambda: Chunks("rows.npy"),
    r"Chunks: arrays\['x'\]: expected an array, such as .*, got 3": lambda: Chunks({"x": 3}),
    "Chunks: arrays: expected a pytree of arrays": lambda: Chunks({}),
    "Chunks: arrays: expected equally many rows": lambda: Chunks((X, Y[:5])),
    "Chunks: n_rows: expected an integer of at least 1, got 0": lambda: Chunks(X, 0),
    "shuffle: expected True or False for data that come in chunks": in_chunks(shuffle="replacement"),
    "batch_size: expected fewer than all 203 rows": in_chunks(batch_size=N),
    "batch_size: expected an integer from 1 to 203": in_chunks(batch_size=N + 1),
    "has_aux: expected False": in_chunks(has_aux=True),
    "validation: expected arrays, got Chunks of 40 rows": in_chunks(validation=Chunks(ROWS, 40)),
    "key: shuffle=True needs a random key": in_chunks(key=None),
    "n_starts: expected 1 for data that come in chunks": by_minimize(start=jaxgd.normal(2), n_starts=3, key=0),
    "data: the cost is neither a mean nor a sum": by_minimize(lambda w, rows: jnp.sqrt(mean(w, rows))),
    "cost_state: expected": by_minimize(lambda w, rows, state: (mean(w, rows), state), cost_state=0),
    "data: expected arrays inside jax.jit": lambda: jax_jit(fit),
}


def jax_jit(function: Any) -> Any:
    import jax

    return jax.jit(
        lambda start: jaxgd.fit(line, start, Chunks(ROWS, 40), batch_size=8, n_epochs=1, key=0, method=Adam(0.1)).params
    )(np.zeros(2))


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments(message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        WRONG[message]()
