"""The structure of a traced function: what makes two traces the same program.

Two jaxprs have equal keys when they apply the same primitives with the same parameters to the same variables and literals. Numbers
are compared by their bits, so that 0.0 and -0.0, or 1 and True, are never confused; functions that a primitive carries (host
callbacks) are compared by identity, which at worst compiles once more than needed. Derivatives are taken before a function is
traced, so the rules that `jax.custom_jvp` and `jax.custom_vjp` leave behind are never used again and do not count.
"""

import functools
import hashlib
import importlib
from collections.abc import Hashable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._trees import is_traced


@functools.cache
def core() -> Any:
    """JAX's module of jaxprs, imported when it is first needed: it brings more with it than an import should wait for."""
    return importlib.import_module("jax.extend.core")


_CUSTOM_RULES = ("custom_jvp_call", "custom_vjp_call")


class Identity:
    """A key for an object that can only be compared by identity; it keeps the object alive, so that no other takes its place."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and self.value is other.value


def key(jaxpr: Any) -> Hashable:
    """The key of a jaxpr: hashable, equal for equal programs. Constants of its own count as arguments, those inside by value."""
    numbers: dict[Any, int] = {}

    def atom(variable: Any) -> Hashable:
        if isinstance(variable, core().Literal):
            return variable.aval, _value(variable.val)
        return numbers.setdefault(variable, len(numbers))

    def declared(variables: Any) -> Hashable:
        return tuple((atom(variable), variable.aval) for variable in variables)

    def equation(eqn: Any) -> Hashable:
        custom = eqn.primitive.name in _CUSTOM_RULES
        params = sorted(eqn.params.items(), key=lambda item: item[0])
        values = tuple((name, _value(value)) for name, value in params if _is_jaxpr(value) or not custom)
        return eqn.primitive, tuple(map(atom, eqn.invars)), declared(eqn.outvars), values, eqn.ctx

    inputs = declared(jaxpr.constvars), declared(jaxpr.invars)
    return inputs, tuple(map(equation, jaxpr.eqns)), tuple(map(atom, jaxpr.outvars))


def largest(jaxpr: Any) -> int:
    """How many numbers the largest array has that a jaxpr computes, inside its loops and calls too."""
    sizes = [0]
    for eqn in jaxpr.eqns:
        sizes += [getattr(variable.aval, "size", 1) for variable in eqn.outvars]
        for value in eqn.params.values():
            parts = value if isinstance(value, tuple | list) else (value,)
            sizes += [largest(getattr(part, "jaxpr", part)) for part in parts if _is_jaxpr(part)]
    return max(sizes)


def with_arguments_first(jaxpr: Any, numbers: Iterable[float]) -> tuple[Any, tuple[Any, ...]]:
    """The jaxpr with its constants as its first arguments, and before them the literals that are among some numbers.

    Returns it with the values of those literals. As arguments the constants are in no way part of the jaxpr, which is kept for
    longer than they should be. The exponent of a power stays where it is: XLA computes powers of a known exponent by other means.
    """
    with np.errstate(over="ignore"):  # a number too large for 32 bits is infinity there, in the program too
        wanted = {dtype: {np.asarray(number, dtype).tobytes() for number in numbers} for dtype in (np.float32, np.float64)}
    lifted: dict[Hashable, tuple[Any, Any]] = {}

    def argument(atom: Any) -> Any:
        if not isinstance(atom, core().Literal) or atom.aval.shape or atom.aval.dtype.type not in wanted:
            return atom
        value = np.asarray(atom.val, atom.aval.dtype)
        if value.tobytes() not in wanted[atom.aval.dtype.type]:
            return atom
        return lifted.setdefault((value.tobytes(), atom.aval), (core().Var(atom.aval), value))[0]

    equations = []
    for eqn in jaxpr.eqns:
        fixed = eqn.invars[1:] if eqn.primitive.name == "pow" else ()
        equations.append(eqn.replace(invars=[*map(argument, eqn.invars[: len(eqn.invars) - len(fixed)]), *fixed]))
    outputs = list(map(argument, jaxpr.outvars))
    variables = (*(variable for variable, _ in lifted.values()), *jaxpr.constvars, *jaxpr.invars)
    program = core().Jaxpr((), variables, outputs, equations, jaxpr.effects, jaxpr.debug_info)
    return program, tuple(value for _, value in lifted.values())


def _is_jaxpr(value: Any) -> bool:
    return isinstance(value, core().Jaxpr | core().ClosedJaxpr)


def _value(value: Any) -> Hashable:
    """The key of one parameter or literal."""
    if _is_jaxpr(value):
        inner = getattr(value, "jaxpr", value)
        return "jaxpr", key(inner), tuple(map(_value, getattr(value, "consts", ())))
    if isinstance(value, tuple | list):
        return type(value), tuple(map(_value, value))
    if isinstance(value, dict):
        return dict, tuple((_value(name), _value(item)) for name, item in value.items())
    if isinstance(value, bool | int | float | complex):
        return type(value), repr(value)
    if isinstance(value, np.ndarray | np.generic | jax.Array) and not is_traced(value):
        return array_key(value)
    try:
        hash(value)
    except TypeError:
        return Identity(value)
    return type(value), value


def array_key(value: Any) -> Hashable:
    """The key of an array: its type, shape and bits."""
    if jnp.issubdtype(value.dtype, jax.dtypes.extended):
        return Identity(value)
    array = np.ascontiguousarray(value)
    return type(value), array.dtype, value.shape, hashlib.blake2b(array.tobytes(), digest_size=32).digest()
