"""The sources of rows, and their order."""

from jaxgd.data.chunks import Chunks

__all__ = ["Chunks"]
