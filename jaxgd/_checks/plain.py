"""Values that carry more than numbers: NumPy would drop a mask, a unit or the mark of a missing entry without a word.

`refuse` names what would be lost. Libraries are known by the attributes of their arrays, and none is imported.
"""

import inspect
from typing import Any

import jax
import numpy as np

_PLAIN = (bool, int, float, complex, str, np.generic)
_NO_UNIT = ("", "dimensionless", "None")


def refuse(name: str, value: Any) -> None:
    """Refuse a value of which NumPy would keep the numbers and drop a part of their meaning."""
    if type(value) is np.ndarray:
        if value.dtype.names:
            cure = f"pass one array for each of its fields, {', '.join(map(repr, value.dtype.names))}"
            raise TypeError(f"{name}: expected plain numbers, got a structured array: {cure}.")
        return
    if isinstance(value, (jax.Array, *_PLAIN)) or value is None:
        return
    if isinstance(value, list | tuple):
        if not all(isinstance(item, _PLAIN) for item in value):
            for k, item in enumerate(value):
                refuse(f"{name}[{k}]", item)
        return
    lost = _lost(value)
    if lost is not None:
        got, cure = lost
        raise TypeError(f"{name}: expected plain numbers, got {got}, which would be lost: {cure}.")


def _lost(value: Any) -> tuple[str, str] | None:
    """Return what NumPy would drop from a value, in words, and the cure; None if it would keep everything."""
    masked = _masked(value)
    if masked:
        return f"an array with {masked} masked", "leave those rows out, or pass the mask as another array and use it in the cost"
    unit = _unit(value)
    if unit is not None:
        return f"numbers with the unit {unit!r}", "pass their values in a unit of your choice"
    for column, part in _columns(value):
        missing = _missing(part)
        if missing:
            return f"{missing}{column}", "leave those rows out, or fill them in"
        if _is_categorical(part):
            return f"categories{column}", "pass their codes, or their values as numbers"
    if type(value).__module__.partition(".")[0] == "scipy" and hasattr(value, "toarray"):
        return "a sparse matrix", "pass matrix.toarray(), or its entries with their rows and columns"
    inner = getattr(value, "data", None) if hasattr(type(value), "dims") else None  # of an array of xarray's
    return None if inner is None or isinstance(inner, memoryview) else _lost(inner)


def _masked(value: Any) -> str:
    """Return how many entries of an array are masked, in words; empty where none is."""
    mask = getattr(value, "mask", None) if isinstance(value, np.ndarray) or hasattr(type(value), "mask") else None
    if mask is None or callable(mask) or np.shape(mask) != getattr(value, "shape", None):
        return ""
    count, size = int(np.sum(np.asarray(mask, dtype=bool))), np.size(mask)
    return "" if count == 0 else "its value" if size == 1 else f"{count} of {size} values"


def _unit(value: Any) -> str | None:
    """Return the unit that the numbers of an array are in; None for plain numbers."""
    for attribute in ("unit", "units"):
        if isinstance(value, np.ndarray) or hasattr(type(value), attribute):  # a table's column of that name is no unit
            unit = getattr(value, attribute, None)
            if not (unit is None or inspect.isroutine(unit) or isinstance(unit, np.ndarray)) and hasattr(value, "__array__"):
                return None if str(unit) in _NO_UNIT else str(unit)
    return None


def _columns(value: Any) -> list[tuple[str, Any]]:
    """Return the columns of a table, each with the words that name it. Any other value is its own only column."""
    if hasattr(value, "iloc") and hasattr(value, "dtypes") and hasattr(value, "columns"):  # pandas
        marked = [k for k, dtype in enumerate(value.dtypes) if not isinstance(dtype, np.dtype)]
        return [(f" in the column {value.columns[k]!r}", value.iloc[:, k]) for k in marked]
    if hasattr(value, "get_columns"):  # polars
        return [(f" in the column {column.name!r}", column) for column in value.get_columns()]
    if hasattr(value, "column_names") and hasattr(value, "column"):  # pyarrow
        return [(f" in the column {name!r}", value.column(k)) for k, name in enumerate(value.column_names)]
    return [("", value)]


def _missing(column: Any) -> str:
    """Return how many entries of a column are marked as missing, in words.

    NaN in a column of plain floats is a number like others.
    """
    count: Any = 0
    if hasattr(type(column), "null_count"):  # polars, pyarrow
        count = column.null_count() if callable(column.null_count) else column.null_count
    elif hasattr(column, "isna") and not isinstance(getattr(column, "dtype", None), np.dtype):  # pandas
        count = column.isna().sum()
    return "" if count == 0 else f"{int(count)} missing value{'' if count == 1 else 's'}"


def _is_categorical(column: Any) -> bool:
    return type(getattr(column, "dtype", None)).__name__ in ("CategoricalDtype", "Categorical", "Enum")
