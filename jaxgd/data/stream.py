"""Streams: data in batches that a callable makes anew for every epoch."""

import contextlib
import inspect
import pickle
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jax.tree_util import keystr

from jaxgd._checks import check, check_arrays, check_trees
from jaxgd.data import shuffle as orders
from jaxgd.data.feed import Cuts, Feed, Piece, row_bytes
from jaxgd.data.source import Batches

_BYTES = 2**22  # of a chunk
_SOUGHT_IN, _SOUGHT_BYTES = 2**14, 2**26  # rows in which a learning rate is sought, and their bytes, at most


class Stream:
    """Data in batches that come from an iterable, for the argument `data` of `fit` and `minimize`.

    Batches are fetched by a thread while the ones before are computed with. Each is a pytree of arrays of equal leading length, the
    rows, and has as many as the `batch_size` of `fit`; the last one of an epoch may have fewer. A stream brings its own order.

    Args:
        make_batches: a function that returns a fresh iterable of the batches of an epoch, such as a loader of Grain or PyTorch, a
            generator, or the iterator of a TensorFlow dataset. It is called for every epoch, also for those in which costs over all
            rows are found, as make_batches(epoch), with an integer from 0 on, where it has such a parameter, else as
            make_batches().
        n_rows: rows in an epoch, >= 1; None counts them in a pass over the stream before the run.
        evaluate: whether `fit` finds the cost over all rows at the end, in a pass over the stream for each point of which it has to
            be known. Otherwise the cost of the result is the mean cost of the last epoch's batches, each at the parameters before
            its update, the gradient is NaN, and `in_parts` says so.

    A stream that ends early, has too many rows, is empty, or changes its structure, shapes or dtypes raises a `StreamError`.

    A run that is resumed within an epoch sets the stream to its place where the iterator has `get_state` and `set_state`, as that
    of Grain, or the iterable `state_dict` and `load_state_dict`, as a loader of torchdata. Other streams are read again up to that
    place, with a warning. The state is pickled: resume only from files that you trust.

    >>> import jax.numpy as jnp, numpy as np, jaxgd
    >>> def make_batches():
    ...     for k in range(10):
    ...         yield np.arange(10.0) + 10 * k
    >>> stream = jaxgd.data.Stream(make_batches, n_rows=100)
    >>> cost = lambda centre, batch: jnp.mean((batch - centre) ** 2)
    >>> result = jaxgd.minimize(cost, 0.0, stream, dtype="float64")
    >>> round(float(result.params), 6)
    49.5
    """

    def __init__(self, make_batches: Callable[..., Iterable[Any]], n_rows: int | None = None, *, evaluate: bool = True) -> None:
        if not callable(make_batches):
            cure = ": pass a function that returns it, as in lambda: loader" if isinstance(make_batches, Iterable) else ""
            got = check.show(make_batches)
            raise TypeError(f"Stream: make_batches: expected a function that returns an iterable of batches, got {got}{cure}.")
        self.make_batches, self.takes_epoch = make_batches, _takes_epoch(make_batches)
        self.n_rows = check.integer_or_none("Stream: n_rows", n_rows, 1)
        check.flag("Stream: evaluate", evaluate)
        self.evaluate = bool(evaluate)

    def __repr__(self) -> str:
        return "a Stream" + (f" of {self.n_rows} rows" if self.n_rows else "")


class StreamError(ValueError):
    """An error in a stream, or raised by it, which names the batch.

    Attributes:
        result: what `fit` had reached: a `Result` as of a run that was interrupted, from which `resume=` goes on with a stream that
            is mended; None before the first step. Its costs are those of the last epoch's batches.

    >>> import jax.numpy as jnp, numpy as np, jaxgd
    >>> def make_batches(epoch):
    ...     for k in range(5 if epoch < 3 else 2):
    ...         yield np.ones(4)
    >>> data = jaxgd.data.Stream(make_batches, n_rows=20)
    >>> options = {"batch_size": 4, "n_epochs": 10, "method": jaxgd.GradientDescent(0.1)}
    >>> try:
    ...     jaxgd.fit(lambda x, batch: jnp.mean((x - batch) ** 2), 0.0, data, **options)
    ... except jaxgd.data.StreamError as error:
    ...     print(error)
    ...     print(error.result.n_steps)
    data: the stream ended after batch 1 of epoch 3, with 8 rows of this epoch, expected 20.
    15
    """

    result: Any = None


