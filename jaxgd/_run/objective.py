"""The forms of a cost that a run may ask for."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxgd._compile.program import program_for
from jaxgd._trees import is_traced


class Objective(NamedTuple):
    """The cost in the forms that a run asks for, each a function of the free parameters and rows.

    Attributes:
        evaluate: the cost, its gradient and its aux, for a full batch.
        evaluate_last: the same for the last, smaller batch of an epoch; None where there is none.
        hessian: the matrix of second derivatives, for a method that needs it.
        validation: the cost alone, for the validation data.
        all_rows: the same as `evaluate` over all rows, where a history records the norm of that gradient.
    """

    evaluate: Callable[..., Any]
    evaluate_last: Callable[..., Any] | None = None
    hessian: Callable[..., Any] | None = None
    validation: Callable[..., Any] | None = None
    all_rows: Callable[..., Any] | None = None


def is_eager(function: Any) -> bool:
    """Return whether a function runs as Python, so that a program can't hold it."""
    return any(map(callable, jax.tree.leaves(function)))


def apply(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function; as a program of its own."""
    return function(*arguments)


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of the cost: compiled where it was traced, else as it is."""
    if is_eager(function) or is_traced(function, arguments):
        return function(*arguments)
    return program_for(apply, function, *arguments)(function, *arguments)
