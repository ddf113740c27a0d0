"""The structure of a traced function: what makes two traces the same program.

Two jaxprs have equal keys when they apply the same primitives with the same parameters to the same variables and literals. Numbers
are compared by their bits, so that 0.0 and -0.0, or 1 and True, are never confused; functions that a primitive carries (host
callbacks) are compared by identity, which at worst compiles once more than needed. Derivatives are taken before a function is
traced, so the rules that `jax.custom_jvp` and `jax.custom_vjp` leave behind are never used again and do not count.
"""

import functools
import hashlib
import math
from collections.abc import Hashable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgd._trees import is_traced


class Core(NamedTuple):
    """The classes of JAX that jaxprs are made of, by their names in `jax.extend.core`."""

    ClosedJaxpr: Any
    Jaxpr: Any
    Var: Any
    Literal: Any
    Primitive: Any


@functools.cache
def core() -> Core:
    """Return the classes of jaxprs, found in a small one: an import of `jax.extend` takes a twentieth of a first call."""
    closed = jax.make_jaxpr(lambda x: (lax.neg(x), 1.0))(np.float32(0))
    (negative,), (variable, literal) = closed.jaxpr.eqns, closed.jaxpr.outvars
    return Core(type(closed), type(closed.jaxpr), type(variable), type(literal), type(negative.primitive))


def applied(jaxpr: Any, constants: Iterable[Any], *arguments: Any) -> list[Any]:
    """Return what a jaxpr computes of these constants and arguments, as `jax.extend.core.jaxpr_as_fun` does it."""
    with jax.debug_nans(False):
        return jax.core.eval_jaxpr(jaxpr, constants, *arguments)


_CUSTOM_RULES = ("custom_jvp_call", "custom_vjp_call")
_NUMBERS = frozenset((np.float16, jnp.bfloat16.dtype.type, np.float32, np.float64, np.int32, np.int64))


