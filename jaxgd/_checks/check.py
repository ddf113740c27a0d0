"""The checks of arguments: each names the argument, what came, and what was expected, before anything compiles."""

import inspect
import re
import types
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._checks import plain
from jaxgd._trees import is_traced

HISTORY_NAMES = ("cost", "params", "gradient_norm", "learning_rate", "validation_cost")


class Refused(TypeError):
    """A refusal of ours in the midst of what JAX traces; `program.explained` makes a plain TypeError of it outside."""


def show(value: Any) -> str:
    """Return a value as an error message shows it, in one short line without addresses."""
    if isinstance(value, type) or inspect.isroutine(value):
        return f"the {'class' if isinstance(value, type) else 'function'} {value.__name__}"
    if inspect.ismodule(value):
        return f"the module {value.__name__}"
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return f"keys of jax.random of shape {value.shape}" if value.shape else "a key of jax.random"
    text = re.sub(" at 0x[0-9a-fA-F]+", "", " ".join(repr(value).split()))
    return text if len(text) <= 80 else text[:77] + "..."


def entry(name: str, index: tuple[int, ...]) -> str:
    """Return the name of one number of an array.

    >>> entry("start", (0, 2)), entry("start", ())
    ('start[0,2]', 'start')
    """
    return f"{name}[{','.join(map(str, index))}]" if index else name