class _Batch(NamedTuple):
    """A batch as it came: its leaves as arrays, its structure, and its rows."""

    leaves: list[Any]
    structure: Any
    n_rows: int


class _Epoch:
    """The batches of one epoch of a stream, each checked, from a place on.

    Args:
        stream: the stream.
        number: the number of the epoch.
        first: a batch that all have to be like; None where the first of this epoch is.
        state: the state of the stream at that place, pickled; None where there is none.
        skipped: how many batches come before the place.
    """

    def __init__(self, stream: Stream, number: int, first: _Batch | None, *, state: bytes | None = None, skipped: int = 0) -> None:
        self.number, self.first, self.next, self.before = number, first, 0, 0
        with _explained(f"in epoch {number}"):
            self.iterable = stream.make_batches(number) if stream.takes_epoch else stream.make_batches()
            if state is not None and hasattr(self.iterable, "load_state_dict"):
                self.iterable.load_state_dict(pickle.loads(state))  # type: ignore[attr-defined]
            self.iterator = iter(self.iterable)
            if state is not None and hasattr(self.iterator, "set_state"):
                self.iterator.set_state(pickle.loads(state))  # type: ignore[attr-defined]
        if state is not None:
            self.next = skipped
        while self.next < skipped:
            if self.batch() is None:
                break

    @property
    def place(self) -> str:
        """The place of the batch that is fetched, in words."""
        return f"batch {self.next} of epoch {self.number}"

    @property
    def state(self) -> bytes | None:
        """The state of the stream, pickled; None where it has none to tell."""
        with _explained(f"before {self.place}"):
            if hasattr(self.iterator, "get_state") and hasattr(self.iterator, "set_state"):
                return pickle.dumps(self.iterator.get_state())  # type: ignore[attr-defined]
            if hasattr(self.iterable, "state_dict") and hasattr(self.iterable, "load_state_dict"):
                return pickle.dumps(self.iterable.state_dict())  # type: ignore[attr-defined]
        return None

    def batch(self) -> _Batch | None:
        """Return the next batch; None where there is none."""
        with _explained(f"in {self.place}"):
            try:
                batch = next(self.iterator)
            except StopIteration:
                return None
        try:
            found = _checked(batch, self.first)
        except (TypeError, ValueError) as error:
            raise StreamError(f"data: {self.place}: {error}") from None
        size = found.n_rows if self.first is None else self.first.n_rows
        if self.before and self.before < size:
            before = f"batch {self.next - 1} of epoch {self.number}"
            raise StreamError(f"data: {before} has {self.before} rows, expected {size}: only the last batch may have fewer.")
        if found.n_rows > size:
            raise StreamError(f"data: {self.place} has {found.n_rows} rows, expected at most {size}.")
        self.first = self.first or found
        self.next, self.before = self.next + 1, found.n_rows
        return found

    def close(self) -> None:
        """Close the iterator, if it can be."""
        close = getattr(self.iterator, "close", None)
        if callable(close):
            close()


def _checked(batch: Any, first: _Batch | None) -> _Batch:
    """Return a batch whose structure, shapes and dtypes were checked, and compared with those of the first."""
    named, structure = check_trees.flattened("the batch", batch)
    leaves = [check_arrays.number_array("the batch" + keystr(path), leaf, boolean=True) for path, leaf in named]
    if not leaves:
        raise ValueError(f"expected a pytree of arrays, got {check.show(batch)}.")
    found = _Batch(leaves, structure, check_trees.rows("the batch", structure.unflatten(leaves)))
    if first is None:
        return found
    if structure != first.structure:
        raise ValueError(f"expected the structure of the first batch, {_layout(first)}, got {_layout(found)}.")
    for (path, _), leaf, other in zip(named, leaves, first.leaves, strict=True):
        if (leaf.shape[1:], leaf.dtype) != (other.shape[1:], other.dtype):
            expected, got = (f"{array.dtype} rows of the shape {array.shape[1:]}" for array in (other, leaf))
            raise ValueError(f"the batch{keystr(path)}: expected {expected}, as in the first batch, got {got}.")
    return found


