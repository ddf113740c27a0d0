"""Feeds: rows that come to the device chunk by chunk while the chunk before is computed with.

A chunk is some whole batches of an epoch, brought together in one array. The loop over its batches is one program, the same for all
chunks; the host calls it once for each of them.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgd._checks import check_arrays
from jaxgd._trees import is_traced, pytree, static, with_fields
from jaxgd.data import shuffle as orders
from jaxgd.data.ahead import Ahead
from jaxgd.data.source import Batches

_BLOCK_BYTES = 2**20
_BLOCK_BATCHES = 2**16
_ALIGNED = 64  # rows that begin at such a place in a file are where JAX takes them without a copy


class Cuts(NamedTuple):
    """The cuts of rows into batches, blocks of batches, and chunks of whole blocks."""

    n_rows: int
    batch_size: int
    block_batches: int
    chunk_batches: int

    @staticmethod
    def of(data: Any, n_rows: int, batch_size: int, chunk_rows: int | None, chunk_bytes: int) -> "Cuts":
        """Return the cuts of data with rows like those of `data`; `chunk_rows` are rounded up to whole blocks."""
        row = row_bytes(data)
        wanted = -(-(chunk_rows or max(1, chunk_bytes // row)) // batch_size)
        wanted = max(1, min(wanted, -(-n_rows // batch_size)))
        block = max(1, min(wanted, _BLOCK_BATCHES, _BLOCK_BYTES // (row * batch_size)))
        unit = _ALIGNED // math.gcd(batch_size, _ALIGNED)
        if unit <= block:
            block -= block % unit
        return Cuts(n_rows, batch_size, block, -(-wanted // block) * block)

    @property
    def chunk_rows(self) -> int:
        """The rows that the arrays of a chunk have."""
        return min(self.chunk_batches * self.batch_size, self.n_rows)

    @property
    def n_chunks(self) -> int:
        """The number of chunks in an epoch, a smaller last one among them."""
        return -(-self.n_rows // self.chunk_rows)

    @property
    def n_batches(self) -> int:
        """The number of batches in an epoch."""
        return -(-self.n_rows // self.batch_size)

    def rows_of(self, place: int) -> int:
        """Return how many rows the chunk at a place in an epoch has."""
        return min(self.chunk_rows, self.n_rows - place * self.chunk_rows)

    def after(self, epoch: int, place: int) -> tuple[int, int]:
        """Return the epoch and the place of the chunk after another one."""
        return (epoch, place + 1) if place + 1 < self.n_chunks else (epoch + 1, 0)


def row_bytes(data: Any) -> int:
    """Return how many bytes a row of data has, at least one."""
    return max(1, sum(math.prod(leaf.shape[1:]) * leaf.dtype.itemsize for leaf in jax.tree.leaves(data)))


def rows_like(data: Any, size: int) -> Any:
    """Return the shapes and types of `size` rows of the data."""

    def like(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((size, *leaf.shape[1:]), jax.dtypes.canonicalize_dtype(leaf.dtype))

    return jax.tree.map(like, data)


@pytree
class Chunk(Batches):
    """Some whole batches of an epoch, numbered as in the epoch.

    Attributes:
        first_batch: the number of its first batch.
        number: the number from which the order of its rows follows.
        rows: how many rows it has; its arrays may have more.
        cuts: how the data are cut.
    """

    first_batch: Any = np.int32(0)
    number: Any = np.uint32(0)
    rows: Any = np.uint32(0)
    cuts: Cuts = static(default=Cuts(1, 1, 1, 1))

    @property
    def in_order(self) -> bool:
        return self.shuffle is False

    @property
    def is_complete(self) -> bool:
        """No batch is looked at as all rows at once."""
        return False

    @property
    def per_block(self) -> int:
        return self.cuts.block_batches

    def order(self, epoch: jax.Array) -> Any:
        return None if self.in_order else orders.shuffle(orders.derived(self.seed, self.number), epoch, self.rows)

    def block(self, order: Any, epoch: jax.Array, first: jax.Array) -> Any:
        if self.in_order:
            return self.data
        size = min(self.per_block * self.batch_size, self.cuts.chunk_rows)
        rows = orders.rows_from(order, self._place(first), size, self.rows, in_pieces=self.on_host)
        return jax.tree.map(lambda leaf: leaf.at[rows].get(mode="promise_in_bounds"), self.data)

    def take(self, block: Any, first: jax.Array, batch: jax.Array, *, last: bool = False) -> tuple[Any, ...]:
        size = self.last_size if last else self.batch_size
        place = self._place(batch) if self.in_order else self._place(batch) - self._place(first)
        return (jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, place, size), block),)

    def _place(self, batch: Any) -> jax.Array:
        """Return the place of the first row of a batch in the chunk."""
        return (batch - self.first_batch).astype(jnp.uint32) * np.uint32(self.batch_size)


class Piece(NamedTuple):
    """The rows of a chunk on the device.

    Attributes:
        data: the rows.
        n_rows: how many of them count.
        number: the number from which their order follows.
        is_rest: whether the arrays are those of a smaller last chunk, without rows that do not count.
        is_last: whether no other chunk comes after it in a pass over all rows.
        state: the state of a stream after it.
    """

    data: Any
    n_rows: int
    number: int = 0
    is_rest: bool = False
    is_last: bool = False
    state: bytes | None = None


def check_fed(feed: "Feed", shuffle: bool | str | None, batch_size: int, *, together: int, has_aux: bool) -> None:
    """Check arguments of `fit` that data in chunks do not go with."""
    feed.check(batch_size)
    if feed.brings_order and shuffle:
        raise ValueError(f"shuffle: expected None or False for a stream, which brings its own order, got {shuffle!r}.")
    if shuffle == "replacement":
        raise ValueError(
            "shuffle: expected True or False for data that come in chunks, got 'replacement', which needs any row at once."
        )
    if together >= feed.n_rows:
        raise ValueError(
            f"batch_size: expected fewer than all {feed.n_rows} rows of data that come in chunks, got {together}. "
            "minimize adds up the cost over the chunks."
        )
    if has_aux:
        raise ValueError("has_aux: expected False for data that come in chunks, since an aux is that of all rows together.")


def check_constant(feed: "Feed | None", function: Any) -> None:
    """Check that no outer program differentiates a cost, or maps over it, whose rows come in chunks."""
    if feed is not None and is_traced(function):
        raise ValueError("data: expected arrays inside jax.jit, jax.vmap or jax.grad, got rows that come in chunks.")


def _with_extremes(leaf: Any) -> np.ndarray:
    """Return integers among which are the largest that float32 holds exactly with all below."""
    changed = np.array(leaf)
    changed[0], changed[-1] = -check_arrays.EXACT, check_arrays.EXACT
    return changed


class Feed:
    """The host's side of data that come chunk by chunk. A subclass says how they are read.

    Attributes:
        n_rows: how many rows there are.
        sample: some rows, which tell the shapes and dtypes of all.
        cuts: how the data are cut into chunks.
        identity: a pytree by which a call that goes on with a run knows its data.
        brings_order: whether the rows come in an order of their own.
        n_epochs: the epochs of the run.
        evaluates: whether costs over all rows are found in passes over the data.
    """

    sample: Any
    cuts: Cuts
    identity: Any
    n_epochs: int = 0
    brings_order = False
    evaluates = True

    def __init__(self, n_rows: int) -> None:
        self.n_rows = n_rows
        self.reader: Ahead | None = None
        self.place: tuple[int, int] | None = None  # the epoch and the place of the chunk in use
        self.piece: Piece | None = None

    def check(self, batch_size: int) -> None:
        """Check that the data can be had in batches of a size."""

    def cut(self, batch_size: int | None) -> None:
        """Settle the cuts for batches of a size, or for passes over all rows."""
        raise NotImplementedError

    def position(self, epoch: int, batch: int) -> np.ndarray | None:
        """Return what is saved with a run that goes on at a batch, as bytes; None for nothing."""
        return None

    def reopen(self, position: np.ndarray) -> None:
        """Go on from a position that was saved."""

    def pieces(self, epoch: int, place: int, seed: orders.Seed, *, shuffled: bool) -> Iterator[Piece]:
        """Yield the chunks of a run from a place in an epoch on, up to its last epoch."""
        raise NotImplementedError

    def all_pieces(self) -> Iterator[Piece]:
        """Yield all rows once, in an order that is always the same; the arrays have no more rows than count."""
        raise NotImplementedError

    def extremes(self) -> Any:
        """Return the sample, with the largest integers that its 64-bit columns may hold where JAX has 32 bits."""
        return jax.tree.map(lambda leaf: _with_extremes(leaf) if check_arrays.is_wide(leaf) else leaf, self.sample)

    def settle(self, arrays: Any) -> None:
        """Take over the dtypes of arrays."""
        sample, self.sample = self.sample, arrays
        self.sample = self.on_device("data", sample)

    @property
    def like(self) -> Any:
        """One row on the device."""
        return jax.tree.map(lambda leaf: leaf[:1], self.sample)

    def batches(self, like: Any) -> Batches:
        """Return the sample as data of their own, from which a learning rate is sought."""
        n_rows = jax.tree.leaves(self.sample)[0].shape[0]
        return Batches(self.sample, like.seed, like.shuffle, n_rows, like.batch_size)

    def on_device(self, name: str, rows: Any) -> Any:
        """Return rows as they were read on the device, in the dtypes of the sample."""
        named = jax.tree_util.tree_flatten_with_path(rows)[0]
        likes, structure = jax.tree.flatten(self.sample)
        arrays = [
            check_arrays.as_dtype(name + jax.tree_util.keystr(path), leaf, like.dtype)
            for (path, leaf), like in zip(named, likes, strict=True)
        ]
        return jax.block_until_ready(jax.device_put(structure.unflatten(arrays)))

    def chunk(self, like: Chunk, epoch: int, batch: int) -> tuple[Chunk, int]:
        """Return the chunk that holds a batch of an epoch, and the number of the batch after its last."""
        place = batch // self.cuts.chunk_batches
        if self.place != (epoch, place):
            self._go_to(epoch, place, like)
        piece: Any = self.piece
        first = place * self.cuts.chunk_batches
        numbers = {"first_batch": np.int32(first), "number": np.uint32(piece.number), "rows": np.uint32(piece.n_rows)}
        return with_fields(like, data=piece.data, **numbers), min(first + self.cuts.chunk_batches, self.cuts.n_batches)

    def _go_to(self, epoch: int, place: int, like: Chunk) -> None:
        """Take the next chunk of the reader, or begin to read at a place."""
        following = None if self.place is None else self.cuts.after(*self.place)
        if self.reader is None or following != (epoch, place):
            self.close()
            self.reader = Ahead(self.pieces(epoch, place, like.seed, shuffled=not like.in_order))
        self.place = self.piece = None  # before another one is waited for
        try:
            self.piece = next(self.reader)
        except BaseException:
            self.close()
            raise
        self.place = epoch, place

    def all_rows(self) -> Ahead:
        """Return all rows once, read ahead; to be closed by `with`."""
        return Ahead(self.all_pieces())

    def close(self) -> None:
        """Stop reading, and leave no thread behind."""
        if self.reader is not None:
            self.reader.close()
        self.reader = self.place = self.piece = None
