"""The forms of a cost that a run may ask for."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxgd._compile.program import apply, program_for
from jaxgd._frozen import PartialObjective
from jaxgd._trees import is_traced


class Objective(NamedTuple):
    """The cost in the forms that a run asks for, each a function of the free parameters and rows.

    Attributes:
        evaluate: the cost, its gradient and its aux, for a full batch.
        evaluate_last: the same for the last, smaller batch of an epoch; None where there is none.
        hessian: the matrix of second derivatives, for a method that needs it.
        linearised: the residuals of a sum of squares and their Jacobian, for a method that needs them.
        products: for a method that needs them, functions that multiply that Jacobian, its transpose, and the matrix of second
            derivatives by a vector, their last argument.
        validation: the cost alone, for the validation data.
        all_rows: the same as `evaluate` over all rows, where a history records the norm of that gradient.
        constraints: the functions of the constraints, for a method that needs them.
    """

    evaluate: Callable[..., Any]
    evaluate_last: Callable[..., Any] | None = None
    hessian: Callable[..., Any] | None = None
    validation: Callable[..., Any] | None = None
    all_rows: Callable[..., Any] | None = None
    linearised: Callable[..., Any] | None = None
    products: tuple[Callable[..., Any], ...] | None = None
    constraints: Any = None

    def further(self, rows: tuple[Any, ...], own: tuple[Any, ...]) -> dict[str, Any]:
        """Return what a method may ask for beside the gradient, at these rows: fields of its `Problem`.

        Constraints get their `own` rows, without the extras of the cost.
        """

        def at(function: Any) -> Any:
            return function and (lambda params, *vector: function(params, *rows, *vector))

        products = self.products and tuple(map(at, self.products))
        constraints = self.constraints and self.constraints.problem(self.hessian, rows, own)
        found = {"hessian": at(self.hessian), "linearised": at(self.linearised), "products": products}
        return found | {"constraints": constraints}

    def frozen_at(self, values: Any) -> "Objective":
        """Return the cost with other values of its frozen parameters."""

        def at(node: Any) -> Any:
            return PartialObjective(node.function, values) if isinstance(node, PartialObjective) else node

        return jax.tree.map(at, self, is_leaf=lambda node: isinstance(node, PartialObjective))


def is_eager(function: Any) -> bool:
    """Return whether a function runs as Python, so that a program can't hold it."""
    return any(map(callable, jax.tree.leaves(function)))


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of the cost: compiled where it was traced, else as it is."""
    if is_eager(function) or is_traced(function, arguments):
        return function(*arguments)
    return program_for(apply, function, *arguments, in_parts=True)(function, *arguments)
