"""Numbers and arrays of a jaxpr become its first arguments, so that others in their place are no new program.

Constants of the jaxpr are arguments as they are. Literals, which stand in its equations, are if they are wanted. Where these are
inside loops, branches or calls of `jax.jit`, or such calls hold constants, the jaxpr is traced once more, with JAX's own loops and
branches, whose bodies look at the arguments.
"""

import contextlib
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax
import numpy as np
from jax import lax

from jaxgd._compile.jaxprs import core, inside

_RULE = "custom_jvp_call"
_CALLS = ("jit", "pjit", "closed_call", "core_closed_call", "core_call", "eval_jaxpr", "custom_vjp_call", _RULE)
_OPENED = (*_CALLS, "scan", "while", "cond", "remat", "remat2", "checkpoint")

Wanted = Mapping[int, Hashable]
"""The identities of literals, and names of the quantities that they stand for: one argument for each."""


def with_arguments_first(closed: Any, wanted: Wanted, *, alone: bool = True) -> tuple[Any, tuple[Any, ...]]:
    """Return the jaxpr with its constants as its first arguments, and before them the literals that are wanted.

    Returns it with the values of those before them. As arguments the constants are in no way part of the jaxpr, which is kept for
    longer than they should be. `alone` says that nobody will differentiate the jaxpr in forward mode: else the functions in it that
    have a rule for that keep it, and the literals inside them.
    """
    program, found = _opened(closed, wanted, alone)
    return program, tuple(value for _, value in found.values())


def _opened(closed: Any, wanted: Wanted, alone: bool) -> tuple[Any, dict[Hashable, tuple[Any, Any]]]:
    """Return the jaxpr, and (aval, value) of its first arguments but the constants, by their names."""
    found = _Found(closed.jaxpr, wanted, alone)
    if found.holding:
        with contextlib.suppress(Exception):  # a kind of equation that can't be traced once more: it stays what it is
            opened = found.traced_again(closed)
            if not opened.consts:
                return opened.jaxpr, found.values
    jaxpr, found = closed.jaxpr, _Found(closed.jaxpr, wanted, alone, deep=False)
    variables = {name: core().Var(aval) for name, (aval, _) in found.values.items()}

    def argument(atom: Any, free: bool = True) -> Any:
        return variables.get(wanted.get(id(atom)), atom) if free else atom

    equations = [eqn.replace(invars=[argument(*operand) for operand in _operands(eqn)]) for eqn in jaxpr.eqns]
    inputs = (*variables.values(), *jaxpr.constvars, *jaxpr.invars)
    program = core().Jaxpr((), inputs, list(map(argument, jaxpr.outvars)), equations, jaxpr.effects, jaxpr.debug_info)
    return program, found.values


def _operands(eqn: Any) -> list[tuple[Any, bool]]:
    """Return the operands of an equation, and whether each may be any number.

    An exponent that is an integer or a half stays where it is: XLA computes such powers by other means.
    """
    if eqn.primitive.name != "pow" or not isinstance(eqn.invars[1], core().Literal):
        return [(atom, True) for atom in eqn.invars]
    base, exponent = eqn.invars
    return [(base, True), (exponent, not (float(exponent.val).is_integer() or abs(float(exponent.val)) == 0.5))]


