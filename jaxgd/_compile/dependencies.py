"""The dependencies of a function: a key of all that it looks at, the same for as long as nothing of that has changed.

A function is known by its code and by the values of closed-over variables, defaults, globals, and the functions among them in their
turn. An object is known by its class and by the values of the attributes, its own and those of its classes, whose names occur in
the code of any of these functions. Where code may look at attributes by other names, all attributes count. Two keys are equal only
where the two functions do the same; what can't be told to be unchanged has no key.
"""

import builtins
import dataclasses
import functools
import math
import operator
import sys
import types
from collections.abc import Hashable, Iterable
from typing import Any

import jax
import numpy as np

from jaxgd._compile import codes
from jaxgd._compile.classes import Wanted, attributes_of, is_node, is_of_models, state_of
from jaxgd._compile.closures import JITTED
from jaxgd._compile.codes import Unknown
from jaxgd._compile.jaxprs import Identity, array_key
from jaxgd._compile.large import Large, is_comparable
from jaxgd._trees import is_traced

_LARGE = 2**16  # bytes of an array that is compared by itself, and not by a digest
_LIBRARIES = ("jax", "jaxlib", "numpy", "math", "functools", "operator", "optax")
_ATOMS = frozenset((bool, int, float, complex, str, bytes, range))
_ANY_NAME = frozenset((getattr, hasattr, operator.attrgetter, operator.methodcaller))  # what looks at attributes by their names
_ANY_ATTRIBUTE = frozenset(("getattr", "hasattr", "attrgetter", "methodcaller", "__dict__", "__getattribute__", "__getstate__"))
_SENTINELS: Any = (type(NotImplemented), type(dataclasses.MISSING), getattr(dataclasses, "_HAS_DEFAULT_FACTORY_CLASS", None))
_PURE = {
    getattr(builtins, name)
    for name in (
        "abs all any bool callable complex dict divmod enumerate filter float getattr hasattr int isinstance issubclass iter len "
        "list map max min next object pow range reversed round set slice sorted str sum super tuple type zip"
    ).split()
}
_PURE |= {value for value in vars(builtins).values() if isinstance(value, type) and issubclass(value, BaseException)}
_PURE |= {value for module in (math, operator) for value in vars(module).values() if isinstance(value, types.BuiltinFunctionType)}


