"""The names in the code of functions, as far as they say what a function looks at, and whether that can be told at all."""

import dis
import functools
import types
from typing import Any, NamedTuple

CHANGING = frozenset("random load loadtxt genfromtxt fromfile fromregex memmap open_memmap datetime64".split())
"""Names of libraries under which something else may be found at every call, though nothing has changed."""

_SHOWS = "str"  # the name that stands for whatever turns an object into text
_IMPORTS = ("IMPORT_NAME", "STORE_GLOBAL", "DELETE_GLOBAL")


class Unknown(Exception):
    """Something that can't be told to be unchanged."""


class Names(NamedTuple):
    """The names of globals and of attributes in code, texts among its constants included."""

    globals: tuple[str, ...]
    attributes: frozenset[str]


@functools.lru_cache(1024)
def names(code: types.CodeType) -> Names:
    """Return the names in a function's code, inner functions included; raises `Unknown` where it may do anything."""
    found: dict[str, None] = {}
    attributes = set(code.co_names)
    for instruction in dis.get_instructions(code):
        operation, subject = instruction.opname, instruction.argval
        is_named = operation.startswith(("LOAD_ATTR", "LOAD_METHOD", "LOAD_GLOBAL", "LOAD_NAME"))
        if subject == "random" or operation in _IMPORTS or (is_named and subject in CHANGING):
            raise Unknown
        if operation.startswith("LOAD") and operation.endswith(("GLOBAL", "GLOBALS", "NAME")):
            found[str(subject)] = None
        if operation.startswith("FORMAT") or operation == "CONVERT_VALUE":
            attributes.add(_SHOWS)
        if operation == "MATCH_CLASS":
            attributes |= {"getattr", "__match_args__"}
        if operation in ("STORE_ATTR", "DELETE_ATTR"):
            attributes.add("__setattr__" if operation == "STORE_ATTR" else "__delattr__")
    for constant in code.co_consts:
        attributes |= _texts(constant)
        if isinstance(constant, types.CodeType):
            inner = names(constant)
            found.update(dict.fromkeys(inner.globals))
            attributes |= inner.attributes
    return Names(tuple(found), frozenset(attributes))


def _texts(constant: Any) -> set[str]:
    """Return the texts in a constant, which may be names of attributes, as `getattr` takes them."""
    if isinstance(constant, str):
        return {constant, *([_SHOWS] if "%" in constant or "{" in constant else []), *(["getattr"] if "{" in constant else [])}
    if isinstance(constant, tuple | frozenset):
        return set().union(*map(_texts, constant))
    return set()
