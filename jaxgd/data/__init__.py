"""Data beyond arrays in one memory: `Chunks` of what is larger, `Stream`s of batches, and `shard` for several devices."""

from jaxgd.data.chunks import Chunks
from jaxgd.data.placement import shard
from jaxgd.data.stream import Stream, StreamError

__all__ = ["Chunks", "Stream", "StreamError", "shard"]
