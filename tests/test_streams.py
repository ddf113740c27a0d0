"""Streams of batches: the numbers of the same rows in memory, batches fetched ahead, clear errors, nothing lost or left behind."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd import Adam, Result, Status
from jaxgd.callbacks import Every
from jaxgd.data import Stream, StreamError, stream
from tests.problems import line
from tests.test_chunks import ROWS, N, X, Y, mean, no_threads, total
from tests.test_resume import same

assert no_threads  # used by itself in every test
SIZE = 8
BATCHES = [(X[k : k + SIZE], Y[k : k + SIZE]) for k in range(0, N, SIZE)]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk of a stream has three batches."""
    monkeypatch.setattr(stream, "_BYTES", 3 * SIZE * 16)


def fit(data: Any, **options: Any) -> Result:
    default: dict[str, Any] = {"batch_size": SIZE, "n_epochs": 3, "method": Adam(0.05), "dtype": "float64"}
    return jaxgd.fit(line, [0.5, 0.5], data, **(default | options))


def whole(**options: Any) -> Stream:
    return Stream(lambda: iter(BATCHES), **options)


def shifted(epoch: int) -> Iterator[Any]:
    """Another order in every epoch; the smaller batch stays the last."""
    yield from (BATCHES[(k + 5 * epoch) % 25] for k in range(25))
    yield BATCHES[25]