class Identity:
    """A key for an object that is compared by identity and kept alive."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and self.value is other.value


def key(jaxpr: Any, literals: list[Any] | None = None) -> Hashable:
    """Return the key of a jaxpr: hashable, equal for equal programs.

    Its own constants count as arguments, those inside by value. If a list of `literals` is given, those that are numbers go there,
    in order, inside too, and leave only their types in the key, as constants that are arrays then do.
    """
    numbers: dict[Any, int] = {}

    def atom(variable: Any) -> Hashable:
        if not isinstance(variable, core().Literal):
            return numbers.setdefault(variable, len(numbers))
        if literals is not None and _is_number(variable):
            literals.append(variable)
            return variable.aval
        return variable.aval, _value_key(variable.val, literals)

    def declared(variables: Any) -> Hashable:
        return tuple((atom(variable), variable.aval) for variable in variables)

    def equation(eqn: Any) -> Hashable:
        custom = eqn.primitive.name in _CUSTOM_RULES
        params = sorted(eqn.params.items(), key=lambda item: item[0])
        if eqn.primitive.name == "custom_vmap_call":  # each has a wrapper of its own around the same rule
            params = [(name, getattr(value, "__wrapped__", value)) for name, value in params]
        values = tuple((name, _value_key(value, literals)) for name, value in params if _is_jaxpr(value) or not custom)
        return eqn.primitive, tuple(map(atom, eqn.invars)), declared(eqn.outvars), values, eqn.ctx

    inputs = declared(jaxpr.constvars), declared(jaxpr.invars)
    return inputs, tuple(map(equation, jaxpr.eqns)), tuple(map(atom, jaxpr.outvars))


def skeleton(jaxpr: Any) -> tuple[Hashable, list[Any]]:
    """Return the key of a jaxpr without its numbers, and the literals that are numbers."""
    literals: list[Any] = []
    return key(jaxpr, literals), literals


def _value_key(value: Any, literals: list[Any] | None) -> Hashable:
    """Return the key of one parameter or literal."""
    if _is_jaxpr(value):
        constants = tuple(_value_key(constant, literals) for constant in constants_of(value))
        return "jaxpr", key(opened(value), literals), constants
    if isinstance(value, tuple | list):
        return type(value), tuple(_value_key(item, literals) for item in value)
    if isinstance(value, dict):
        return dict, _value_key(tuple(value.items()), literals)
    if isinstance(value, bool | int | float | complex):
        return type(value), repr(value)
    if isinstance(value, np.ndarray | np.generic | jax.Array) and not is_traced(value):
        return array_key(value) if literals is None else (value.dtype, value.shape)
    try:
        hash(value)
    except TypeError:
        return Identity(value)
    return type(value), value


def _is_number(literal: Any) -> bool:
    """Return whether a literal is a real number, of a floating or an integer type."""
    return literal.aval.shape == () and literal.aval.dtype.type in _NUMBERS


def bits(literal: Any) -> tuple[Any, bytes]:
    """Return the type and the bits of a literal that is a number."""
    return literal.aval.dtype, np.asarray(literal.val, literal.aval.dtype).tobytes()


def sizes(jaxpr: Any) -> set[int]:
    """Return the lengths and sizes of all arrays of a jaxpr, inside its loops and calls too."""
    found: set[int] = set()
    for inner in all_jaxprs(jaxpr):
        variables = [*inner.constvars, *inner.invars, *(variable for eqn in inner.eqns for variable in eqn.outvars)]
        shapes = [getattr(variable.aval, "shape", ()) for variable in variables]
        found.update(length for shape in shapes for length in (*shape, math.prod(shape)))
    return found


def has_rules(jaxpr: Any) -> bool:
    """Return whether a jaxpr calls functions with derivatives of their own."""
    return any(eqn.primitive.name in _CUSTOM_RULES for inner in all_jaxprs(jaxpr) for eqn in inner.eqns)


def calls_python(jaxpr: Any) -> bool:
    """Return whether a jaxpr calls functions of Python while it runs."""
    return any(
        "callback" in eqn.primitive.name or eqn.primitive.name == "debug_print" for inner in all_jaxprs(jaxpr) for eqn in inner.eqns
    )


def largest(jaxpr: Any) -> int:
    """Return how many numbers the largest array has that a jaxpr computes, inside its loops and calls too."""
    variables = (variable for inner in all_jaxprs(jaxpr) for eqn in inner.eqns for variable in eqn.outvars)
    return max((getattr(variable.aval, "size", 1) for variable in variables), default=0)


def dependent(jaxpr: Any, inputs: list[bool]) -> list[bool]:
    """Return which outputs of a jaxpr may depend on some of its inputs: what loops and branches return, on all that they get."""
    touched = {variable for variable, yes in zip(jaxpr.invars, inputs, strict=True) if yes}

    def is_touched(atom: Any) -> bool:
        return not isinstance(atom, core().Literal) and atom in touched

    for eqn in jaxpr.eqns:
        given, bodies = list(map(is_touched, eqn.invars)), inside(eqn)
        if not any(given):
            continue
        body = getattr(bodies[0], "jaxpr", bodies[0]) if len(bodies) == 1 else None
        is_call = body is not None and len(body.invars) == len(given) and eqn.primitive.name not in ("scan", "while")
        outputs = dependent(body, given) if is_call else [True] * len(eqn.outvars)
        touched.update(variable for variable, yes in zip(eqn.outvars, outputs, strict=True) if yes)
    return list(map(is_touched, jaxpr.outvars))


def all_jaxprs(jaxpr: Any) -> Iterator[Any]:
    yield jaxpr
    for eqn in jaxpr.eqns:
        for inner in inside(eqn):
            yield from all_jaxprs(opened(inner))


def inside(eqn: Any) -> list[Any]:
    """Return the jaxprs in the parameters of an equation."""
    parts = [part for value in eqn.params.values() for part in (value if isinstance(value, tuple | list) else (value,))]
    return [part for part in parts if _is_jaxpr(part)]


def is_literal(atom: Any) -> bool:
    """Return whether an operand is a literal, and no variable."""
    return isinstance(atom, core().Literal)


def opened(inner: Any) -> Any:
    """Return a jaxpr, which may be closed, as an open one."""
    return getattr(inner, "jaxpr", inner)


def constants_of(inner: Any) -> list[Any]:
    """Return the constants of a jaxpr, of an open one none."""
    return getattr(inner, "consts", [])


def split_scan(eqn: Any, operands: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """Return what a scan sees in every lap, what it carries, and what it scans.

    What is scanned has an axis more outside than inside.
    """
    body = opened(eqn.params["jaxpr"])
    n_carried = sum(map(_same_rank, eqn.outvars, body.outvars))
    n_seen = sum(map(_same_rank, eqn.invars, body.invars))
    return operands[: n_seen - n_carried], operands[n_seen - n_carried : n_seen], operands[n_seen:]


def _same_rank(outside: Any, inside: Any) -> bool:
    return len(outside.aval.shape) == len(inside.aval.shape)


def _is_jaxpr(value: Any) -> bool:
    return isinstance(value, core().Jaxpr | core().ClosedJaxpr)


def array_key(value: Any) -> Hashable:
    """Return the key of an array: its type, shape and bits."""
    if jnp.issubdtype(value.dtype, jax.dtypes.extended):
        return Identity(value)
    array = np.ascontiguousarray(value)
    return type(value), array.dtype, value.shape, hashlib.blake2b(array.tobytes(), digest_size=32).digest()
