"""The attributes of objects and of their classes, as far as these alone say what an object does."""

import abc
import collections
import contextlib
import functools
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from jaxgd._compile.closures import JITTED, is_library
from jaxgd._compile.codes import Unknown

_MODELS = ("equinox", "flax")  # libraries whose objects are what their attributes say
_BASES = ("typing", "typing_extensions", "abc", "collections.abc")  # modules of classes without any state
_HEAP = 1 << 9  # the flag of a type that was made while Python ran
_IN_C = (types.WrapperDescriptorType, types.MethodDescriptorType, types.ClassMethodDescriptorType, types.BuiltinFunctionType)
_FIELD: Any = type(collections.namedtuple("_One", "field").field)  # type: ignore[attr-defined]
_ABOUT = frozenset(
    "__module__ __dict__ __weakref__ __doc__ __qualname__ __annotations__ __annotate__ __annotate_func__ __annotations_cache__ "
    "__firstlineno__ __static_attributes__ __slots__ __match_args__ __abstractmethods__ _abc_impl __dataclass_fields__ "
    "__dataclass_params__ __parameters__ __orig_bases__ __abstractvars__ __abstractclassvars__ __protocol_attrs__ _is_protocol "
    "_is_runtime_protocol __non_callable_proto_members__ __class_getitem__ __subclasshook__ __setattr__ __delattr__ __reduce__ "
    "__reduce_ex__ __getstate__ __setstate__ __getnewargs__ __sizeof__ __del__ __replace__ __copy__ __deepcopy__ __dir__ "
    "_pytree__is_pytree _pytree__nodes".split()
)
"""Attributes of classes that code looks at by their names alone."""
_MAKING = frozenset("__init__ __new__ __post_init__ __init_subclass__ __set_name__ _make _replace _field_defaults".split())
_SHOWING = frozenset("__repr__ __str__ __format__".split())
_SHOWN = frozenset("str repr format ascii print".split())
_LOOKED_UP = frozenset(
    "tree_flatten tree_unflatten tree_flatten_with_keys keys shape dtype ndim size itemsize nbytes aval weak_type sharding device "
    "committed".split()
)
"""Attributes that libraries look at, whose code is not read."""
_COMPARING = frozenset("__eq__ __hash__ __lt__ __le__ __gt__ __ge__ __setattr__ __delattr__".split())
_TYPES = frozenset("type __class__".split())


class Wanted(NamedTuple):
    """The attributes that code may look at."""

    names: set[str]
    everything: bool

    def has_own(self, name: str) -> bool:
        """Return whether an attribute of an object itself is among them."""
        return self.everything or name in self.names or name in _LOOKED_UP

    def has(self, name: str, *, constructs: bool) -> bool:
        """Return whether an attribute of a class is among them; `constructs` says that objects are made of the class."""
        if name in self.names:
            return True
        if name in _ABOUT:
            return False
        if name in _MAKING:
            return constructs or not _TYPES.isdisjoint(self.names)
        if name in _SHOWING:
            return not _SHOWN.isdisjoint(self.names)
        return self.has_own(name) or (name.startswith("__") and name.endswith("__"))


@functools.lru_cache(64)
def classes_in(structure: Any) -> tuple[tuple[type, ...], bool]:
    """Return the classes of nodes that users have written, and whether others are of a library of models."""
    found, left = {}, [structure]
    while left:
        one = left.pop()
        left.extend(one.children())
        found.update((part, None) for part in one.node_data() or () if isinstance(part, type) and not is_library(part.__module__))
    return tuple(kind for kind in found if _package(kind) not in _MODELS), any(_package(kind) in _MODELS for kind in found)


def is_of_models(kind: type) -> bool:
    """Return whether code of a library of models, which may look at all attributes, is part of a class."""
    return any(_package(one) in _MODELS for one in kind.__mro__)


def is_node(value: Any) -> bool:
    """Return whether JAX takes an object apart by a function that was registered for its class."""
    return not jax.tree_util.all_leaves([value])


def attributes_of(kind: type, wanted: Wanted, *, constructs: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of a class that count, by their names, and those of its bases.

    A property counts by its functions. Raises `Unknown` where the class may do more than these say.
    """
    for one in kind.__mro__:
        if one is object or one.__module__ in _BASES or _package(one) in _MODELS or (one is tuple and hasattr(kind, "_fields")):
            continue
        if not one.__flags__ & _HEAP or is_library(one.__module__):
            raise Unknown
        if type(one) not in (type, abc.ABCMeta) and _package(type(one)) not in _MODELS:
            raise Unknown
        for name, item in list(vars(one).items()):
            if not (name in _COMPARING and "__dataclass_params__" in vars(one) and _is_generated(item)):
                yield from _counting(name, item, wanted, constructs=constructs)


def _counting(name: str, item: Any, wanted: Wanted, *, constructs: bool) -> Iterator[tuple[str, Any]]:
    """Yield what of an attribute of a class counts."""
    kind = type(item)
    if name in ("__getattr__", "__getattribute__") or kind in _IN_C:
        raise Unknown
    if kind is types.GetSetDescriptorType or name == "__dict__":
        if kind is not types.GetSetDescriptorType or name not in ("__dict__", "__weakref__"):
            raise Unknown
    elif kind is types.MemberDescriptorType or kind is _FIELD or not wanted.has(name, constructs=constructs):
        pass
    elif kind is property:
        yield from ((f"{name}.{part}", getattr(item, part)) for part in ("fget", "fset", "fdel"))
    elif kind in (staticmethod, classmethod):
        if kind is classmethod:
            wanted.names.add("type")  # it may make objects
        yield f"{name}.{kind.__name__}", item.__func__
    elif kind is functools.cached_property:
        yield f"{name}.func", item.func
    elif kind in (types.FunctionType, functools.partial, JITTED) or not hasattr(kind, "__get__"):
        yield name, item
    else:
        raise Unknown


def _is_generated(function: Any) -> bool:
    """Return whether a method of a dataclass was written by Python, and does with the fields what its name says."""
    return isinstance(function, types.FunctionType) and function.__code__.co_filename == "<string>"


def state_of(value: Any, wanted: Wanted) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of an object itself that count, by their names."""
    for one in type(value).__mro__[:-1]:
        for name, item in vars(one).items():
            if type(item) is types.MemberDescriptorType and wanted.has_own(name):
                with contextlib.suppress(AttributeError):  # a slot without a value
                    yield name, item.__get__(value)
    own = getattr(value, "__dict__", {})
    yield from ((name, item) for name, item in list(own.items()) if wanted.has_own(name))


def _package(kind: type) -> str:
    return kind.__module__.partition(".")[0]
