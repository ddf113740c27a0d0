"""The surroundings of a function: closed-over variables, defaults, globals, attributes, and functions among them.

JAX keeps a copy of a NumPy array in its own precision for as long as anything uses it, and hands out the same copy again when the
precision is another, or the array has been changed in place. So while a function is traced, `fresh` shows it views of its arrays,
which JAX has not seen before. A view is the same numbers in the same memory.
"""

import contextlib
import functools
import gc
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from jaxgd._trees import is_traced

MOST = 4000  # things to look at, for one function
_WIDE = frozenset(np.dtype(name) for name in ("float64", "int64", "uint64", "complex128"))
_ATOMS = frozenset(
    (type(None), type(...), bool, int, float, complex, str, bytes, types.BuiltinFunctionType, np.dtype, range, slice)
)
_LIBRARIES = frozenset(("jax", "jaxlib", "numpy", "scipy", "optax", "jaxgd")) | sys.stdlib_module_names - {"__main__"}
JITTED: Any = type(jax.jit(lambda: None))
_CACHED: Any = type(functools.cache(lambda: None))
_originals: dict[int, Any] = {}  # of the views in use


@functools.lru_cache(1024)
def names(code: types.CodeType) -> tuple[str, ...]:
    """Return the names of globals and attributes in the code of a function and of those it makes."""
    found = dict.fromkeys(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found.update(dict.fromkeys(names(constant)))
    return tuple(found)


def is_library(module: Any) -> bool:
    """Return whether a module of this name is one that holds nothing of the user's."""
    return str(module).partition(".")[0] in _LIBRARIES


def globals_of(function: types.FunctionType) -> dict[str, Any]:
    """Return the globals that a function looks up; of a library's functions none."""
    scope = function.__globals__
    if is_library(scope.get("__name__")):
        return {}
    return {name: scope[name] for name in names(function.__code__) if name in scope}


def parts(value: Any) -> list[Any]:
    """Return what a value looks at, as far as it is no number and no array itself."""
    if type(value) in _ATOMS or isinstance(value, np.ndarray | np.generic | jax.Array | types.ModuleType | type):
        return []
    if isinstance(value, tuple | list):
        return list(value[:MOST])
    if isinstance(value, dict):
        return list(value.values())[:MOST]
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, JITTED):
        return [value.__wrapped__]
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        return [value.__defaults__, value.__kwdefaults__, *cells, *globals_of(value).values()]
    return list(attributes(value).values())


def attributes(value: Any) -> dict[str, Any]:
    """Return the attributes that belong to an object itself."""
    found = {name: getattr(value, name) for name in slots(type(value)) if hasattr(value, name)}
    own = getattr(value, "__dict__", None)
    return {**found, **own} if isinstance(own, dict) else found


def slots(kind: type) -> list[str]:
    """Return the names of the slots of a class."""
    named = [vars(one).get("__slots__", ()) for one in kind.__mro__]
    return [
        name for some in named for name in ((some,) if isinstance(some, str) else some) if name not in ("__dict__", "__weakref__")
    ]


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:  # a variable without a value yet
        return False
    return True


