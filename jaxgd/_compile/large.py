"""Large arrays in the key of a function: JAX's are known by their identity, NumPy's by all of their bytes.

A comparison of bytes is several times faster than any digest, and never wrong. As part of a key that is kept, an array is held by
a weak reference alone; of a NumPy array, which may change in place, there is a copy, which goes when the array does.
"""

import weakref
from typing import Any

import jax
import numpy as np

MOST = 2**24  # bytes of a NumPy array beyond which it is as fast to trace anew
_SAMPLED = 16  # numbers of an array that its hash looks at


class Large:
    """A large array as part of a key: of JAX equal to itself alone, of NumPy to the same bits."""

    def __init__(self, array: Any) -> None:
        self.array: Any = array
        self._weak: Any = None
        self._copy: Any = None
        self._hash = id(array)
        if not isinstance(array, jax.Array):
            numbers = _flat(array)
            self._hash = hash((array.dtype, array.shape, array.strides, numbers[:: numbers.size // _SAMPLED].tobytes()))

    def copy(self) -> None:
        """Take a copy of what may change in place."""
        if not isinstance(self.array, jax.Array):
            self._copy = np.copy(self.array, order="K")

    def weaken(self) -> None:
        """Hold the array weakly from now on."""
        self._weak, self.array = weakref.ref(self.array), None

    def forget(self) -> None:
        """Let go of the copy: the key is equal to no other from now on."""
        self._weak, self._copy = _gone, None

    @property
    def nbytes(self) -> int:
        """The bytes of the copy."""
        return 0 if self._copy is None else self._copy.nbytes

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Large) or self._hash != other._hash:
            return False
        if self is other:
            return True
        ours, theirs = self._known(), other._known()
        if ours is None or theirs is None or isinstance(ours, jax.Array) or isinstance(theirs, jax.Array):
            return ours is theirs and ours is not None
        return _same(ours, theirs)

    def _known(self) -> Any:
        """Return the array, or its copy; None where it is no more."""
        if self.array is not None:
            return self.array if self._copy is None else self._copy
        alive, copy = self._weak(), self._copy
        return copy if alive is not None and copy is not None else alive


def _gone() -> None:
    """Return what a weak reference to something that is no more returns."""


def is_comparable(array: Any) -> bool:
    """Return whether a NumPy array can be compared by its bytes, and fast."""
    whole = array.flags.c_contiguous or array.flags.f_contiguous
    return type(array) is np.ndarray and whole and array.nbytes <= MOST and not array.dtype.hasobject


def _flat(array: Any) -> Any:
    """Return the bytes of an array in its own order, as integers."""
    return (array if array.flags.c_contiguous else array.T).reshape(-1).view(np.uint8 if array.nbytes % 8 else np.uint64)


def _same(one: Any, other: Any) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape or one.strides != other.strides:
        return False
    return bool((_flat(one) == _flat(other)).all())
