"""The numbers in a trace that follow from those that a function closes over: other values are no new program.

A closed-over number reaches a jaxpr as a literal: as it is, or as what Python made of it, such as `2 * lam` or `a.mean()`. That
has to stay the number that Python, in its 64 bits, makes of it. So the function is traced a second time with all numbers that it
closes over moved a little, each by another share; the literals that moved with them are those, and where several moved alike they
are one quantity. Where the trace has another structure then, as exponents, shapes and branches have it, only literals that are
closed-over numbers as they are, and are not common, are told; other numbers instead of the rest are programs of their own.

What is found depends on the function and its arguments alone, and not on calls before: the same call is the same program. Another
way would be to lift every literal: more numbers for each loop to carry, and powers, quotients and constants that XLA would no
longer simplify. Or, to trace the numbers themselves: then `2 * lam` would be rounded to the run's precision first.
"""

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._compile import jaxprs
from jaxgd._compile.copies import Closure
from jaxgd._compile.lifting import Wanted
from jaxgd._trees import is_floating, is_traced

_COMMON = frozenset((0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0))
_SHIFT = 2.0**-5  # of a number, about, by which it is moved: to be seen in bfloat16 too
_FEW = 64  # numbers of an array, up to which they may be common ones
_MOST = 2**16  # numbers of an array, up to which Python is believed to make others of them


class Origin:
    """A function of the user and what earlier traces have shown of its numbers."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.known: dict[Any, set[Any]] = {}  # of numbers that were seen: what they are where they moved, None where they did not

    @functools.cached_property
    def closure(self) -> Closure:
        """The function with what it closes over."""
        return Closure(self.function)

    @functools.cached_property
    def numbers(self) -> tuple[set[float], set[float], bool]:
        """The numbers that the function closes over, floats and integers, and whether there are floats, few together."""
        floats, integers, few = set(), set(), False
        for value, _ in self.closure.leaves:
            if isinstance(value, int | np.integer) and not isinstance(value, bool):
                with contextlib.suppress(OverflowError):
                    integers.add(float(value))
            elif jnp.issubdtype(getattr(value, "dtype", np.float64), jnp.floating) and np.size(value) <= _FEW:
                few = True
                if np.shape(value) == () and not is_traced(value):
                    floats.add(float(value))
        return floats, integers, few

    def wanted(self, make: Callable[[Any], Callable[..., Any]], jaxpr: Any, arguments: Any) -> Wanted:
        """Return the literals of a jaxpr that are to become arguments; it is that of `make(function)` for such arguments."""
        key, literals = jaxprs.skeleton(jaxpr)
        explained = _names(_COMMON | self.closure.code | jaxprs.sizes(jaxpr), literals)
        if self.known:
            seen = {bits: self.known.get(bits, {None} if bits in explained else set()) for bits in map(jaxprs.bits, literals)}
            if all(len(moved) == 1 for moved in seen.values()):
                names = {bits: next(iter(moved)) for bits, moved in seen.items()}
                return {id(one): (one.aval, bits, names[bits]) for one in literals if names[bits := jaxprs.bits(one)] is not None}
        found = self._found(literals, explained, functools.partial(self._moved, key, literals, make, arguments))
        for literal in literals:
            self.known.setdefault(jaxprs.bits(literal), set()).add(found[id(literal)][-1] if id(literal) in found else None)
        return found

    def _found(self, literals: list[Any], explained: set[Any], moved_by: Any) -> dict[int, Any]:
        """Return the literals that follow from what the function closes over, floats first and then integers."""
        (floats, integers, few), found = self.numbers, {}
        if few or any(_is_floating(literal) and jaxprs.bits(literal) not in explained for literal in literals):
            moved = moved_by(_Shift(floats=True))
            found = _as_they_are(floats, literals) if moved is None else moved
        left = [literal for literal in literals if id(literal) not in found]
        as_they_are = _names(integers, left)
        if integers and any((bits := jaxprs.bits(literal)) in as_they_are or bits not in explained for literal in left):
            moved = moved_by(_Shift(least=1))
            moved = moved_by(_Shift(least=3)) if moved is None else moved
            found = (_as_they_are(integers, left) if moved is None else moved) | found
        return found

    def _moved(self, key: Any, literals: list[Any], make: Any, arguments: Any, shift: "_Shift") -> dict[int, Any] | None:
        """Return the literals that change where closed-over numbers are shifted. None where the shift changes the structure."""
        other = self.closure.varied(shift)
        if other is self.function:
            return {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                others_key, others = jaxprs.skeleton(jax.make_jaxpr(make(other))(*arguments).jaxpr)
        except Exception:  # whatever numbers that nobody has chosen may lead to
            return None
        if others_key != key:
            return None
        names = [(literal.aval, jaxprs.bits(literal), jaxprs.bits(other)) for literal, other in zip(literals, others, strict=True)]
        return {id(literal): name for literal, name in zip(literals, names, strict=True) if name[1] != name[2]}


class _Shift:
    """A small move of floating numbers, each by another share, or of integers by one."""

    def __init__(self, *, floats: bool = False, least: int = 0) -> None:
        self.floats, self.least = floats, least
        self.count = 0

    def __call__(self, value: Any) -> Any:
        kind, is_array = type(value), isinstance(value, np.ndarray) and 0 < value.size <= _MOST
        if self.floats:
            if kind is float or isinstance(value, np.floating):
                return kind(self._moved(np.asarray(value)))
            if is_array and np.issubdtype(value.dtype, np.floating):
                return self._moved(value)
            if isinstance(value, jax.Array) and not is_traced(value) and value.size == 1 and is_floating(value.dtype):
                with jax.ensure_compile_time_eval():
                    return jax.device_put(self._moved(np.asarray(value)))
        elif kind is int or isinstance(value, np.integer):
            return kind(value + 1) if abs(int(value)) >= self.least else value
        elif is_array and np.issubdtype(value.dtype, np.integer):
            return value + np.ones((), value.dtype)
        return value

    def _moved(self, value: np.ndarray) -> np.ndarray:
        self.count += 1
        share = 1 + (self.count + np.arange(value.size).reshape(value.shape)) * 0.618 % 1
        with np.errstate(all="ignore"):
            return (value + _SHIFT * share * (np.abs(value) + (value == 0))).astype(value.dtype)


def _names(numbers: Iterable[float], literals: list[Any]) -> set[Any]:
    """Return the bits of numbers as literals of the types that some literals have, as far as these hold them."""
    found = set()
    for dtype in {literal.aval.dtype for literal in literals}:
        if np.issubdtype(dtype, np.integer):
            limit = np.iinfo(dtype).max
            values = [int(number) for number in numbers if abs(number) <= limit and number == int(number)]
        else:
            values = list(numbers)
        with np.errstate(over="ignore"):  # a number too large for 32 bits is infinity there, in the program too
            found |= {(dtype, np.asarray(value, dtype).tobytes()) for value in values}
    return found


def _as_they_are(numbers: Iterable[float], literals: list[Any]) -> dict[int, Any]:
    """Return the literals of a floating type that are among some numbers, without common ones."""
    floating = list(filter(_is_floating, literals))
    names = _names(set(numbers) - _COMMON, floating)
    return {id(literal): (literal.aval, bits, bits) for literal in floating if (bits := jaxprs.bits(literal)) in names}


def _is_floating(literal: Any) -> bool:
    return jnp.issubdtype(literal.aval.dtype, jnp.floating)