class _Substitution:
    """A walk through all that a value looks at, which replaces arrays and later restores them.

    `change` returns the replacement of an array.
    """

    def __init__(self, change: Callable[[Any], Any]) -> None:
        self.change = change
        self.seen: dict[int, tuple[Any, Any]] = {}  # by identity: the thing, kept alive, and what to put in its place
        self.put: list[tuple[Callable[[], Any], Callable[[Any], None], Any, Any]] = []

    def __call__(self, value: Any) -> Any:
        """Return the replacement of a value: often itself. often itself."""
        if isinstance(value, np.ndarray | jax.Array):
            return self.change(value)
        if type(value) in _ATOMS or isinstance(value, np.generic | types.ModuleType) or len(self.seen) > MOST:
            return value
        if id(value) not in self.seen:
            self.seen[id(value)] = value, value
            with contextlib.suppress(Exception):  # whatever objects of the user's do when they are looked at
                self.seen[id(value)] = value, self.look(value)
        return self.seen[id(value)][1]

    def look(self, value: Any) -> Any:
        """Look at what a value looks at; of a tuple in which something has changed, a new one."""
        if isinstance(value, tuple):
            items = [self(item) for item in value]
            make = getattr(value, "_make", tuple if type(value) is tuple else None)
            if make is None or all(new is old for new, old in zip(items, value, strict=True)):
                return value
            return make(items)
        if isinstance(value, list | dict):
            self.items(value, list(value) if isinstance(value, dict) else range(len(value)))
        elif isinstance(value, functools.partial):
            self.partial(value)
        elif isinstance(value, types.FunctionType):
            self.function(value)
        elif isinstance(value, types.MethodType | JITTED):
            for part in parts(value):
                self(part)
        elif isinstance(value, _CACHED):
            for part in gc.get_referents(value):  # the dictionary of what is cached is among them
                self(part)
        else:
            self.instance(value)
        return value

    def undo(self) -> None:
        """Put the old things back, unless others have come into their places."""
        for get, put, old, new in reversed(self.put):
            with contextlib.suppress(Exception):
                if get() is new:
                    put(old)

    def place(self, get: Callable[[], Any], put: Callable[[Any], None]) -> None:
        """Look at what is in a place."""
        try:
            old = get()
        except Exception:  # a variable without a value yet
            return
        new = self(old)
        if new is not old:
            with contextlib.suppress(Exception):  # a place that can't be written to
                put(new)
                self.put.append((get, put, old, new))

    def items(self, container: Any, keys: Iterable[Any]) -> None:
        """Look at the places in a list or a dict."""
        for key in keys:
            if type(container[key]) in _ATOMS:
                continue
            self.place(functools.partial(container.__getitem__, key), functools.partial(container.__setitem__, key))

    def partial(self, value: functools.partial[Any]) -> None:
        """Look at the places in a `functools.partial`."""
        self(value.func)
        self(value.keywords)
        set_state: Callable[..., None] = value.__setstate__  # type: ignore[attr-defined]
        self.place(lambda: value.args, lambda new: set_state((value.func, new, value.keywords, value.__dict__)))

    def function(self, function: types.FunctionType) -> None:
        """Look at the places that a function written in Python looks at."""
        for cell in function.__closure__ or ():
            self.place(lambda cell=cell: cell.cell_contents, functools.partial(setattr, cell, "cell_contents"))
        self.place(lambda: function.__defaults__, functools.partial(setattr, function, "__defaults__"))
        self(function.__kwdefaults__)
        self(function.__dict__)
        looked_up = globals_of(function)
        self.items(function.__globals__, looked_up)
        for module in looked_up.values():
            if isinstance(module, types.ModuleType) and not is_library(module.__name__):
                self.items(vars(module), [name for name in names(function.__code__) if name in vars(module)])

    def instance(self, value: Any) -> None:
        """Look at the places in an object of a class, or in a class."""
        kind = value if isinstance(value, type) else type(value)
        if not is_library(kind.__module__):
            for name, item in list(vars(kind).items()):
                self(getattr(item, "__func__", getattr(item, "fget", item)))
                if isinstance(item, np.ndarray | jax.Array | list | dict | tuple):
                    self.place(lambda name=name: vars(kind)[name], functools.partial(setattr, kind, name))
        if kind is not value:
            self(getattr(value, "__dict__", None))
            for name in slots(kind):
                self.place(functools.partial(getattr, value, name), functools.partial(object.__setattr__, value, name))


def _view(value: Any) -> Any:
    """Return a view of an array whose type depends on the precision; a 64-bit JAX array in 32 bits."""
    if isinstance(value, np.ndarray) and value.dtype in _WIDE:
        original = _originals.get(id(value), value)
        view = original.view()
        _originals[id(view)] = original
        return view
    if isinstance(value, jax.Array) and not is_traced(value) and value.dtype in _WIDE and not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        if value.is_fully_addressable:
            return jax.device_put(np.asarray(value), value.sharding)
    return value


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
    views: dict[int, tuple[Any, Any]] = {}

    def change(value: Any) -> Any:
        if not isinstance(value, np.ndarray | jax.Array):
            return value
        if id(value) not in views:
            views[id(value)] = value, _view(value)
        return views[id(value)][1]

    walk = _Substitution(change)
    try:
        for root in roots:
            walk(root)
        yield
    finally:
        walk.undo()
        for _, view in views.values():
            _originals.pop(id(view), None)
