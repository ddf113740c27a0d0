"""The surroundings of a function: closed-over variables, defaults, globals, attributes, and functions among them.

JAX keeps a copy of a NumPy array in its own precision for as long as anything uses it, and hands out the same copy again when the
precision is another, or the array has been changed in place. So while a function is traced, `fresh` shows it views of its arrays,
which JAX has not seen before. A view is the same numbers in the same memory.
"""

import contextlib
import functools
import gc
import operator
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgd._shards import as_in_call
from jaxgd._trees import in_64_bits, is_traced

MOST = 4000  # things to look at, for one function
WIDE = frozenset(np.dtype(name) for name in ("float64", "int64", "uint64", "complex128"))
_ATOMS = frozenset(
    (type(None), type(...), bool, int, float, complex, str, bytes, types.BuiltinFunctionType, np.dtype, range, slice)
)
_LIBRARIES = frozenset(("jax", "jaxlib", "numpy", "scipy", "optax", "jaxgd")) | sys.stdlib_module_names - {"__main__"}
JITTED: Any = type(jax.jit(lambda: None))
_CACHED: Any = type(functools.cache(lambda: None))


@functools.lru_cache(1024)
def names(code: types.CodeType) -> tuple[str, ...]:
    """Return the names of globals and attributes in the code of a function and of those it makes."""
    found = dict.fromkeys(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found.update(dict.fromkeys(names(constant)))
    return tuple(found)


def unjitted(function: Any) -> Any:
    """Return the function that `jax.jit` was given, if that made this one."""
    return function.__wrapped__ if isinstance(function, JITTED) else function


def is_library(module: Any) -> bool:
    """Return whether a module of this name is one that holds nothing of the user's."""
    return str(module).partition(".")[0] in _LIBRARIES


def globals_of(function: types.FunctionType) -> dict[str, Any]:
    """Return the globals that a function looks up; of a library's functions none."""
    scope = function.__globals__
    if is_library(scope.get("__name__")):
        return {}
    return {name: scope[name] for name in names(function.__code__) if name in scope}


class Place(NamedTuple):
    """The name under which a holder keeps something, and how to get it and to put it there."""

    holder: Any
    name: Any
    get: Callable[[Any, Any], Any] = getattr
    put: Callable[[Any, Any, Any], None] = object.__setattr__


def places(value: Any) -> Iterator[Place]:
    """Yield the places in a list, a dict, a `functools.partial`, a function written in Python, or an object."""
    if isinstance(value, list | dict):
        yield from _items(value, list(value) if isinstance(value, dict) else range(len(value)))
    elif isinstance(value, functools.partial):
        yield from (Place(value, name, put=_put_in_partial) for name in ("func", "args", "keywords"))
    elif isinstance(value, types.FunctionType):
        yield from (Place(cell, "cell_contents") for cell in value.__closure__ or ())
        yield from (Place(value, name) for name in ("__defaults__", "__kwdefaults__"))
        yield from _items(value.__globals__, globals_of(value))
    elif not isinstance(value, type):
        yield from (Place(value, name) for name in slots(type(value)))
        own = getattr(value, "__dict__", None)
        yield from _items(own, list(own)) if isinstance(own, dict) else ()


def _items(container: Any, keys: Iterable[Any]) -> Iterator[Place]:
    return (Place(container, key, operator.getitem, operator.setitem) for key in keys)


def _put_in_partial(value: Any, name: str, new: Any) -> None:
    state = {"func": value.func, "args": value.args, "keywords": value.keywords} | {name: new}
    value.__setstate__((*state.values(), value.__dict__))


def _further_places(value: Any) -> Iterator[Place]:
    """Yield the places that functions and objects share: in modules and in classes."""
    if isinstance(value, types.FunctionType):
        yield from _items(value.__dict__, list(value.__dict__))
        for module in globals_of(value).values():
            if isinstance(module, types.ModuleType) and not is_library(module.__name__):
                yield from _items(vars(module), [name for name in names(value.__code__) if name in vars(module)])
    kind = value if isinstance(value, type) else type(value)
    if not is_library(kind.__module__):
        yield from (Place(kind, name, _get_from_class, setattr) for name in list(vars(kind)))


def _get_from_class(kind: type, name: str) -> Any:
    """Return an attribute of a class; the function in a property or a static method."""
    item = vars(kind)[name]
    return getattr(item, "__func__", getattr(item, "fget", item))


def parts(value: Any) -> list[Any]:
    """Return what a value looks at, as far as it is no number and no array itself."""
    if type(value) in _ATOMS or isinstance(value, np.ndarray | np.generic | jax.Array | types.ModuleType | type):
        return []
    if isinstance(value, tuple):
        return list(value[:MOST])
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, JITTED):
        return [value.__wrapped__]
    found = []
    for place in islice(places(value), MOST):
        with contextlib.suppress(ValueError, AttributeError):  # a variable without a value yet
            found.append(place.get(place.holder, place.name))
    return found