@pytest.mark.parametrize("n_rows", [None, N])
def test_a_stream_gives_the_bits_of_its_rows_in_memory(n_rows: int | None) -> None:
    options: dict[str, Any] = {"history": "params", "validation": (X[:5], Y[:5]), "average": 0.4}
    runs: Any = fit(ROWS, shuffle=False, **options), fit(whole(n_rows=n_rows), **options)
    for name in ("params", "n_steps", "n_epochs", "status"):
        np.testing.assert_array_equal(*(getattr(run, name) for run in runs))
    np.testing.assert_array_equal(*(run.history.params for run in runs))
    np.testing.assert_allclose(*([run.cost, run.best.cost, *run.history.cost] for run in runs), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("cost", [mean, total])
def test_minimize_adds_up_over_a_stream(cost: Any) -> None:
    runs = [jaxgd.minimize(cost, [0.0, 0.0], data, method=jaxgd.LBFGS(), dtype="float64") for data in (ROWS, whole())]
    np.testing.assert_allclose(*(run.params for run in runs), rtol=1e-8)
    assert all(run.converged for run in runs)


def test_the_cost_may_be_that_of_the_last_epoch() -> None:
    passes = []

    def make_batches(epoch: int) -> Any:
        passes.append(epoch)
        return shifted(epoch)

    result: Any = fit(Stream(make_batches, N, evaluate=False), history="gradient_norm", n_epochs=2)
    assert result.in_parts == {"last epoch": 26} and "last epoch" in str(result)
    assert result.cost == result.history.cost[-1] and np.all(np.isnan(result.gradient))
    assert passes.count(1) == 1


def test_batches_are_fetched_while_others_are_computed_with() -> None:
    fetched = []

    def make_batches() -> Iterator[Any]:
        for number, batch in enumerate(BATCHES):
            fetched.append(number)
            yield batch

    def late(progress: Any) -> None:
        time.sleep(0.02)
        ahead.append(len(fetched) - (progress.step - 1) % 26 - 1)

    ahead: list[int] = []
    fit(Stream(make_batches, N, evaluate=False), n_epochs=1, callback=Every(late, steps=1))
    assert max(ahead[3:15]) <= 3 * 3 + 1  # three chunks, and what the first look took
    assert min(ahead[3:15]) >= 3


def broken(kind: str, at: int, epoch: int) -> Stream:
    """A stream that is wrong in one way, from one batch of one epoch on."""

    def make_batches(number: int) -> Iterator[Any]:
        for k, (x, y) in enumerate(BATCHES):
            if number == epoch and k == at and kind != "more":
                if kind == "ended":
                    return
                if kind == "raised":
                    raise OSError("the disk is gone")
                wrong = {
                    "structure": {"x": x, "y": y},
                    "shape": (x[:, None], y),
                    "dtype": (x.astype(np.float32), y),
                    "rows": (x[:3], y[:3]),
                    "lengths": (x, y[:3]),
                    "large": (np.tile(x, 2), np.tile(y, 2)),
                    "objects": (np.array([None] * len(x)), y),
                }
                yield wrong[kind]
            else:
                yield x, y
        if number == epoch and kind == "more":
            yield BATCHES[0]

    return Stream(make_batches, N)


KINDS = {
    "ended": "ended after batch {before} of epoch {epoch}, with {rows} rows",
    "raised": "raised OSError in batch {at} of epoch {epoch}: the disk is gone",
    "structure": r"batch {at} of epoch {epoch}: expected the structure of the first batch, \(\*, \*\), got {{'x': \*, 'y': \*}}",
    "shape": r"batch {at} of epoch {epoch}: the batch\[0\]: expected float64 rows of the shape \(\), .* got .* \(1,\)",
    "dtype": r"batch {at} of epoch {epoch}: the batch\[0\]: expected float64 .*got float32",
    "rows": "batch {at} of epoch {epoch} has 3 rows, expected 8: only the last",
    "lengths": "batch {at} of epoch {epoch}: the batch: expected equally many rows",
    "large": "batch {at} of epoch {epoch} has 16 rows, expected at most 8",
    "objects": r"batch {at} of epoch {epoch}: the batch\[0\].*: expected numbers, got None",
    "more": "batch 25 of epoch {epoch} has 3 rows, expected 8: only the last",
}


def check_broken(kind: str, at: int, epoch: int, plain: Result) -> None:
    message = KINDS[kind].format(at=at, before=at - 1, epoch=epoch, rows=SIZE * at)
    with pytest.raises(StreamError, match=message) as raised:
        fit(broken(kind, at, epoch))
    result = raised.value.result
    reached = epoch * 26 + (25 if kind == "more" else at) // 3 * 3
    if result is None:
        assert reached == 0
        return
    assert result.status is Status.INTERRUPTED and result.n_steps == reached
    if at == 13:
        with pytest.warns(RuntimeWarning, match=f"read again up to batch {reached - epoch * 26} of epoch {epoch}"):
            assert same(fit(whole(n_rows=N), resume=result), plain)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_stream_is_named_and_nothing_is_lost(kind: str) -> None:
    check_broken(kind, 13, 1, fit(whole(n_rows=N)))


@pytest.mark.slow
def test_a_thousand_broken_streams() -> None:
    draw, plain = np.random.default_rng(0), fit(whole(n_rows=N))
    for _ in range(1000):
        check_broken(str(draw.choice(list(KINDS))), int(draw.integers(1, 25)), int(draw.integers(3)), plain)


class Stateful:
    """A loader whose iterator knows its place, as that of Grain."""

    def __init__(self) -> None:
        self.fetched: list[int] = []

    def __iter__(self) -> "Stateful":
        self.place = 0
        return self

    def __next__(self) -> Any:
        if self.place == len(BATCHES):
            raise StopIteration
        self.fetched.append(self.place)
        self.place += 1
        return BATCHES[self.place - 1]

    def get_state(self) -> dict[str, int]:
        return {"place": self.place}

    def set_state(self, state: dict[str, int]) -> None:
        self.place = state["place"]


class StatefulLoader(Stateful):
    """The same, where the loader knows the place, as that of torchdata."""

    def __iter__(self) -> "StatefulLoader":
        self.place = self.__dict__.pop("loaded", 0)
        return self

    get_state = set_state = property()  # type: ignore[assignment]

    def state_dict(self) -> dict[str, int]:
        return {"place": self.place}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.loaded = state["place"]


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("kind", [Stateful, StatefulLoader])
@pytest.mark.parametrize("steps", [7, 34, 36])
def test_a_run_goes_on_in_a_stream_that_knows_its_place(kind: Any, steps: int, tmp_path: Path) -> None:
    plain = fit(whole(n_rows=N))
    stop = Every(lambda progress: progress.step >= steps, steps=steps)
    some = fit(Stream(kind, N), callback=stop)
    assert some.n_steps == steps
    loader = kind()
    assert same(fit(Stream(lambda: loader, N), resume=some), plain)
    first = steps % 26 // 3 * 3
    assert loader.fetched[1 : 4 + 1] == list(range(first, first + 4))  # after the first batch, which tells the shapes
    save = jaxgd.Checkpoint(tmp_path, every_epochs=1)
    fit(Stream(kind, N), callback=stop, checkpoint=save)
    assert same(fit(Stream(kind, N), checkpoint=save), plain)


@pytest.mark.slow
def test_a_search_and_several_batches_to_a_step() -> None:
    race = fit(whole(n_rows=N), method=None, n_epochs=60)
    np.testing.assert_allclose(race.params, [4, 3], atol=0.1)
    np.testing.assert_allclose(fit(whole(), accumulate=3).params, fit(ROWS, accumulate=3, shuffle=False).params, rtol=1e-12)
    np.testing.assert_allclose(fit(whole(), jit=False).params, fit(whole()).params, rtol=1e-12)


@pytest.mark.slow
def test_a_loader_of_grain() -> None:
    grain = pytest.importorskip("grain")
    rows = grain.MapDataset.source([{"x": x, "y": y} for x, y in zip(X, Y, strict=True)])

    def cost(w: Any, batch: Any) -> Any:
        return line(w, (batch["x"], batch["y"]))

    options: dict[str, Any] = {"batch_size": SIZE, "n_epochs": 3, "method": Adam(0.05), "dtype": "float64"}
    ordered = Stream(lambda: rows.batch(SIZE).to_iter_dataset(), N)
    np.testing.assert_array_equal(jaxgd.fit(cost, [0.5, 0.5], ordered, **options).params, fit(ROWS, shuffle=False).params)
    drawn = Stream(lambda epoch: rows.shuffle(seed=epoch).batch(SIZE).to_iter_dataset(), N)
    stop = Every(lambda progress: progress.step >= 34, steps=34)
    some = jaxgd.fit(cost, [0.5, 0.5], drawn, **options, callback=stop)
    assert same(jaxgd.fit(cost, [0.5, 0.5], drawn, **options, resume=some), jaxgd.fit(cost, [0.5, 0.5], drawn, **options))


@pytest.mark.slow
def test_a_loader_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    table = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    loader = torch.utils.data.DataLoader(table, batch_size=SIZE)
    np.testing.assert_array_equal(fit(Stream(lambda: loader)).params, fit(ROWS, shuffle=False).params)


def make_nothing() -> Any:
    return iter(())


not_callable: Any = BATCHES
number: Any = 3
WRONG: dict[str, Any] = {
    "Stream: make_batches: expected a function that returns an iterable of batches, got .*: pass a function": lambda: Stream(
        not_callable
    ),
    "Stream: n_rows: expected an integer of at least 1, got 0": lambda: whole(n_rows=0),
    "shuffle: expected None or False for a stream": lambda: fit(whole(), shuffle=True, key=0),
    "batch_size: expected 8, the rows of the first batch of the stream, got 4": lambda: fit(whole(), batch_size=4),
    "data: the stream is empty in epoch 0": lambda: fit(Stream(make_nothing)),
    "data: the stream raised TypeError in epoch 0: 'int' object is not iterable": lambda: fit(Stream(lambda: number)),
    "validation: expected arrays, got a Stream": lambda: fit(ROWS, validation=whole(), shuffle=False),
    "has_aux: expected False": lambda: fit(whole(), has_aux=True),
    "data: the stream has more than the 192 rows expected of an epoch, with batch 24 of epoch 0": lambda: fit(
        Stream(lambda: iter(BATCHES[:25]), 192)
    ),
    "data: the cost is neither": lambda: jaxgd.minimize(lambda w, rows: jnp.sqrt(mean(w, rows)), [0.0, 0.0], whole()),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments(message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        WRONG[message]()