def _layout(batch: _Batch) -> str:
    return check_trees.layout(batch.structure.unflatten(batch.leaves))


@contextlib.contextmanager
def _explained(place: str) -> Iterator[None]:
    """Raise what a stream raises as a `StreamError` that names the place."""
    try:
        yield
    except StopIteration:
        raise
    except Exception as error:
        raise StreamError(f"data: the stream raised {type(error).__name__} {place}: {error}") from error


class StreamFeed(Feed):
    """The batches of a run, fetched from a stream.

    Args:
        stream: the stream.
        dtype: the precision of floats, or None.
    """

    brings_order = True

    def __init__(self, stream: Stream, dtype: Any) -> None:
        self.stream, self.evaluates = stream, stream.evaluate
        self.kept: tuple[int, int, bytes] | None = None  # the epoch and the place of a state of the stream, and that
        self.before: bytes | None = None  # the state of the stream before the chunk in use
        first, n_rows = _counted(stream)
        super().__init__(n_rows)
        self.first, self.size, self.structure = first, first.n_rows, first.structure
        self.sample = check_trees.data_arrays("data", self.structure.unflatten(first.leaves), dtype)

    @property
    def identity(self) -> Any:
        return self.cuts, str(self.structure), [f"{leaf.dtype}{leaf.shape[1:]}" for leaf in self.first.leaves]

    def check(self, batch_size: int) -> None:
        if batch_size != self.size:
            raise ValueError(f"batch_size: expected {self.size}, the rows of the first batch of the stream, got {batch_size}.")

    def cut(self, batch_size: int | None) -> None:
        self.cuts = Cuts.of(self.sample, self.n_rows, batch_size or self.size, None, _BYTES)

    def batches(self, like: Any) -> Batches:
        """Return the first batches as data of their own, from which a learning rate is sought."""
        wanted, found = max(min(_SOUGHT_IN, _SOUGHT_BYTES // row_bytes(self.sample)), like.batch_size), []
        epoch = _Epoch(self.stream, 0, self.first)
        while len(found) * self.size < wanted and (batch := epoch.batch()) is not None:
            found.append(batch)
        epoch.close()
        n_rows = sum(batch.n_rows for batch in found)
        return Batches(self._joined(found, n_rows), like.seed, like.shuffle, n_rows, like.batch_size)

    def pieces(self, epoch: int, place: int, seed: orders.Seed, *, shuffled: bool) -> Iterator[Piece]:
        for number in range(epoch, self.n_epochs):
            yield from self._chunks(number, place, padded=True)
            place = 0

    def all_pieces(self) -> Iterator[Piece]:
        yield from self._chunks(0, 0, padded=False)

    def _chunks(self, number: int, place: int, *, padded: bool) -> Iterator[Piece]:
        """Yield the chunks of an epoch from a place on, the last perhaps padded to the size of others."""
        cuts = self.cuts
        skipped = place * cuts.chunk_rows // self.size
        state = self._known(number, place) if padded else None
        epoch = _Epoch(self.stream, number, self.first, state=state, skipped=skipped)
        try:
            for at in range(place, cuts.n_chunks):
                rows, is_last = cuts.rows_of(at), at + 1 == cuts.n_chunks
                batches = [self._one(epoch) for _ in range(-(-rows // self.size))]
                self._check_rows(epoch, batches, at, is_last=is_last)
                data = self._joined(batches, cuts.chunk_rows if padded else rows)
                yield Piece(data, rows, at, rows < cuts.chunk_rows, is_last, epoch.state if padded and not is_last else None)
        finally:
            epoch.close()

    def _known(self, epoch: int, place: int) -> bytes | None:
        """Return the state of the stream at a place, if it was kept."""
        *at, state = self.kept or (None, None)
        return state if at == [epoch, place] else None

    def _one(self, epoch: _Epoch) -> _Batch:
        """Return the next batch of an epoch that is not over."""
        batch = epoch.batch()
        if batch is None and not epoch.next:
            raise StreamError(f"data: the stream is empty in epoch {epoch.number}.")
        if batch is None:
            raise StreamError(self._ended(epoch, (epoch.next - 1) * self.size + (epoch.before or self.size)))
        return batch

    def _check_rows(self, epoch: _Epoch, batches: list[_Batch], place: int, *, is_last: bool) -> None:
        """Check that a chunk has all its rows, and the last one no more than these."""
        rows = sum(batch.n_rows for batch in batches)
        if rows < self.cuts.rows_of(place):
            epoch.batch()  # if there is another one, the smaller one before it is the error
            raise StreamError(self._ended(epoch, place * self.cuts.chunk_rows + rows))
        if rows > self.cuts.rows_of(place) or (is_last and epoch.batch() is not None):
            where = f"{self.n_rows} rows expected of an epoch, with batch {epoch.next - 1} of epoch {epoch.number}"
            raise StreamError(f"data: the stream has more than the {where}.")

    def _ended(self, epoch: _Epoch, rows: int) -> str:
        where = f"batch {epoch.next - 1} of epoch {epoch.number}, with {rows} rows of this epoch"
        return f"data: the stream ended after {where}, expected {self.n_rows}."

    def _joined(self, batches: list[_Batch], n_rows: int) -> Any:
        """Return batches as one on the device, filled up to a number of rows."""

        def join(first: Any, *others: Any) -> np.ndarray:
            joined = np.concatenate([np.asarray(leaf) for leaf in (first, *others)]) if others else np.asarray(first)
            return joined if len(joined) == n_rows else np.resize(joined, (n_rows, *joined.shape[1:]))

        columns: Any = zip(*[batch.leaves for batch in batches], strict=True)
        return self.on_device("data", self.structure.unflatten([join(*column) for column in columns]))

    def _go_to(self, epoch: int, place: int, like: Any) -> None:
        following = self.place is not None and self.cuts.after(*self.place) == (epoch, place)
        known = self._known(epoch, place)
        before = self.piece.state if following and self.piece else known
        if place and not following and known is None:
            skipped = place * self.cuts.chunk_rows // self.size
            message = f"data: the stream is read again up to batch {skipped} of epoch {epoch}, where the run goes on."
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        super()._go_to(epoch, place, like)
        self.before = before

    def position(self, epoch: int, batch: int) -> np.ndarray | None:
        place = batch // self.cuts.chunk_batches
        state = None
        if place and self.piece is not None:
            state = self.before if self.place == (epoch, place) else self.piece.state if self.place == (epoch, place - 1) else None
        return None if state is None else np.frombuffer(pickle.dumps((epoch, place, state)), np.uint8)

    def reopen(self, position: np.ndarray) -> None:
        self.kept = pickle.loads(np.asarray(position).tobytes())


def _counted(stream: Stream) -> tuple[_Batch, int]:
    """Return the first batch of a stream, and the rows of an epoch."""
    epoch = _Epoch(stream, 0, None)
    try:
        first = epoch.batch()
        if first is None:
            raise StreamError("data: the stream is empty in epoch 0.")
        if stream.n_rows is not None:
            return first, stream.n_rows
        n_rows = first.n_rows
        while (batch := epoch.batch()) is not None:
            n_rows += batch.n_rows
        return first, n_rows
    finally:
        epoch.close()


def _takes_epoch(make_batches: Any) -> bool:
    """Return whether a function takes the number of the epoch: it has a parameter of that name, or one that it needs."""
    try:
        parameters = inspect.signature(make_batches).parameters
    except (TypeError, ValueError):
        return False
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [one for one in parameters.values() if one.kind in by_place and one.default is inspect.Parameter.empty]
    return "epoch" in parameters or bool(needed)