class Dependencies:
    """A walk through all that functions look at.

    Attributes:
        names: of attributes, in the code of all functions.
        everything: whether all attributes of objects count.
        large: the large arrays, in the order in which they were found.
        mutable: what may change in place, in that order.
    """

    def __init__(self, *, names: Iterable[str] = (), everything: bool = False) -> None:
        self.names = set(names)
        self.everything = everything
        self._begin()

    def _begin(self) -> None:
        self.large: list[Large] = []
        self.mutable: list[Any] = []
        self._known: tuple[int, bool] | None = None  # how many names were known when the first object was met
        self._classes: dict[tuple[type, bool], int] = {}
        self._seen: dict[int, tuple[int, Any]] = {}  # by identity: the place in this order, and the thing, kept alive

    def key(self, value: Any) -> Hashable:
        """Return the key of a value; raises `Unknown` where there is none."""
        try:
            while True:
                self._begin()
                key = self._key(value)
                self.everything |= not _ANY_ATTRIBUTE.isdisjoint(self.names)
                if self._known is None or self._known == (len(self.names), self.everything):
                    return key
        except Exception:  # whatever objects of the user's do when they are looked at, and lists that hold themselves
            raise Unknown from None

    def _key(self, value: Any) -> Hashable:
        kind = type(value)
        if value is None or value is Ellipsis or kind in _ATOMS:
            return kind, repr(value)
        if kind in (tuple, list, dict, set, frozenset):
            return self._collection(value, kind)
        if isinstance(value, np.ndarray | np.generic | jax.Array):
            return self._array(value, kind)
        if kind is types.ModuleType and value.__name__.partition(".")[0] in _LIBRARIES:
            return Identity(value)
        if isinstance(value, types.BuiltinFunctionType | type) and value in _PURE:
            self.everything |= value in _ANY_NAME
            return Identity(value)
        if is_library(value):
            self.names.add(value.__name__)
            if value.__name__ in codes.CHANGING:
                raise Unknown
            self.everything |= value in _ANY_NAME
            return Identity(value)
        if id(value) in self._seen:
            return "seen", self._seen[id(value)][0]
        self._seen[id(value)] = len(self._seen), value
        return self._part(value, kind)

    def _part(self, value: Any, kind: type) -> Hashable:
        """Return the key of what looks at other things."""
        if kind is types.FunctionType:
            return self._function(value)
        if kind is types.MethodType:
            return kind, self._key(value.__func__), self._key(value.__self__)
        if kind is functools.partial:
            return kind, self._key(value.func), self._key(value.args), self._key(value.keywords), self._key(value.__dict__)
        if isinstance(value, JITTED):
            return Identity(value), self._key(value.__wrapped__)
        if isinstance(value, np.dtype):
            return kind, value
        if dataclasses.is_dataclass(kind) and kind.__module__.partition(".")[0] == "jaxgd":
            return Identity(kind), tuple(self._key(getattr(value, field.name)) for field in dataclasses.fields(kind))
        return self._class(value) if isinstance(value, type) else self._object(value, kind)

    def _collection(self, value: Any, kind: type) -> Hashable:
        if kind is not tuple:
            self.mutable.append(value)
        if kind is dict:
            return kind, tuple([(self._key(name), self._key(item)) for name, item in value.items()])
        return kind, tuple([self._key(item) for item in value])

    def _array(self, value: Any, kind: type) -> Hashable:
        is_jax = isinstance(value, jax.Array)
        if is_traced(value) or (value.is_deleted() if is_jax else value.dtype.hasobject):
            raise Unknown
        if value.nbytes > _LARGE:
            if not is_jax and not is_comparable(value):
                raise Unknown
            self.large.append(Large(value))
            return self.large[-1]
        if is_jax:
            return Identity(value)
        if isinstance(value, np.generic):
            return array_key(value)
        if kind is not np.ndarray:
            raise Unknown
        self.mutable.append(value)
        return Identity(value), value.strides, array_key(value)

    def _function(self, value: types.FunctionType) -> Hashable:
        """Return the key of a function of the user's: its code and all that it looks at."""
        names, attributes = codes.names(value.__code__)
        self.names |= attributes
        scope = value.__globals__
        looked_up = [scope[name] if name in scope else getattr(builtins, name) for name in names]
        closed_over = [cell.cell_contents for cell in value.__closure__ or ()]
        others = (*looked_up, *closed_over, value.__defaults__, value.__kwdefaults__, value.__dict__ or None)
        return value.__code__, names, tuple([self._key(other) for other in others])

    def _object(self, value: Any, kind: type) -> Hashable:
        """Return the key of an object: its class, and those of its attributes that functions may look at."""
        if kind in _SENTINELS:
            return Identity(value)
        self._meet()
        self.everything |= is_of_models(kind) or is_node(value)
        of_class = self._of_class(kind)
        if issubclass(kind, tuple):
            return Identity(kind), of_class, tuple([self._key(item) for item in value])
        self.mutable.append(value)
        own = [(name, self._key(item)) for name, item in state_of(value, Wanted(self.names, self.everything))]
        return Identity(kind), of_class, tuple(own)

    def _class(self, value: type) -> Hashable:
        """Return the key of a class that a function looks at, and may make objects of."""
        if value.__module__ == "dataclasses":
            return Identity(value)
        self._meet()
        return Identity(value), self._of_class(value, constructs=True)

    def _of_class(self, kind: type, *, constructs: bool = False) -> Hashable:
        """Return the key of the attributes of a class, once in a walk."""
        mark = kind, constructs
        if mark in self._classes:
            return self._classes[mark]
        self._classes[mark] = len(self._classes)
        items = attributes_of(kind, Wanted(self.names, self.everything), constructs=constructs)
        return kind.__mro__, tuple([(name, self._key(item)) for name, item in items])

    def _meet(self) -> None:
        """Note how many names are known when the first object is met: what is found later counts for it, too."""
        if self._known is None:
            self._known = len(self.names), self.everything


def is_library(value: Any) -> bool:
    """Return whether a value is what a module of a library has under the value's own name."""
    module = str(getattr(value, "__module__", ""))
    if module.partition(".")[0] not in _LIBRARIES:
        return False
    return getattr(sys.modules.get(module), str(getattr(value, "__name__", "")), None) is value
