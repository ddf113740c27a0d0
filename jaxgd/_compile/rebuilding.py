"""Equations of a jaxpr applied once more: as they are, or with other functions in the places of what is inside them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._compile.jaxprs import applied, core, inside, split_scan

CALLS = frozenset(
    (
        "jit",
        "pjit",
        "closed_call",
        "core_closed_call",
        "core_call",
        "eval_jaxpr",
        "custom_jvp_call",
        "custom_vjp_call",
        "custom_vmap_call",
    )
)


def bind(eqn: Any, operands: list[Any], info: Any) -> list[Any]:
    """Return what an equation computes of these operands, of which some may be literals.

    `info` is the debugging information of its jaxpr.
    """
    atoms = [one if isinstance(one, core().Literal) else core().Var(jax.typeof(one)) for one in operands]
    outputs = [core().Var(variable.aval) for variable in eqn.outvars]
    bound = {atom: value for atom, value in zip(atoms, operands, strict=True) if not isinstance(atom, core().Literal)}
    equation = eqn.replace(invars=atoms, outvars=outputs)
    alone = core().Jaxpr((), list(bound), outputs, [equation], eqn.effects, info)
    return applied(alone, (), *bound.values())


def rebuilt(eqn: Any, operands: list[Any], opened: Callable[[Any], Callable[..., Any]]) -> list[Any] | None:
    """Return what a call, a loop or a branch computes of these operands; None for any other equation.

    Each jaxpr inside becomes the function that `opened` makes of it. A call itself is left out: its function is applied. The
    condition of a loop that was mapped has a number for each of its lanes; those that have ended stay as they are.
    """
    name, params = eqn.primitive.name, eqn.params
    if name in CALLS:
        return opened(inside(eqn)[0])(*operands)
    if name == "scan":
        return _scan(eqn, operands, opened)
    if name == "while":
        return _loop(eqn, operands, opened)
    if name == "cond":
        return lax.switch(operands[0], list(map(opened, params["branches"])), *operands[1:])
    return None


def _loop(eqn: Any, operands: list[Any], opened: Callable[[Any], Callable[..., Any]]) -> list[Any]:
    first, second = eqn.params["cond_nconsts"], eqn.params["cond_nconsts"] + eqn.params["body_nconsts"]
    condition, body = opened(eqn.params["cond_jaxpr"]), opened(eqn.params["body_jaxpr"])

    lanes = eqn.params["cond_jaxpr"].out_avals[0].ndim

    def goes_on(carry: list[Any]) -> Any:
        return condition(*operands[:first], *carry)[0]

    def turn(carry: list[Any]) -> list[Any]:
        after = body(*operands[first:second], *carry)
        if not lanes:
            return after
        which = goes_on(carry)
        return [jnp.where(lax.expand_dims(which, range(lanes, new.ndim)), new, old) for new, old in zip(after, carry, strict=True)]

    return lax.while_loop(lambda carry: jnp.any(goes_on(carry)) if lanes else goes_on(carry), turn, operands[second:])


def _scan(eqn: Any, operands: list[Any], opened: Callable[[Any], Callable[..., Any]]) -> list[Any]:
    constants, first, rows = split_scan(eqn, operands)
    n_carry = len(first)
    function = opened(eqn.params["jaxpr"])

    def step(carry: list[Any], row: list[Any]) -> tuple[list[Any], list[Any]]:
        outputs = list(function(*constants, *carry, *row))
        return outputs[:n_carry], outputs[n_carry:]

    options = {name: eqn.params[name] for name in ("length", "reverse", "unroll")}
    carry, found = lax.scan(step, first, rows, **options)
    return [*carry, *found]
