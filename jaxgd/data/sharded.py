"""The source of rows that are split over devices: each device brings its share of every batch from its own rows."""

from typing import Any

import jax

from jaxgd._trees import pytree, static
from jaxgd.data import shuffle as orders
from jaxgd.data.layout import Layout, Sharded
from jaxgd.data.source import Batches


@pytree
class ShardedBatches(Batches):
    """Data split over devices, in batches of which every device has an equal share.

    Each device draws an order of its own rows, from the run's seed and its own number, and no row leaves its device.
    """

    split: Any = static(default=None)

    @property
    def layout(self) -> Sharded:
        return self.split

    @property
    def per_block(self) -> int:
        return self._of_device(self.data, self.seed).per_block

    def order(self, epoch: jax.Array) -> Any:
        return None  # a few words, which each device draws with its rows

    def block(self, order: Any, epoch: jax.Array, first: jax.Array) -> Any:
        if self.in_order:
            return self.data

        def own(data: Any, number: Any, seed: Any, epoch: Any, first: Any) -> Any:
            source = self._of_device(data, orders.derived(seed, number))
            return source.block(source.order(epoch), epoch, first)

        return self.layout.each(own, self.data, self.seed, epoch, first)

    def _of_device(self, data: Any, seed: Any) -> Batches:
        """Return the source of one device's rows."""
        n_shards = self.layout.n_shards
        return Batches(
            data, seed, self.shuffle, self.n_rows // n_shards, self.batch_size // n_shards, self.block_bytes, self.on_host
        )


def batches(layout: Layout, *arguments: Any) -> Batches:
    """Return the source of batches of rows that lie so; the other arguments are those of `Batches`."""
    return ShardedBatches(*arguments, split=layout) if isinstance(layout, Sharded) else Batches(*arguments)
