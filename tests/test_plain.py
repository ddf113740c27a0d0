"""Values that carry more than numbers are refused by name, wherever numbers go in; those that lose nothing are taken."""

import re
import warnings
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd._checks import check_trees

MASKED = np.ma.array([1.0, 2.0, 90.0], mask=[False, False, True])


class _Quantity:
    """What a library of units makes of an array."""

    def __init__(self, values: Any, unit: str) -> None:
        self.values, self.shape = np.asarray(values), np.shape(values)
        self._unit = unit

    @property
    def units(self) -> str:
        return self._unit

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        warnings.warn("the unit is stripped", stacklevel=2)
        return self.values


class _Plain(_Quantity):
    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.values


class _Nullable:
    """What a table makes of a column with a missing value."""

    null_count = 1

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array([1.0, np.nan, 3.0])


class _Grad:
    """A tensor that NumPy may not have."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")

    def __repr__(self) -> str:
        return "tensor(1., requires_grad=True)"


class _Variable:
    """A file's variable, which gives out masked arrays."""

    mask = True

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return MASKED


class _WithUnit(np.ndarray):
    unit = "m"


REFUSED = [
    (MASKED, "an array with 1 of 3 values masked"),
    ([1.0, np.ma.masked], "an array with its value masked"),
    (_Variable(), "an array with 1 of 3 values masked"),
    (_Quantity([1.0, 2.0, 3.0], "km"), "numbers with the unit 'km'"),
    (np.ones(3).view(_WithUnit), "numbers with the unit 'm'"),
    (_Nullable(), "1 missing value"),
    (np.zeros(3, [("x", float), ("y", float)]), "a structured array: pass one array for each of its fields, 'x', 'y'"),
    (np.zeros(3, "m8[s]"), "np.timedelta64"),
    (_Grad(), "expected what NumPy takes for an array, got tensor(1., requires_grad=True): Can't call numpy() on Tensor"),
]


@pytest.mark.parametrize("value, message", REFUSED, ids=lambda one: type(one).__name__)
def test_what_would_lose_its_meaning_is_refused_by_name(value: Any, message: str) -> None:
    for name, call in (
        ("data[1]", lambda: check_trees.data_arrays("data", (np.ones(3), value))),
        ("start['w']", lambda: check_trees.parameters("start", {"w": value})),
    ):
        with pytest.raises(TypeError, match=rf"^{re.escape(name)}(\[\d\])?: .*{re.escape(message)}"):
            call()


def cost(params: Any, rows: Any) -> Any:
    return jnp.mean((rows - params) ** 2)


def test_the_verbs_name_the_argument(traces: Any) -> None:
    rows = np.ones(3)
    minimize: Callable[..., Any] = lambda **options: jaxgd.minimize(cost, 1.0, rows, **options)  # noqa: E731
    fit: Callable[..., Any] = lambda **options: jaxgd.fit(cost, 1.0, rows, batch_size=1, n_epochs=1, key=0, **options)  # noqa: E731
    calls: dict[str, Callable[[], Any]] = {
        "data": lambda: jaxgd.minimize(cost, 1.0, MASKED),
        "validation": lambda: fit(validation=MASKED),
        "start": lambda: jaxgd.minimize(cost, MASKED, rows),
        "params": lambda: jaxgd.covariance(cost, MASKED, rows),
        "bounds[0]": lambda: minimize(bounds=(MASKED[2:], None)),
        "bounds[1]": lambda: minimize(bounds=(None, _Quantity(3.0, "km"))),
        "fixed": lambda: jaxgd.minimize(cost, np.ones(3), rows, fixed=MASKED > 0),
        "Adam: learning_rate": lambda: minimize(method=jaxgd.Adam(np.ma.masked_greater(0.1, 0))),
        "GradientDescent: learning_rate": lambda: minimize(method=jaxgd.GradientDescent(_Quantity(0.1, "s"))),
        "PiecewiseConstant: boundaries": lambda: jaxgd.schedules.PiecewiseConstant(MASKED, [1, 1, 1, 1]),
        "tolerance": lambda: jaxgd.stopping.CostTolerance(_Quantity(0.1, "s")),
    }
    for name, call in calls.items():
        with traces() as traced, pytest.raises(TypeError, match=rf"{re.escape(name)}: expected plain numbers, got ."):
            call()
        assert not traced


