"""Runs of a fixed number of steps, in loops of known length: JAX differentiates them step by step, forwards and backwards."""

from typing import Any

from jax import lax

from jaxgd._checks import check
from jaxgd._compile.program import program_for, rules_of
from jaxgd._run import fused
from jaxgd._run.advance import end_epoch, row
from jaxgd._run.objective import Objective
from jaxgd._run.state import RunSpec, RunState, begin, goes_on, start_epoch
from jaxgd._trees import detached, is_staged, pytree, select, static, with_fields
from jaxgd.methods.automatic import is_sought
from jaxgd.methods.protocol import Method
from jaxgd.result import RUNNING


@pytree
class Length:
    """The number of epochs, a part of the program."""

    epochs: int = static()


def run(spec: RunSpec, objective: Objective, epochs: int) -> tuple[RunState, list[Any]]:
    """Run a number of epochs; return the last state and the rows recorded.

    A run that is not finite stays where it is.
    """
    length = Length(epochs)
    if is_staged():
        state, rows = _run(length, spec, objective)
    else:
        state, rows = program_for(_run, length, spec, objective, rules=rules_of(objective))(length, spec, objective)
    return state, [rows] if spec.names else []


def check_unrolled(method: Any, **others: tuple[Any, Any]) -> None:
    """Check that a run can have a fixed number of steps: the method has a rate, and nothing looks on or ends the run.

    The others are the values of arguments, each with the one that is expected.
    """
    for name, (value, expected) in others.items():
        if value is not expected and value not in (expected, ()):
            raise ValueError(
                f"{name}: expected {expected} with implicit=False, whose number of steps is fixed, got {check.show(value)}."
            )
    if method is None or is_sought(method):
        raise ValueError(
            f"method: expected one with a learning rate, such as Adam(0.01), with implicit=False, got {check.show(method)}."
        )


def check_takes_every_step(method: Method) -> None:
    """Check that a method takes every step."""
    traits = method.traits
    if traits.can_reject or traits.can_end or traits.requires != "gradient":
        name = type(method).__name__
        raise ValueError(f"method: expected one that takes every step, such as Adam(0.01), with implicit=False, got {name}.")


def _run(length: Length, spec: RunSpec, objective: Objective) -> tuple[RunState, Any]:
    def epoch(state: RunState, _: Any) -> tuple[RunState, Any]:
        after = select(state.code == RUNNING, _epoch(spec, objective, state), state)
        return after, row(spec, after) if spec.names else {}

    return lax.scan(epoch, begin(spec), None, length=length.epochs)


def _epoch(spec: RunSpec, objective: Objective, before: RunState) -> RunState:
    """Run one epoch, batch by batch."""
    source = spec.source
    if source.count == 1:
        return fused.run_epoch(spec, objective, before)
    source, order = with_fields(source, block_bytes=0), source.order(before.epoch)  # blocks of one batch

    def step(state: RunState, evaluate: Any, weight: float, *, last: bool) -> RunState:
        rows = source.take(source.block(order, state.epoch, state.batch), state.batch, state.batch, last=last)
        after = fused.evaluated(spec, objective, state, evaluate, rows, weight)
        return select(goes_on(spec, state), after, state)

    def batch(state: RunState, _: Any) -> tuple[RunState, None]:
        return step(state, objective.evaluate, 1.0, last=False), None

    state, _ = lax.scan(batch, start_epoch(spec, before), None, length=source.full)
    if source.last_size:
        state = step(state, objective.evaluate_last, source.last_weight, last=True)
    return end_epoch(spec, before, state, fused.validation_cost(detached(spec), objective, detached(state)))
