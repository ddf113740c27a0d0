"""The sources of a run's rows: all of them at every step, or an epoch's batches, and how their rows are brought together.

Rows in a shuffled order are gathered many batches at a time, a *block*: finding the rows of thousands of places at once, and
reading them at once, costs a fraction of doing so batch by batch, and the steps in between read memory in order. A block is about
a megabyte, on a GPU 32, so nothing grows with the number of rows.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxgd._trees import is_traced, pytree, static
from jaxgd.data import shuffle as orders
from jaxgd.data.layout import TOGETHER, Layout

_BLOCK_BYTES = 2**20
_DEVICE_BYTES = 2**25  # on a GPU, where a block has to be worth the start of a few functions
_LANE_BYTES = 2**16  # in a run that somebody maps over: each lane has a block of its own
_BLOCK_ROWS = 2**16
_DEVICE_ROWS, _DEVICE_BATCHES = 2**20, 2**12


class Source:
    """A source of rows: every epoch has `count` batches, brought together block by block.

    Nothing but a source knows where the rows lie. This one has all of them in one batch.
    """

    data: Any
    on_host: bool = True  # whether a processor runs the loops; a GPU asks the host after each turn whether to go on

    @property
    def layout(self) -> Layout:
        """How the rows lie over devices."""
        return TOGETHER

    @property
    def count(self) -> int:
        """The number of batches in an epoch."""
        return 1

    @property
    def full(self) -> int:
        """The number of batches of full size among them."""
        return 1

    @property
    def last_size(self) -> int:
        """The rows of the last, smaller batch; 0 where there is none."""
        return 0

    @property
    def per_block(self) -> int:
        """The number of batches in a block, about the same in each; `count` where one block is the epoch."""
        return 1

    @property
    def is_complete(self) -> bool:
        """Whether the only batch of an epoch is all rows."""
        return True

    @property
    def last_weight(self) -> float:
        """The weight of the last, smaller batch in a mean over the rows, where the others have one each."""
        return 0.0

    @property
    def total_weight(self) -> float:
        """The weight of all batches of an epoch together."""
        return self.full + self.last_weight

    def weight(self, count: jax.Array, dtype: Any) -> jax.Array:
        """Return what the first `count` batches of an epoch count for together."""
        if not self.last_size:
            return count.astype(dtype)
        return jnp.where(count > self.full, jnp.asarray(self.total_weight, dtype), count.astype(dtype))

    def order(self, epoch: Any) -> Any:
        """Return the random numbers that the order of an epoch needs."""
        raise NotImplementedError

    def block(self, order: Any, epoch: Any, first: Any) -> Any:
        """Return the rows of the block whose first batch is `first`."""
        raise NotImplementedError

    def take(self, block: Any, first: Any, batch: Any, *, last: bool = False) -> tuple[Any, ...]:
        """Return the arguments of the cost after the parameters, for a batch of a block."""
        raise NotImplementedError

    def batch(self, epoch: Any, batch: Any, *, last: bool = False) -> tuple[Any, ...]:
        """Return the same for one batch alone, of a source whose blocks are single batches."""
        return self.take(self.block(self.order(epoch), epoch, batch), batch, batch, last=last)


@pytree
class AllRows(Source):
    """All data at every step, or none; they need not be rows."""

    data: tuple[Any, ...]

    def batch(self, epoch: Any, batch: Any, *, last: bool = False) -> tuple[Any, ...]:
        return self.data


@pytree
class Batches(Source):
    """Data of `n_rows` rows in batches of `batch_size`, the last of an epoch smaller where they do not divide evenly.

    A block has `block_bytes` at most.
    """

    data: Any
    seed: Any
    shuffle: bool | str = static()
    n_rows: int = static()
    batch_size: int = static()
    block_bytes: int = static(default=_BLOCK_BYTES)
    on_host: bool = static(default=True)

    @staticmethod
    def block_budget(*trees: Any, on_host: bool = True) -> int:
        """Return how many bytes a block may have in a run of these arguments."""
        return _LANE_BYTES if is_traced(*trees) else _BLOCK_BYTES if on_host else _DEVICE_BYTES

    @property
    def full(self) -> int:
        return self.n_rows // self.batch_size

    @property
    def last_size(self) -> int:
        return self.n_rows % self.batch_size

    @property
    def count(self) -> int:
        return self.full + (self.last_size > 0)

    @property
    def is_complete(self) -> bool:
        return self.count == 1 and self.shuffle != "replacement"

    @property
    def last_weight(self) -> float:
        return self.last_size / self.batch_size

    @property
    def in_order(self) -> bool:
        """Whether the rows are used where they lie. A batch of all rows has no order to draw."""
        return not self.shuffle or (self.shuffle is True and self.batch_size == self.n_rows)

    @property
    def per_block(self) -> int:
        most, batches = (_BLOCK_ROWS, _BLOCK_ROWS) if self.on_host else (_DEVICE_ROWS, _DEVICE_BATCHES)
        if self.in_order:
            return min(self.count, batches)
        row = sum(math.prod(leaf.shape[1:]) * leaf.dtype.itemsize for leaf in jax.tree.leaves(self.data))
        rows = min(most, self.block_bytes // max(row, 1), batches * self.batch_size)
        if rows >= self.n_rows:
            return self.count
        n_blocks = -(-self.count // max(1, rows // self.batch_size))
        return -(-self.count // n_blocks)

    def order(self, epoch: jax.Array) -> Any:
        return orders.shuffle(self.seed, epoch, self.n_rows) if self.shuffle is True else None

    def block(self, order: Any, epoch: jax.Array, first: jax.Array) -> Any:
        if self.in_order:
            return self.data
        rows = self._rows(order, epoch, first)
        return jax.tree.map(lambda leaf: leaf.at[rows].get(mode="promise_in_bounds"), self.data)

    def _rows(self, order: Any, epoch: jax.Array, first: jax.Array) -> jax.Array:
        """Return the numbers of the rows of a block; nobody uses those beyond the end of the epoch."""
        one_block = self.per_block == self.count
        if one_block and self.shuffle is True and self.n_rows <= orders.RANKED:
            return orders.rows(order)
        dtype = orders.index_dtype(self.n_rows)
        count = self.n_rows if one_block else self.per_block * self.batch_size
        place = first.astype(dtype) * jnp.asarray(self.batch_size, dtype)
        if self.shuffle == "replacement":
            places = place + jnp.arange(orders.padded(count), dtype=dtype)
            return orders.draw(self.seed, epoch, places, self.n_rows)[:count]
        return orders.rows_from(order, place, count, self.n_rows, in_pieces=self.on_host)

    def take(self, block: Any, first: jax.Array, batch: jax.Array, *, last: bool = False) -> tuple[Any, ...]:
        size = self.last_size if last else self.batch_size
        index = batch if self.in_order else batch - first
        return (self.layout.part(block, index.astype(orders.index_dtype(self.n_rows)) * self.batch_size, size),)
