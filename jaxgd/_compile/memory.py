"""The memory of traced costs: a cost that has not changed is not traced again.

Tracing is most of the time of a short run. `jax.jit` remembers a function by its identity, and so overlooks whatever the function
depends on when that changes; here a function is known by its code and by the values of all that it looks at: closed-over
variables, defaults, globals, and the functions among them in their turn. Where one of these is something that can't be told to be
unchanged (an object with attributes, a large array), nothing is remembered and the function is traced as usual.
"""

import builtins
import dis
import functools
import math
import operator
import sys
import threading
import types
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import jax
import numpy as np

from jaxgd._compile import fingerprint
from jaxgd._compile.closures import JITTED
from jaxgd._compile.jaxprs import Identity, array_key
from jaxgd._compile.program import Traced, trace
from jaxgd._compile.provenance import Origin
from jaxgd._trees import is_traced

_SIZE = 64
_LARGEST = 2**16  # bytes of an array to be compared by its contents, and kept
_LIBRARIES = ("jax", "jaxlib", "numpy", "math", "functools", "operator", "optax")
_PURE = {
    getattr(builtins, name)
    for name in (
        "abs all any bool callable complex dict divmod enumerate filter float getattr hasattr int isinstance issubclass iter len "
        "list map max min next object pow range reversed round set slice sorted str sum tuple type zip"
    ).split()
}
_PURE |= {value for value in vars(builtins).values() if isinstance(value, type) and issubclass(value, BaseException)}
_PURE |= {value for module in (math, operator) for value in vars(module).values() if isinstance(value, types.BuiltinFunctionType)}


class _Unknown(Exception):
    """Something that can't be told to be unchanged."""


_made: OrderedDict[Hashable, Any] = OrderedDict()
_lock = threading.Lock()


def cached(make: Callable[..., Any], function: Callable[..., Any], **options: Hashable) -> Callable[..., Any]:
    """`make(function, **options)`, compiled lazily, and the same object as before where the function does the same as before."""
    try:
        key = make, dependencies(function), tuple(sorted(options.items()))
    except _Unknown:
        return make(function, **options)
    with _lock:
        made = _made[key] = _made.pop(key, None) or jax.jit(make(function, **options))
        while len(_made) > _SIZE:
            _made.popitem(last=False)
    return made


class Known:
    """A value of the user in the structure of a program, equal to others known to do the same."""

    def __init__(self, value: Any) -> None:
        self.value = value
        try:
            self.key = dependencies(value)
        except _Unknown:
            self.key = Identity(value)

    def __repr__(self) -> str:
        return f"Known {fingerprint.of_key(self.key)}"

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Known) and self.key == other.key


def traced(
    make: Callable[..., Any],
    function: Callable[..., Any],
    *arguments: Any,
    name: str,
    origin: Origin | None = None,
    **options: Hashable,
) -> Traced:
    """`make(function, **options)` traced for arguments like these; see `trace`."""
    wanted = functools.partial((origin or Origin(function)).wanted, functools.partial(make, **options))
    return trace(cached(make, function, **options), *arguments, name=name, wanted=wanted)


def dependencies(function: Callable[..., Any]) -> Hashable:
    """Return a key of all that a function depends on beside its arguments; raises `_Unknown` where that can't be told."""
    try:
        return _key(function, ())
    except Exception:  # whatever objects of the user's do when they are looked at, and lists that hold themselves
        raise _Unknown from None


def _key(value: Any, inside: tuple[Any, ...]) -> Hashable:
    """Return the key of a value, `inside` the functions that are being looked at."""
    kind = type(value)
    if value is None or value is Ellipsis or kind in (bool, int, float, complex, str, bytes):
        return kind, repr(value)
    if kind in (tuple, list):
        return kind, tuple(_key(item, inside) for item in value)
    if issubclass(kind, tuple) and hasattr(kind, "_fields") and _is_library(kind):
        return Identity(kind), tuple(_key(item, inside) for item in value)
    if kind is dict:
        return kind, tuple((_key(name, inside), _key(item, inside)) for name, item in value.items())
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        if is_traced(value) or value.nbytes > _LARGEST or value.dtype == object:
            raise _Unknown
        if isinstance(value, np.generic):
            return array_key(value)
        return Identity(value), None if isinstance(value, jax.Array) else array_key(value)  # NumPy's can change in place
    if kind is functools.partial:
        return kind, _key(value.func, inside), _key(value.args, inside), _key(value.keywords, inside)
    if kind is types.ModuleType and value.__name__.partition(".")[0] in _LIBRARIES:
        return Identity(value)
    if isinstance(value, types.BuiltinFunctionType | type) and value in _PURE:
        return Identity(value)
    return _function_key(value, inside)


def _function_key(value: Any, inside: tuple[Any, ...]) -> Hashable:
    """Return the key of a function: of a library's, itself; of the user's, its code and all that it looks at."""
    if _is_library(value):
        return Identity(value)
    if isinstance(value, JITTED):
        return Identity(value), _key(value.__wrapped__, inside)
    if type(value) is not types.FunctionType or value.__dict__:
        raise _Unknown
    if any(value is outer for outer in inside):
        return "recursive", [value is outer for outer in inside].index(True)
    scope, names = value.__globals__, _names(value.__code__)
    looked_up = [scope[name] if name in scope else getattr(builtins, name) for name in names]
    closed_over = [cell.cell_contents for cell in value.__closure__ or ()]
    return value.__code__, names, _key((looked_up, closed_over, value.__defaults__, value.__kwdefaults__), (*inside, value))


def _is_library(value: Any) -> bool:
    """Return whether a value is what a module of a library has under the value's own name."""
    module = str(getattr(value, "__module__", ""))
    if module.partition(".")[0] not in _LIBRARIES:
        return False
    return getattr(sys.modules.get(module), str(getattr(value, "__name__", "")), None) is value


@functools.lru_cache(1024)
def _names(code: types.CodeType) -> tuple[str, ...]:
    """Return the global names that a function's code looks up, with those of the functions that it makes."""
    names: dict[str, None] = {}
    for instruction in dis.get_instructions(code):
        operation, subject = instruction.opname, instruction.argval
        if subject == "random" or operation in ("IMPORT_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"):
            raise _Unknown
        if operation.startswith("LOAD") and operation.endswith(("GLOBAL", "GLOBALS", "NAME")):
            names[str(subject)] = None
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names.update(dict.fromkeys(_names(constant)))
    return tuple(names)
