"""The test whether 64-bit numbers survive in 32 bits: rounding must not merge values that differ.

A column far from zero loses more than digits that nobody needs. Float32 keeps 24 bits of a number, so the seconds since 1970 come
in steps of 128, and ten minutes of them in five values. A column is refused where, in float32,

    at most half of its distinct values are left, or
    the rounding errors exceed 1e-3 of its standard deviation,

on at most 8192 rows. Measurements that almost coincide merge as well, but few of them, by errors of 1e-7 of their spread. A column
that is constant up to the rounding of 64 bits has no distinct values to lose.
"""

import numpy as np

_ROWS = 2**13  # rows that are looked at
_NUMBERS = 2**15  # numbers that are looked at, where there are many columns
_NEAR = 16.0  # in a column no further from zero than so many of its ranges the rounding errors are below 1e-6 of the range
_TINY, _SMALL = float(np.finfo(np.float32).tiny), 1e-30
_LEFT, _ERROR = 0.5, 1e-3
_CONSTANT = 64 * float(np.finfo(np.float64).eps)


def merged(array: np.ndarray, narrow: np.ndarray | None = None) -> int | None:
    """Return the first column whose values merge in float32, or None.

    Columns are counted by the last axis.

    `narrow` is the array in float32, where that is known.
    """
    if array.size < 2 or array.ndim == 0:
        return None
    if array.ndim == 1 and narrow is not None and narrow.dtype == np.float32 and _are_apart(narrow[:: -(-len(narrow) // _ROWS)]):
        return None
    if np.iscomplexobj(array):
        found = merged(np.real(array))
        return merged(np.imag(array)) if found is None else found
    table = array.reshape(-1, array.shape[-1] if array.ndim > 1 else 1)
    most = max(2, min(_ROWS, _NUMBERS // table.shape[1]))
    columns = np.array(table[:: -(-len(table) // most)].T, np.float64, order="C")
    columns.sort(axis=1)  # the smallest first, and NaN last
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):  # infinity less infinity
        rounded = columns.astype(np.float32)
        low, high = columns[:, 0], columns[:, -1]
        size = np.maximum(np.abs(low), np.abs(high))
        near = ((size <= _NEAR * (high - low)) & (size > _SMALL)) | (low == high)
    few = _distinct(rounded) <= _LEFT * columns.shape[1]
    if np.any(few):
        few &= _distinct(rounded) <= _LEFT * _distinct(columns)
    for column in np.flatnonzero(few | ~near):
        if _merges(columns[column]):
            return int(column)
    return None


def _are_apart(values: np.ndarray) -> bool:
    """Return whether a column in float32 shows at a glance that few of its values have merged, and by little: most columns do."""
    values = np.sort(values)
    low, high = float(values[0]), float(values[-1])
    near = _SMALL < max(abs(low), abs(high)) <= _NEAR * (high - low)
    return bool(near and np.count_nonzero(values[1:] > values[:-1]) >= _LEFT * len(values))


def _distinct(columns: np.ndarray) -> np.ndarray:
    """Return how many distinct numbers sorted columns have, the rows of a matrix; those that are NaN do not count."""
    return 1 + np.count_nonzero(columns[..., 1:] > columns[..., :-1], axis=-1)


def _merges(values: np.ndarray) -> bool:
    """Return whether a sorted column loses its distinct values, or their differences, when it is rounded."""
    values = values[np.isfinite(values)]
    if len(values) < 2 or values[-1] - values[0] <= _CONSTANT * max(abs(values[0]), abs(values[-1])):
        return False
    rounded = _rounded(values)
    if _distinct(rounded) <= _LEFT * _distinct(values):
        return True
    return bool(np.sqrt(np.mean((rounded - values) ** 2)) > _ERROR * np.std(values))


def _rounded(values: np.ndarray) -> np.ndarray:
    """Return the values in float32, where XLA takes what is below the smallest normal number for zero."""
    with np.errstate(over="ignore", under="ignore"):
        rounded = values.astype(np.float32)
    rounded[np.abs(rounded) < _TINY] = 0
    return rounded
