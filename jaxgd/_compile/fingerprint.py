"""Fingerprints: digests of arrays, arguments and programs that are the same in every process.

Programs are known within a process by keys that hold objects, and abroad by a digest of what these objects say of themselves.
"""

import dataclasses
import hashlib
import re
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._compile import jaxprs
from jaxgd._shards import pieces
from jaxgd._text import brief
from jaxgd._trees import is_traced

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_SMALL = 2**16  # bytes of an array whose values are always compared
_SAMPLED = 64  # places of a larger one that are looked at where its values are not
_AT_ONCE = 16  # numbers there, which come from memory together
_PIECE = 2**24  # bytes that are read at once


def digest(tree: Any) -> str:
    """Return a digest of a pytree: its structure, the shapes and dtypes of arrays, and the values of small ones."""
    leaves, structure = jax.tree.flatten(tree)
    return _sha256(text(structure), *map(_leaf, leaves))


def of_key(key: Any) -> str:
    """Return a digest of the key of a program."""
    return _sha256(text(key))


def digest_of_large(tree: Any) -> str | None:
    """Return a digest of the values of all large arrays; None without such arrays, or where samples stand for them."""
    large = [leaf for leaf in jax.tree.leaves(tree) if is_large(leaf)]
    if not large or any(isinstance(leaf, Sampled) for leaf in large):
        return None
    return _sha256(*map(_contents, large))


def is_large(leaf: Any) -> bool:
    """Return whether a leaf is an array that is compared by its values only where that was asked for."""
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype") and leaf.size * leaf.dtype.itemsize > _SMALL


def kept(tree: Any) -> Any:
    """Return a pytree with samples in the places of its large arrays, which then need not be kept."""
    if not any([getattr(leaf, "nbytes", 0) > _SMALL for leaf in jax.tree.leaves(tree)]):
        return tree
    return jax.tree.map(lambda leaf: Sampled(leaf) if is_large(leaf) and not is_traced(leaf) else leaf, tree)


class Sampled:
    """A large array as it is remembered: its shape, its dtype, and a digest of some of its numbers."""

    def __init__(self, array: Any) -> None:
        self.shape, self.dtype, self.size = array.shape, array.dtype, array.size
        self.sample = _sample(array)


def _sample(array: Any) -> str:
    """Return a digest of some numbers of a large array, evenly spread, where the host reads it at no cost."""
    if isinstance(array, Sampled):
        return array.sample
    near = isinstance(array, np.ndarray) or all(device.platform == "cpu" for device in array.devices())
    if not near or jnp.issubdtype(array.dtype, jax.dtypes.extended) or not getattr(array, "is_fully_addressable", True):
        return ""
    return _contents(np.concatenate([_some(part.reshape(-1)) for _, part in pieces(array)]))


def _some(numbers: np.ndarray) -> np.ndarray:
    """Return some numbers of a vector from places that are evenly spread."""
    step = numbers.size // _SAMPLED
    if step <= _AT_ONCE:
        return numbers
    return numbers[: step * _SAMPLED].reshape(_SAMPLED, step)[:, :_AT_ONCE].reshape(-1)


def text(value: Any) -> str:
    """Return a text of a part of the key of a program, without anything that differs from process to process."""
    if isinstance(value, tuple | list):
        return f"({','.join(map(text, value))})"
    if isinstance(value, jaxprs.Identity):
        return text(value.value)
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, jaxprs.core().Primitive):
        return value.name
    if isinstance(value, types.CodeType):
        return _sha256(value.co_code, text(value.co_consts), text(value.co_names))
    code = getattr(value, "__code__", None)
    if code is not None:
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return f"{value.__module__}.{value.__qualname__}:{text((code, cells, value.__defaults__, value.__kwdefaults__))}"
    if isinstance(value, np.ndarray | jax.Array) and not is_traced(value):
        return _leaf(value)
    return _ADDRESS.sub("", repr(value))


def shown(tree: Any) -> str:
    """Return a pytree in one short line, its arrays by their dtypes and shapes and its numbers by their values."""
    short = jax.tree.map(lambda leaf: _Shown(leaf) if hasattr(leaf, "dtype") else leaf, tree)
    text = brief(short) if dataclasses.is_dataclass(short) else repr(short)
    line = _ADDRESS.sub("", " ".join(text.split()))
    return line if len(line) <= 120 else line[:117] + "..."


class _Shown:
    """An array as it is shown."""

    def __init__(self, leaf: Any) -> None:
        self.leaf = leaf

    def __repr__(self) -> str:
        leaf = self.leaf
        if leaf.shape == () and not isinstance(leaf, Sampled) and getattr(leaf.dtype, "kind", "") in tuple("fiub"):
            return f"{np.asarray(leaf).item():g}"
        return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def _leaf(leaf: Any) -> str:
    if not hasattr(leaf, "dtype"):
        return text(leaf)
    return f"{leaf.dtype}{leaf.shape}" + (_sample(leaf) if is_large(leaf) else _contents(leaf))


def _contents(leaf: Any) -> str:
    """Return a digest of the values of an array, a piece at a time."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    found = hashlib.sha256()
    for _, part in pieces(leaf) if isinstance(leaf, jax.Array) else [((), np.asarray(leaf))]:
        rows = part.reshape(-1)
        step = max(1, _PIECE // rows.dtype.itemsize)
        for first in range(0, rows.size, step):
            found.update(np.ascontiguousarray(rows[first : first + step]).view(np.uint8).data)
    return found.hexdigest()


def _sha256(*parts: str | bytes) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part.encode() if isinstance(part, str) else part)
        found.update(b"\0")
    return found.hexdigest()