def test_what_loses_nothing_is_taken() -> None:
    taken = [
        np.ma.array([1.0, 2.0, 3.0]),
        np.ma.array([1.0, 2.0, 3.0], mask=[False, False, False]),
        _Plain([1.0, 2.0, 3.0], "dimensionless"),
        np.array([1.0, 2.0, 3.0]).view(np.memmap),
    ]
    for value in taken:
        np.testing.assert_array_equal(check_trees.data_arrays("data", value), [1, 2, 3])
    np.testing.assert_array_equal(check_trees.data_arrays("data", [1.0, np.nan]), [1, np.nan])  # NaN is a number like others


LIBRARIES: dict[str, Callable[[Any], list[tuple[Any, str]]]] = {
    "pandas": lambda pd: [
        (pd.Series([1, None], dtype="Int64"), "1 missing value"),
        (pd.Series([1.0, None, None], dtype="Float64"), "2 missing values"),
        (pd.DataFrame({"a": [1.0, 2.0], "b": pd.array([1, None], dtype="Int64")}), "1 missing value in the column 'b'"),
        (pd.Series([1, 2], dtype="category"), "categories"),
        (pd.Series(pd.to_datetime(["2020-01-01"])), "np.datetime64"),
        (pd.Series(pd.to_timedelta([1], unit="s")), "np.timedelta64"),
    ],
    "polars": lambda pl: [
        (pl.Series([1, None]), "1 missing value"),
        (pl.DataFrame({"a": [1, 2], "b": [1.0, None]}), "1 missing value in the column 'b'"),
    ],
    "pyarrow": lambda pa: [
        (pa.array([1, None]), "1 missing value"),
        (pa.chunked_array([[1.0], [None, None]]), "2 missing values"),
        (pa.table({"a": [1, None]}), "1 missing value in the column 'a'"),
    ],
    "pint": lambda pint: [
        (np.arange(3.0) * pint.UnitRegistry().meter, "numbers with the unit 'meter'"),
        (3.0 * pint.UnitRegistry().second, "numbers with the unit 'second'"),
    ],
    "astropy.units": lambda u: [(np.arange(3.0) * u.m, "numbers with the unit 'm'"), (3.0 * u.s, "numbers with the unit 's'")],
    "astropy.table": lambda table: [
        (table.MaskedColumn([1.0, 2.0], mask=[0, 1]), "1 of 2 values masked"),
        (table.Column([1.0, 2.0], unit="m"), "the unit 'm'"),
        (table.Table({"a": [1.0, 2.0]}), "a structured array"),
    ],
    "astropy.utils.masked": lambda masked: [(masked.Masked(np.ones(2), mask=[0, 1]), "1 of 2 values masked")],
    "xarray": lambda xr: [
        (xr.DataArray(np.ones(3) * pytest.importorskip("pint").UnitRegistry().meter), "the unit 'meter'"),
        (xr.Dataset({"a": ("x", [1.0, 2.0])}), "what NumPy takes for an array"),
    ],
    "scipy.sparse": lambda sparse: [(sparse.csr_array(np.eye(3)), "a sparse matrix"), (sparse.csr_matrix(np.eye(3)), "a sparse")],
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_values_of_libraries(library: str) -> None:
    module = pytest.importorskip(library)
    for value, message in LIBRARIES[library](module):
        with pytest.raises(TypeError, match=rf"^data\['x'\](\[0\])?: .*{re.escape(message)}"):
            check_trees.data_arrays("data", {"x": value})


def test_whole_columns_of_libraries_are_taken() -> None:
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    columns = [
        pd.Series([1, 2, 3], dtype="Int64"),
        pd.Series({"unit": 1.0, "units": 2.0, "mask": 3.0}),
        pd.DataFrame({"unit": [1.0, 2.0, 3.0]})["unit"],
        pl.Series([1, 2, 3]),
    ]
    for column in columns:
        np.testing.assert_array_equal(check_trees.data_arrays("data", column), [1, 2, 3])
    frame = pd.DataFrame({"unit": [1.0, 2.0], "units": [3.0, np.nan]})
    np.testing.assert_array_equal(check_trees.data_arrays("data", frame), [[1, 3], [2, np.nan]])
