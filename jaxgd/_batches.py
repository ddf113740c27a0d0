"""An epoch's batches: which rows they hold, and how the rows are brought together.

Rows in a shuffled order are gathered many batches at a time, a *block*: finding the rows of thousands of places at once, and
reading them at once, costs a fraction of doing so batch by batch, and the steps in between read memory in order. A block is about
a megabyte, so nothing grows with the number of rows.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd import _shuffle
from jaxgd._trees import is_traced, pytree, static

_BLOCK_BYTES = 2**20
_LANE_BYTES = 2**16  # in a run that somebody maps over: each lane has a block of its own
_BLOCK_ROWS = 2**16
_WIDTH = 16


@pytree
class Batches:
    """Data of `n_rows` rows in batches of `batch_size`, the last of an epoch smaller where they do not divide evenly."""

    data: Any
    seed: Any
    shuffle: bool | str = static()
    n_rows: int = static()
    batch_size: int = static()
    block_bytes: int = static(default=_BLOCK_BYTES)

    @staticmethod
    def room(*trees: Any) -> int:
        """How large a block may be, seeing what else the run has to do with."""
        return _LANE_BYTES if is_traced(*trees) else _BLOCK_BYTES

    @property
    def full(self) -> int:
        """The number of batches of `batch_size` rows in an epoch."""
        return self.n_rows // self.batch_size

    @property
    def last_size(self) -> int:
        """The number of rows of the last, smaller batch; 0 where there is none."""
        return self.n_rows % self.batch_size

    @property
    def count(self) -> int:
        """The number of batches in an epoch."""
        return self.full + (self.last_size > 0)

    @property
    def last_weight(self) -> float:
        """What the last, smaller batch counts for in a mean over the rows, where the others count for one each."""
        return self.last_size / self.batch_size

    @property
    def total_weight(self) -> float:
        """What all batches of an epoch count for together."""
        return self.full + self.last_weight

    def weight(self, count: jax.Array, dtype: Any) -> jax.Array:
        """Return what the first `count` batches of an epoch count for together."""
        if not self.last_size:
            return count.astype(dtype)
        return jnp.where(count > self.full, jnp.asarray(self.total_weight, dtype), count.astype(dtype))

    @property
    def in_order(self) -> bool:
        """Whether the rows are used where they lie. A batch of all rows has no order to draw."""
        return not self.shuffle or (self.shuffle is True and self.batch_size == self.n_rows)

    @property
    def per_block(self) -> int:
        """The number of batches in a block, about the same in each; that of all batches where one block is the epoch."""
        if self.in_order:
            return min(self.count, _BLOCK_ROWS)
        row = sum(math.prod(leaf.shape[1:]) * leaf.dtype.itemsize for leaf in jax.tree.leaves(self.data))
        rows = min(_BLOCK_ROWS, self.block_bytes // max(row, 1))
        if rows >= self.n_rows:
            return self.count
        n_blocks = -(-self.count // max(1, rows // self.batch_size))
        return -(-self.count // n_blocks)

    def order(self, epoch: jax.Array) -> Any:
        """The random numbers that an epoch's order needs, made once for it."""
        return _shuffle.shuffle(self.seed, epoch, self.n_rows) if self.shuffle is True else None

    def block(self, order: Any, epoch: jax.Array, first: jax.Array) -> Any:
        """The rows of a block whose first batch is `first`, a pytree like the data."""
        if self.in_order:
            return self.data
        rows = self._rows(order, epoch, first)
        return jax.tree.map(lambda leaf: leaf.at[rows].get(mode="promise_in_bounds"), self.data)

    def _rows(self, order: Any, epoch: jax.Array, first: jax.Array) -> jax.Array:
        """The numbers of the rows of a block; what reaches beyond the end of the epoch is used by nobody."""
        whole = self.per_block == self.count
        if whole and self.shuffle is True and self.n_rows <= _shuffle.RANKED:
            return _shuffle.rows(order)
        dtype = _shuffle.index_dtype(self.n_rows)
        count = self.n_rows if whole else self.per_block * self.batch_size
        padded = -(-count // _WIDTH) * _WIDTH  # XLA computes a prime number of numbers one by one
        places = first.astype(dtype) * jnp.asarray(self.batch_size, dtype) + jnp.arange(padded, dtype=dtype)
        places = jnp.minimum(places, jnp.asarray(self.n_rows - 1, dtype))
        if self.shuffle == "replacement":
            return _shuffle.draw(self.seed, epoch, places, self.n_rows)[:count]
        return _shuffle.row(order, places, self.n_rows)[:count]

    def take(self, block: Any, first: jax.Array, batch: jax.Array, size: int) -> Any:
        """The `size` rows of a batch in the block whose first batch is `first`."""
        index = batch if self.in_order else batch - first
        place = index.astype(_shuffle.index_dtype(self.n_rows)) * self.batch_size

        def part(leaf: jax.Array) -> jax.Array:
            return leaf if leaf.shape[0] == size else lax.dynamic_slice_in_dim(leaf, place, size)

        return jax.tree.map(part, block)
