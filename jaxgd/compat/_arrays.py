"""Arrays that NumPy's functions take while JAX traces them, so that code written with NumPy is traced as it is.

NumPy asks the arguments of its functions whether they know better (`__array_ufunc__` and `__array_function__`, NumPy's proposals 13
and 18). A `TracedArray` answers with the function of the same name in `jax.numpy`. Where NumPy makes an array of it, that is one of
objects, each of them a number that JAX traces. Assignments in place are followed, but not those to a view of another array.
"""

from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special
import numpy as np

_UNARY = frozenset(
    "arccos arccosh arcsin arcsinh arctan arctanh cbrt ceil conjugate cos cosh exp exp2 expm1 fabs floor log log10 log1p log2 rint "
    "sin sinh sqrt square tan tanh".split()
)  # functions that NumPy calls as methods of objects
_MODULES: dict[str, Any] = {"numpy": jnp, "numpy.linalg": jnp.linalg, "numpy.fft": jnp.fft}
_VIEWS = frozenset({"T", "ravel", "reshape", "squeeze", "swapaxes", "transpose", "real", "imag"})


class TracedArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array that JAX traces, with the operators, functions and methods of one of NumPy."""

    __slots__ = ("has_views", "is_view", "value")

    def __init__(self, value: Any, *, is_view: bool = False) -> None:
        self.value = jnp.asarray(value)
        self.is_view, self.has_views = is_view, False

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        """Answer an element-wise function of NumPy or of scipy.special."""
        function = getattr(jnp, ufunc.__name__, None) or getattr(jax.scipy.special, ufunc.__name__, None)
        if function is None or method != "__call__" or options:
            return NotImplemented
        result = function(*map(unwrapped, inputs))
        if out is None:
            return wrapped(result)
        (target,) = out
        if not isinstance(target, TracedArray):
            return NotImplemented
        return target._assign(jnp.broadcast_to(result, target.shape).astype(target.value.dtype))

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        """Answer any other function of NumPy."""
        same = getattr(_MODULES.get(function.__module__), function.__name__, None)
        if same is None or options.get("out") is not None:
            return NotImplemented
        return wrapped(same(*_lists_as_arrays(unwrapped(arguments)), **unwrapped(options)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return an array of objects, each a number that is traced."""
        if dtype is not None and np.dtype(dtype) != object:
            raise TypeError("a number that JAX is tracing has no value yet.")
        numbers = np.empty(self.shape, object)
        for index in np.ndindex(self.shape):
            numbers[index] = TracedArray(self.value[index])
        return numbers

    def __jax_array__(self) -> jax.Array:
        return self.value

    def __getattr__(self, name: str) -> Any:
        if name in _UNARY:
            return lambda: TracedArray(getattr(jnp, name)(self.value))
        if name.startswith("_"):
            raise AttributeError(name)
        found, is_view = getattr(self.value, name), name in _VIEWS
        self.has_views |= is_view
        if not callable(found):
            return wrapped(found, is_view=is_view)
        return lambda *arguments, **options: wrapped(found(*unwrapped(arguments), **unwrapped(options)), is_view=is_view)

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Any:
        return (self[k] for k in range(len(self.value)))

    def __getitem__(self, index: Any) -> "TracedArray":
        found = self.value[unwrapped(index)]
        self.has_views |= found.ndim > 0
        return TracedArray(found, is_view=found.ndim > 0)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._assign(self.value.at[unwrapped(index)].set(unwrapped(value)))

    def __bool__(self) -> bool:
        return bool(self.value)  # JAX says why not

    def __float__(self) -> float:
        return float(self.value)

    def __index__(self) -> int:
        return self.value.__index__()

    __hash__ = None  # type: ignore[assignment]

    def _assign(self, value: Any) -> "TracedArray":
        if self.is_view or self.has_views:
            raise TypeError("an assignment to a part of an array, of which another array has a part, can't be traced.")
        self.value = value
        return self


def wrapped(value: Any, *, is_view: bool = False) -> Any:
    """Return a pytree with the arrays of JAX in it wrapped."""
    return jax.tree.map(lambda leaf: TracedArray(leaf, is_view=is_view) if isinstance(leaf, jax.Array) else leaf, value)


def unwrapped(value: Any) -> Any:
    """Return a pytree with arrays of JAX in the places of those wrapped, and of arrays of objects."""
    return jax.tree.map(_unwrapped, value, is_leaf=lambda node: isinstance(node, TracedArray))


def _lists_as_arrays(arguments: Any) -> Any:
    """Return arguments with arrays in the places of lists of numbers, which NumPy takes and JAX does not."""

    def is_list(node: Any) -> bool:
        return isinstance(node, list) and all(isinstance(one, int | float) for one in node)

    return jax.tree.map(lambda leaf: np.array(leaf) if is_list(leaf) else leaf, arguments, is_leaf=is_list)


def _unwrapped(leaf: Any) -> Any:
    if isinstance(leaf, TracedArray):
        return leaf.value
    if isinstance(leaf, np.ndarray) and leaf.dtype == object:
        numbers = [jnp.asarray(_unwrapped(one)) for one in leaf.ravel().tolist()]
        return jnp.stack(numbers).reshape(leaf.shape)
    return leaf