class _Found:
    """The future arguments of a jaxpr, beside its constants: (aval, value) by name."""

    def __init__(self, jaxpr: Any, wanted: Wanted, alone: bool, *, deep: bool = True) -> None:
        self.wanted, self.alone, self.deep = wanted, alone, deep
        self.values: dict[Hashable, tuple[Any, Any]] = {}
        self.holding: set[int] = set()  # the identities of the equations with some of it inside
        self.arguments: dict[Hashable, Any] = {}
        self._look(jaxpr)

    def _look(self, jaxpr: Any) -> bool:
        """Note what a jaxpr holds, and whether it does."""
        found = False
        for eqn in jaxpr.eqns:
            for atom, free in _operands(eqn):
                found = (free and self._note(atom)) or found
            if self.deep and eqn.primitive.name in _OPENED and (self.alone or eqn.primitive.name != _RULE):
                holds = False
                for inner in inside(eqn):
                    body, constants = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
                    for variable, value in zip(body.constvars, constants, strict=False):
                        self.values[id(value)] = variable.aval, value
                    holds = self._look(body) or bool(constants) or holds
                if holds:
                    self.holding.add(id(eqn))
                    found = True
        for atom in jaxpr.outvars:
            found = self._note(atom) or found
        return found

    def _note(self, atom: Any) -> bool:
        name = self.wanted.get(id(atom))
        if name is not None:
            self.values[name] = atom.aval, np.asarray(atom.val, atom.aval.dtype)
        return name is not None

    def traced_again(self, closed: Any) -> Any:
        """Return the jaxpr with these values, and then its constants, as its first arguments."""

        def run(values: list[Any], constants: list[Any], arguments: list[Any]) -> list[Any]:
            self.arguments = dict(zip(self.values, values, strict=True))
            return self._evaluate(closed.jaxpr, constants, arguments)

        avals = [[aval for aval, _ in self.values.values()]]
        avals += [[variable.aval for variable in some] for some in (closed.jaxpr.constvars, closed.jaxpr.invars)]
        return jax.make_jaxpr(run)(*([_like(aval) for aval in some] for some in avals))

    def _evaluate(self, jaxpr: Any, constants: Any, arguments: Any) -> list[Any]:
        env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments], strict=True))

        def read(atom: Any, free: bool = True) -> Any:
            """Return the value of an operand; a literal that is to stay one, itself."""
            if not isinstance(atom, core().Literal):
                return env[atom]
            return self.arguments.get(self.wanted.get(id(atom)), atom) if free else atom

        for eqn in jaxpr.eqns:
            operands = [read(*operand) for operand in _operands(eqn)]
            info = jaxpr.debug_info
            outputs = self._open(eqn, list(map(_array, operands)), info) if id(eqn) in self.holding else _bind(eqn, operands, info)
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [_array(read(atom)) for atom in jaxpr.outvars]

    def _inner(self, inner: Any) -> Callable[..., list[Any]]:
        """Return a jaxpr in the parameters of an equation as a function."""
        body, constants = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
        return lambda *arguments: self._evaluate(body, [self.arguments[id(value)] for value in constants], arguments)

    def _open(self, eqn: Any, operands: list[Any], info: Any) -> list[Any]:
        """Return what an equation computes that has some of the values inside."""
        name, params = eqn.primitive.name, eqn.params
        if name in _CALLS:
            return self._inner(inside(eqn)[0])(*operands)
        if name == "scan":
            return self._scan(eqn, operands)
        if name == "while":
            first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
            condition, body = self._inner(params["cond_jaxpr"]), self._inner(params["body_jaxpr"])
            return lax.while_loop(
                lambda carry: condition(*operands[:first], *carry)[0],
                lambda carry: body(*operands[first:second], *carry),
                operands[second:],
            )
        if name == "cond":
            return lax.switch(operands[0], [self._inner(branch) for branch in params["branches"]], *operands[1:])
        return self._remat(eqn, operands, info)

    def _scan(self, eqn: Any, operands: list[Any]) -> list[Any]:
        """Return a scan; what is scanned has an axis more outside than inside."""
        body = getattr(eqn.params["jaxpr"], "jaxpr", eqn.params["jaxpr"])
        n_rows = sum(len(a.aval.shape) > len(b.aval.shape) for a, b in zip(eqn.invars, body.invars, strict=True))
        n_carry = sum(len(a.aval.shape) == len(b.aval.shape) for a, b in zip(eqn.outvars, body.outvars, strict=True))
        start = len(operands) - n_rows
        constants, carry, rows = operands[: start - n_carry], operands[start - n_carry : start], operands[start:]
        function = self._inner(eqn.params["jaxpr"])

        def step(carry: list[Any], row: list[Any]) -> tuple[list[Any], list[Any]]:
            outputs = function(*constants, *carry, *row)
            return outputs[:n_carry], outputs[n_carry:]

        options = {name: eqn.params[name] for name in ("length", "reverse", "unroll")}
        carry, found = lax.scan(step, carry, rows, **options)
        return [*carry, *found]

    def _remat(self, eqn: Any, operands: list[Any], info: Any) -> list[Any]:
        """Return a function that is computed again in the backward pass: the values become its first operands."""
        inner = eqn.params["jaxpr"]
        constants = list(getattr(inner, "consts", ()))
        program, found = _opened(core().ClosedJaxpr(getattr(inner, "jaxpr", inner), constants), self.wanted, self.alone)
        program = core().ClosedJaxpr(program, ()) if isinstance(inner, core().ClosedJaxpr) else program
        known = [self.arguments[name] for name in (*found, *map(id, constants))]
        return _bind(eqn.replace(params={**eqn.params, "jaxpr": program}), [*known, *operands], info)


def _array(value: Any) -> Any:
    """Return a literal as an array."""
    return np.asarray(value.val, value.aval.dtype) if isinstance(value, core().Literal) else value


def _bind(eqn: Any, operands: list[Any], info: Any) -> list[Any]:
    """Return what an equation computes of these operands."""
    atoms = [one if isinstance(one, core().Literal) else core().Var(jax.typeof(one)) for one in operands]
    outputs = [core().Var(variable.aval) for variable in eqn.outvars]
    bound = {atom: value for atom, value in zip(atoms, operands, strict=True) if not isinstance(atom, core().Literal)}
    equation = eqn.replace(invars=atoms, outvars=outputs)
    alone = core().Jaxpr((), list(bound), outputs, [equation], eqn.effects, info)
    return core().jaxpr_as_fun(core().ClosedJaxpr(alone, ()))(*bound.values())


def _like(aval: Any) -> Any:
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=getattr(aval, "weak_type", False))
