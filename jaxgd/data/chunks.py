"""Chunks: data that are larger than the memory, read a few megabytes at a time while the chunk before is computed with.

Chunks are rows that lie one after the other in a file. In an epoch they come in an order that follows from the key, and so do the
rows within each of them, so that every row is used once an epoch, and the disk is read in long pieces. The cuts lie elsewhere in
every epoch. The order of rows is less thorough than one of all rows, since rows of one chunk stay together for that epoch.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path

from jaxgd._checks import check, check_trees
from jaxgd.data import memory
from jaxgd.data import shuffle as orders
from jaxgd.data.feed import Cuts, Feed, Piece, row_bytes

_BYTES = 2**26  # of a chunk
_SAMPLE_BYTES = 2**24
_FEWEST = 32  # rows of the sample, however large they are
_SAMPLES = 64  # places from which the sample is taken
_ALIGNED = 64  # rows, so that their first byte is where JAX takes an array as it is
_PAGE = 4096


class Chunks:
    """Data in chunks of rows, for the argument `data` of `minimize` and `fit`.

    At most three chunks are in memory: the one that is computed with, the next one, and the one that is being read. In `fit` the
    order of chunks, and of the rows within each, follows from the key, and every row is used once an epoch. In `minimize` a cost
    that is a mean or a sum over the rows is added up over the chunks, and so are its derivatives.

    Memory maps that are passed without it are read as if they were in memory where half of the memory holds them, and in chunks
    where it does not.

    Args:
        arrays: a pytree of arrays of equal leading length, the rows: memory maps, as `numpy.load(path, mmap_mode="r")` gives them,
            or anything with a shape and a dtype whose slices NumPy takes, such as a dataset of h5py or zarr.
        n_rows: rows in a chunk, >= 1; None for about 64 MB. `fit` rounds them up to whole batches.

    >>> import jax.numpy as jnp, numpy as np, jaxgd
    >>> rows = jaxgd.data.Chunks(np.arange(1000.0), n_rows=64)
    >>> result = jaxgd.minimize(lambda x, rows: jnp.mean((x - rows) ** 2), 0.0, rows, dtype="float64")
    >>> round(float(result.params), 6)
    499.5
    """

    def __init__(self, arrays: Any, n_rows: int | None = None) -> None:
        named, _ = tree_flatten_with_path(arrays)
        for path, leaf in named:
            if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype") and hasattr(leaf, "__getitem__")):
                where = "Chunks: arrays" + keystr(path)
                raise TypeError(f"{where}: expected an array, such as numpy.load(path, mmap_mode='r'), got {check.show(leaf)}.")
        if not named:
            raise ValueError(f"Chunks: arrays: expected a pytree of arrays, got {check.show(arrays)}.")
        self.arrays = arrays
        self.total = check_trees.rows("Chunks: arrays", jax.tree.map(_Shape, arrays))
        self.n_rows = check.integer_or_none("Chunks: n_rows", n_rows, 1)

    def __repr__(self) -> str:
        return f"Chunks of {self.n_rows or 'about 64 MB of'} rows, {self.total} in all"


class _Shape:
    """The shape of an array, whatever else it is."""

    def __init__(self, array: Any) -> None:
        self.shape, self.ndim = tuple(array.shape), len(array.shape)


def as_chunks(data: Any) -> Chunks | None:
    """Return data that are to be read in chunks: `Chunks`, or memory maps that are larger than half of the memory."""
    if isinstance(data, Chunks):
        return data
    leaves = jax.tree.leaves(data)
    maps = [leaf for leaf in leaves if isinstance(leaf, np.memmap)]
    if not maps or sum(leaf.nbytes for leaf in maps) <= memory.available() // 2:
        return None
    return Chunks(data)


class ChunkFeed(Feed):
    """The chunks of a run, read from a pytree of arrays.

    Args:
        chunks: the data.
        dtype: the precision of floats, or None.
    """

    def __init__(self, chunks: Chunks, dtype: Any) -> None:
        super().__init__(chunks.total)
        self.chunks, self.on_cpu = chunks, memory.is_cpu()
        self.named, self.structure = tree_flatten_with_path(chunks.arrays)
        size = min(self.n_rows, max(_FEWEST, _SAMPLE_BYTES // row_bytes(chunks.arrays)))
        self.sample = check_trees.data_arrays("data", self._leaves(lambda leaf: _spread(leaf, self.n_rows, size)), dtype)

    @property
    def identity(self) -> Any:
        shapes = [f"{leaf.dtype}{tuple(leaf.shape)}" for _, leaf in self.named]
        return self.cuts, str(self.structure), shapes, self.sample

    def cut(self, batch_size: int | None) -> None:
        batch_size = batch_size or 1
        if jax.tree.leaves(self.sample)[0].shape[0] < batch_size:
            self.sample = self.on_device("data", self._leaves(lambda leaf: _spread(leaf, self.n_rows, batch_size)))
        self.cuts = Cuts.of(self.sample, self.n_rows, batch_size, self.chunks.n_rows, _BYTES)

    def pieces(self, epoch: int, place: int, seed: orders.Seed, *, shuffled: bool) -> Iterator[Piece]:
        first, numbers = _order(self.cuts, seed, epoch, shuffled=shuffled)
        while epoch < self.n_epochs:
            number = int(numbers[place])
            begin = (first + number * self.cuts.chunk_rows) % self.n_rows
            yield Piece(self._read(begin, self.cuts.chunk_rows), self.cuts.rows_of(place), number)
            epoch, place = self.cuts.after(epoch, place)
            if place == 0:
                first, numbers = _order(self.cuts, seed, epoch, shuffled=shuffled)

    def all_pieces(self) -> Iterator[Piece]:
        size = self.cuts.chunk_rows
        for place in range(self.cuts.n_chunks):
            count, is_last = self.cuts.rows_of(place), place + 1 == self.cuts.n_chunks
            yield Piece(self._read(place * size, count), count, place, count < size, is_last)

    def _read(self, begin: int, count: int) -> Any:
        """Return some rows on the device; after the last row comes the first."""
        raw = self._leaves(lambda leaf: self._slice(leaf, begin, begin + count))
        try:
            return self.on_device("data", raw)
        except ValueError as error:
            raise ValueError(f"{error} This is in the rows from {begin} to {(begin + count - 1) % self.n_rows}.") from None

    def _slice(self, leaf: Any, begin: int, end: int) -> np.ndarray:
        if end > self.n_rows:
            return np.concatenate([np.asarray(leaf[begin:]), np.asarray(leaf[: end - self.n_rows])])
        rows = np.asarray(leaf[begin:end])
        if isinstance(leaf, np.memmap) and self.on_cpu and rows.flags.c_contiguous:
            rows.reshape(-1).view(np.uint8)[::_PAGE].max(initial=0)  # here, and not where it is computed with, the disk is read
        return rows

    def _leaves(self, function: Any) -> Any:
        return self.structure.unflatten([function(leaf) for _, leaf in self.named])


def _order(cuts: Cuts, seed: orders.Seed, epoch: int, *, shuffled: bool) -> tuple[int, np.ndarray]:
    """Return the row at which the chunks of an epoch begin, and the number of the chunk at each place.

    The smaller chunk comes last. Because the first row is another one in each epoch, it has other rows each time.
    """
    if not shuffled or cuts.n_chunks == 1:
        return 0, np.arange(cuts.n_chunks)
    whole = cuts.n_rows // cuts.chunk_rows
    first = orders.offset(seed, epoch, cuts.n_rows) // _ALIGNED * _ALIGNED
    return first, np.append(orders.on_host(seed, epoch, whole), np.arange(whole, cuts.n_chunks))


def _spread(leaf: Any, n_rows: int, size: int) -> np.ndarray:
    """Return some rows of an array, from several places spread over it."""
    if size == n_rows:
        return np.asarray(leaf[:])
    count = min(_SAMPLES, size)
    each = size // count
    return np.concatenate(
        [np.asarray(leaf[begin : begin + each]) for begin in np.linspace(0, n_rows - each, count, dtype=np.int64)]
    )
