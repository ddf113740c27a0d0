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

from jaxgd._compile import rebuilding
from jaxgd._compile.jaxprs import all_jaxprs, constants_of, core, inside, opened

_RULE = "custom_jvp_call"
_OPENED = (rebuilding.CALLS - {"custom_vmap_call"}) | {"scan", "while", "cond", "remat", "remat2", "checkpoint"}

Wanted = Mapping[int, Hashable]
"""The identities of literals, and names of the quantities that they stand for: one argument for each."""


def with_arguments_first(closed: Any, wanted: Wanted, *, alone: bool = True) -> tuple[Any, dict[Hashable, tuple[Any, Any]]]:
    """Return the jaxpr with its constants as its first arguments, and before them the literals that are wanted.

    Returns it with (aval, value) of those before them, by their names. As arguments the constants are in no way part of the jaxpr,
    which is kept for longer than they should be. `alone` says that nobody will differentiate the jaxpr in forward mode: else the
    functions in it that have a rule for that keep it, and the literals inside them.
    """
    jaxpr = closed.jaxpr
    staying = _staying(jaxpr) if wanted else set()
    wanted = {place: name for place, name in wanted.items() if place not in staying}
    found = _Found(jaxpr, wanted, alone)
    if found.holding:
        with contextlib.suppress(Exception):  # a kind of equation that can't be traced once more: it stays what it is
            again = found.traced_again(closed)
            if not again.consts:
                return again.jaxpr, found.values
    outside = {wanted.get(id(atom)) for atoms in (*(eqn.invars for eqn in jaxpr.eqns), jaxpr.outvars) for atom in atoms}
    values = {name: value for name, value in found.values.items() if name in outside}
    variables = {name: core().Var(aval) for name, (aval, _) in values.items()}

    def arguments(atoms: Any) -> list[Any]:
        return [variables.get(wanted.get(id(atom)), atom) for atom in atoms]

    equations = [eqn.replace(invars=arguments(eqn.invars)) for eqn in jaxpr.eqns]
    inputs = (*variables.values(), *jaxpr.constvars, *jaxpr.invars)
    return core().Jaxpr((), inputs, arguments(jaxpr.outvars), equations, jaxpr.effects, jaxpr.debug_info), values


def _staying(jaxpr: Any) -> set[int]:
    """Return the identities of exponents that are integers or halves: XLA computes such powers by other means."""
    powers = [eqn.invars[1] for inner in all_jaxprs(jaxpr) for eqn in inner.eqns if eqn.primitive.name == "pow"]
    numbers = [(id(atom), abs(float(atom.val))) for atom in powers if isinstance(atom, core().Literal)]
    return {place for place, number in numbers if number.is_integer() or number == 0.5}


class _Found:
    """The future arguments of a jaxpr, beside its constants: (aval, value) by name."""

    def __init__(self, jaxpr: Any, wanted: Wanted, alone: bool) -> None:
        self.wanted, self.alone = wanted, alone
        self.values: dict[Hashable, tuple[Any, Any]] = {}
        self.holding: set[int] = set()  # the identities of the equations with some of it inside
        self.arguments: dict[Hashable, Any] = {}
        self._look(jaxpr)

    def _look(self, jaxpr: Any) -> bool:
        """Note what a jaxpr holds, and whether it does."""
        found = False
        for eqn in jaxpr.eqns:
            found |= self._note(eqn.invars)
            if eqn.primitive.name in _OPENED and (self.alone or eqn.primitive.name != _RULE):
                holds = False
                for inner in inside(eqn):
                    body, constants = opened(inner), constants_of(inner)
                    self.values.update({id(value): (v.aval, value) for v, value in zip(body.constvars, constants, strict=False)})
                    holds |= self._look(body) or bool(constants)
                if holds:
                    self.holding.add(id(eqn))
                    found = True
        return self._note(jaxpr.outvars) or found

    def _note(self, atoms: Any) -> bool:
        wanted = [atom for atom in atoms if id(atom) in self.wanted]
        self.values.update({self.wanted[id(atom)]: (atom.aval, np.asarray(atom.val, atom.aval.dtype)) for atom in wanted})
        return bool(wanted)

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

        def read(atom: Any) -> Any:
            """Return the value of an operand; a literal that is to stay one, itself."""
            if isinstance(atom, core().Literal):
                return self.arguments.get(self.wanted.get(id(atom)), atom)
            return env[atom]

        for eqn in jaxpr.eqns:
            operands = list(map(read, eqn.invars))
            info = jaxpr.debug_info
            outputs = (
                self._open(eqn, list(map(_array, operands)), info)
                if id(eqn) in self.holding
                else rebuilding.bind(eqn, operands, info)
            )
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [_array(read(atom)) for atom in jaxpr.outvars]

    def _inner(self, inner: Any) -> Callable[..., list[Any]]:
        """Return a jaxpr in the parameters of an equation as a function."""
        body, constants = opened(inner), constants_of(inner)
        return lambda *arguments: self._evaluate(body, [self.arguments[id(value)] for value in constants], arguments)

    def _open(self, eqn: Any, operands: list[Any], info: Any) -> list[Any]:
        """Return what an equation computes that has some of the values inside."""
        rebuilt = rebuilding.rebuilt(eqn, operands, self._inner)
        return self._remat(eqn, operands, info) if rebuilt is None else rebuilt

    def _remat(self, eqn: Any, operands: list[Any], info: Any) -> list[Any]:
        """Return a function that is computed again in the backward pass: the values become its first operands."""
        inner = eqn.params["jaxpr"]
        constants = constants_of(inner)
        program, found = with_arguments_first(core().ClosedJaxpr(opened(inner), constants), self.wanted, alone=self.alone)
        program = core().ClosedJaxpr(program, ()) if isinstance(inner, core().ClosedJaxpr) else program
        known = [self.arguments[name] for name in (*found, *map(id, constants))]
        return rebuilding.bind(eqn.replace(params={**eqn.params, "jaxpr": program}), [*known, *operands], info)


def _array(value: Any) -> Any:
    """Return a literal as an array."""
    return np.asarray(value.val, value.aval.dtype) if isinstance(value, core().Literal) else value


def _like(aval: Any) -> Any:
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=getattr(aval, "weak_type", False))