def remade(value: tuple[Any, ...], items: Iterable[Any]) -> Any:
    """Return a tuple of the same class with other items."""
    return value._make(items) if hasattr(value, "_make") else type(value)(items)  # type: ignore[attr-defined]


def slots(kind: type) -> list[str]:
    """Return the names of the slots of a class."""
    named = [vars(one).get("__slots__", ()) for one in kind.__mro__]
    return [
        name for some in named for name in ((some,) if isinstance(some, str) else some) if name not in ("__dict__", "__weakref__")
    ]


class _Views:
    """A walk through all that functions look at, which puts views in the places of arrays and later restores them."""

    def __init__(self) -> None:
        self.seen: dict[int, tuple[Any, Any]] = {}  # by identity: the thing, kept alive, and what to put in its place
        self.put: list[tuple[Place, Any, Any]] = []

    def __call__(self, value: Any) -> Any:
        """Return the replacement of a value: mostly itself."""
        is_array = isinstance(value, np.ndarray | jax.Array)
        if type(value) in _ATOMS or isinstance(value, np.generic | types.ModuleType) or (len(self.seen) > MOST and not is_array):
            return value
        if id(value) not in self.seen:
            self.seen[id(value)] = value, value
            with contextlib.suppress(Exception):  # whatever objects of the user's do when they are looked at
                self.seen[id(value)] = value, _view(value) if is_array else self.look(value)
        return self.seen[id(value)][1]

    def look(self, value: Any) -> Any:
        """Look at what a value looks at; of a tuple in which something has changed, a new one."""
        if isinstance(value, tuple):
            items = [self(item) for item in value]
            return value if all(map(operator.is_, items, value)) else remade(value, items)
        if isinstance(value, types.MethodType | JITTED | _CACHED):  # the dictionary of what is cached is among the referents
            for part in gc.get_referents(value) if isinstance(value, _CACHED) else parts(value):
                self(part)
            return value
        for place in chain(places(value), _further_places(value)):
            self.replace(place)
        return value

    def replace(self, place: Place) -> None:
        """Look at what is in a place."""
        with contextlib.suppress(Exception):  # a variable without a value yet, a place that can't be written to
            old = place.get(place.holder, place.name)
            new = self(old)
            if new is not old:
                place.put(place.holder, place.name, new)
                self.put.append((place, old, new))

    def undo(self) -> None:
        """Put the old things back, unless others have come into their places."""
        for place, old, new in reversed(self.put):
            with contextlib.suppress(Exception):
                if place.get(place.holder, place.name) is new:
                    place.put(place.holder, place.name, old)


def _view(value: Any) -> Any:
    """Return a view of an array whose type depends on the precision; a 64-bit JAX array in 32 bits.

    An array of a mesh comes back as one of the mesh of the call.
    """
    value = value if isinstance(value, np.ndarray) else as_in_call(value)
    if value.dtype not in WIDE or is_traced(value):
        return value
    if isinstance(value, np.ndarray):
        return value.view()
    narrow = not in_64_bits() and value.is_fully_addressable
    return jax.device_put(np.asarray(value), value.sharding) if narrow else value


def is_plain(value: Any) -> bool:
    """Return whether a value is a number, a name and the like, or a tuple or list of those."""
    return type(value) in _ATOMS or (isinstance(value, tuple | list) and all(map(is_plain, value)))


def parts_of(tree: Any) -> list[Any]:
    """Return the classes and the static data of the nodes of a pytree that users may have written."""
    found, left = [], [jax.tree.structure(tree)]
    while left:
        structure = left.pop()
        left.extend(structure.children())
        data = structure.node_data()
        found.extend(part for part in data or () if not (isinstance(part, type) and is_library(part.__module__)))
    return found


@contextlib.contextmanager
def fresh(*roots: Any) -> Iterator[None]:
    """Show functions and objects views of the NumPy arrays that they look at, for as long as they are traced."""
    walk = _Views()
    try:
        for root in roots:
            walk(root)
        yield
    finally:
        walk.undo()
