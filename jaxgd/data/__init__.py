"""Data beyond arrays in memory: `Chunks` of what is larger, and `Stream`s of batches."""

from jaxgd.data.chunks import Chunks
from jaxgd.data.stream import Stream, StreamError

__all__ = ["Chunks", "Stream", "StreamError"]