def one_of(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Check that a value is one of a few."""
    if isinstance(value, np.bool_):
        value = bool(value)
    for choice in choices:
        if type(value) is type(choice) and value == choice:
            return
    *others, last = map(repr, choices)
    raise ValueError(f"{name}: expected {', '.join(others)} or {last}, got {show(value)}.")


def integer(name: str, value: Any, low: int, high: int | None = None, why: str = "") -> int:
    """Check an integer within limits, and return it as a Python int."""
    too_high = high is not None and (why or (isinstance(value, int) and value > high))
    expected = f"an integer from {low} to {high}" if too_high else f"an integer of at least {low}"
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: expected {expected}{why}, got {show(value)}.")
    if value < low or (high is not None and value > high):
        raise ValueError(f"{name}: expected {expected}{why}, got {value}.")
    return int(value)


def integer_or_none(name: str, value: Any, low: int, high: int | None = None) -> int | None:
    """Check an integer within limits, or None."""
    return None if value is None else integer(name, value, low, high)


def real(name: str, value: Any, expected: str = "a number") -> np.ndarray | None:
    """Check that a value is a real number or an array of them; return an array, None while traced."""
    if is_traced(value):
        return None
    plain.refuse(name, value)
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        array = np.asarray(None)
    real = jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)
    if not real or array.dtype.kind == "m":  # a duration counts as an integer
        raise TypeError(f"{name}: expected {expected}, got {show(value)}.")
    return array.astype(np.float64)


def scalar(name: str, value: Any) -> np.ndarray | None:
    """Check that a value is one real number, and not NaN, and return it as an array (None while traced)."""
    array = real(name, value)
    if array is not None and (array.shape != () or np.isnan(array)):
        raise ValueError(f"{name}: expected one number, got {show(value)}.")
    return array


def _each(name: str, array: np.ndarray | None, value: Any, holds: Callable[[Any], Any], expected: str) -> None:
    """Check that something holds for each number of an array, made of a value."""
    if array is not None and not np.all(holds(array)):
        raise ValueError(f"{name}: expected {expected}, got {show(value)}.")


def positive(name: str, value: Any, *, several: bool = False) -> None:
    """Check that a number, or each number of an array where there may be several, is finite and above zero."""
    array = real(name, value) if several else scalar(name, value)
    _each(name, array, value, lambda x: (x > 0) & np.isfinite(x), "a finite number > 0")


def at_least_zero(name: str, value: Any) -> None:
    """Check that a number is finite and not negative."""
    _each(name, scalar(name, value), value, lambda x: (x >= 0) & np.isfinite(x), "a finite number >= 0")


def fraction(name: str, value: Any, *, closed: bool) -> None:
    """Check that a number lies in [0, 1], or in [0, 1) if not closed."""
    expected = f"a number in [0, 1{']' if closed else ')'}"
    _each(name, scalar(name, value), value, lambda x: (x >= 0) & (x <= 1 if closed else x < 1), expected)


def share(name: str, value: Any) -> None:
    """Check that a number lies in (0, 1]."""
    array = real(name, value)
    if array is None or array.shape != () or not 0 < array <= 1:
        raise ValueError(f"{name}: expected a number in (0, 1], got {show(value)}.")


def vector(name: str, value: Any) -> Any:
    """Check a list or array of real numbers of one dimension, and return it as an array."""
    if is_traced(value):
        return value
    array = real(name, value, "a list of numbers")
    if array is None or array.ndim != 1 or np.any(np.isnan(array)):
        raise TypeError(f"{name}: expected a list of numbers, got {show(value)}.")
    return array


def flag(name: str, value: Any) -> None:
    """Check that a value is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, got {show(value)}.")


def all_true(value: Any) -> bool:
    """Return whether an array or a list is one of truth values, all of them true."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        return False
    return array.dtype == bool and bool(array.all())


def switch(name: str, value: Any) -> None:
    """Check that a value is True or False, or a number, 1 or 0, in their place."""
    array = None if isinstance(value, bool | np.bool_) else real(name, value, "True or False")
    _each(name, array, value, lambda x: (x == 0) | (x == 1), "True or False")


def function(
    name: str, value: Any, arguments: tuple[str, ...], expected: str, why: str = "", by_name: tuple[str, ...] = ()
) -> None:
    """Check that a value can be called with some arguments, some of them by name, as far as it tells."""
    if not callable(value):
        raise TypeError(f"{name}: expected {expected}, got {show(value)}.")
    if not by_name and _takes(value, len(arguments)):
        return
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*arguments, **dict.fromkeys(by_name))
    except TypeError:
        got = getattr(value, "__name__", type(value).__name__)
        raise TypeError(f"{name}: expected {expected}{why}; got {got}{signature}.") from None


def _takes(value: Any, count: int) -> bool:
    """Return whether a value is a plain function that takes `count` arguments: what its signature says, sooner."""
    if type(value) is not types.FunctionType or value.__dict__:
        return False
    code = value.__code__
    return not code.co_kwonlyargcount and code.co_argcount - len(value.__defaults__ or ()) <= count <= code.co_argcount


def progress_bar() -> Any:
    """Return the class of progress bars of tqdm."""
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError('progress=True needs tqdm: pip install "jaxgd[progress]"') from error
    return tqdm


def options(progress: Any = False, **flags: Any) -> None:
    """Check the options that both verbs share."""
    for name, value in flags.items():
        flag(name, value)
    if not isinstance(progress, bool | np.bool_) and not (isinstance(progress, str) and progress in ("lines", "auto")):
        raise TypeError(f"progress: expected True, False, 'lines' or 'auto', got {show(progress)}.")
    if progress not in (False, "lines", "auto"):
        progress_bar()


def alone(name: str, number: int, **others: Any) -> None:
    """Check that options which don't go together with a number above 1 were not given."""
    for other, value in others.items():
        if value:
            given = "jit=False" if other == "jit" else other
            raise ValueError(f"{name}: expected 1 together with {given}, which looks at one run, got {number}.")


def missing_key(why: str) -> NoReturn:
    """Say that a random key is missing."""
    raise ValueError(f"key: {why} needs a random key: pass an integer, as in key=0, or a key of jax.random.")


def random_key(key: Any) -> jax.Array | int | None:
    """Check a random key (new-style, legacy, an integer or None), and return it as a Python integer or new-style."""
    if key is None:
        return None
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        if not 0 <= key < 2**32:
            raise ValueError(f"key: expected an integer from 0 to 2**32 - 1, or a key of jax.random, got {key}.")
        return int(key)
    if isinstance(key, jax.Array | np.ndarray):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            if key.shape == ():
                return key  # type: ignore[return-value]
        elif key.dtype == jnp.uint32 and key.shape in ((2,), (4,)):
            return jax.random.wrap_key_data(jnp.asarray(key), impl="threefry2x32" if key.shape == (2,) else "rbg")
        elif key.shape == () and jnp.issubdtype(key.dtype, jnp.integer):
            return jax.random.key(key) if is_traced(key) else random_key(int(key))
    raise TypeError(f"key: expected an integer or one key of jax.random, got {show(key)}.")


def history_names(history: Any, extra: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Check the names of what to record, and return them in a fixed order; the cost is always among them."""
    if history is None:
        return ()
    given = list(history) if isinstance(history, set | frozenset) else jax.tree.leaves(history)
    if not given:
        return ()
    known = tuple(name for name in HISTORY_NAMES if name != "validation_cost" or "validation_cost" in extra)
    if "validation_cost" in given and "validation_cost" not in known:
        raise ValueError("history: 'validation_cost' is recorded by fit, where validation data are given.")
    for name in given:
        if not isinstance(name, str) or name not in known:
            raise ValueError(f"history: expected names among {', '.join(known)}, got {show(name)}.")
    return tuple(name for name in known if name in {*given, "cost", *extra})
