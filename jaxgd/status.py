"""How a run ended: a number inside compiled programs, and a sentence for people."""

import enum
from typing import Any

import jax.numpy as jnp
import numpy as np


class Sentences(enum.Enum):
    """Statuses whose values are sentences to show to a person; `code` is the number of each inside compiled programs."""

    code: int

    def __new__(cls, code: int, sentence: str) -> "Sentences":
        """Make a status of its number, which stays the same from version to version, and its sentence."""
        status = object.__new__(cls)
        status._value_, status.code = sentence, code
        return status

    @classmethod
    def of(cls, codes: Any) -> Any:
        """Return the status of a number, or an array of them."""
        codes, statuses = np.asarray(codes), {status.code: status for status in cls}
        if codes.ndim == 0:
            return statuses[int(codes)]
        return np.array([statuses[code] for code in codes.ravel().tolist()], dtype=object).reshape(codes.shape)

    def __str__(self) -> str:
        return self.value


class Status(Sentences):
    """How a run ended; the value is the sentence to show to a person.

    The converged ones say that a test of convergence held. `code` is the number that stands for the status inside compiled
    programs.

    >>> import jaxgd
    >>> status = jaxgd.minimize(lambda v: v**2, 1.0).status
    >>> print(status)
    Converged: the gradient is negligible at the scale of the problem and its precision.
    >>> status is jaxgd.Status.CONVERGED, status.converged, jaxgd.Status.DIVERGED.converged
    (True, True, False)
    """

    RUNNING = 0, "Running: the run has not ended."
    CONVERGED = 1, "Converged: the gradient is negligible at the scale of the problem and its precision."
    RULE = 2, "Converged: a user-defined stopping rule was satisfied."
    UPDATE_TOLERANCE = 3, "Converged: the next update is within the tolerance (UpdateTolerance)."
    COST_TOLERANCE = 4, "Converged: the change of the cost is within the tolerance (CostTolerance)."
    GRADIENT_TOLERANCE = 5, "Converged: the gradient is within the tolerance (GradientTolerance)."
    PATIENCE = 6, "Stopped early: the cost has not improved for a while (Patience)."
    MAX_STEPS = 7, "Not converged: the maximum number of steps was reached."
    MAX_EPOCHS = 8, "Finished: every epoch was run."
    STALLED = 9, "Stalled: no step along the gradient lowers the cost any more, at this precision."
    DIVERGED = 10, "Diverged: the cost, the gradient or a parameter is not finite; the last finite point is returned."
    CALLBACK = 11, "Stopped by the callback."
    INTERRUPTED = 12, "Interrupted; the point reached is returned."
    UNBOUNDED = 13, "Unbounded: the cost falls without limit; bounds, or another cost, would give it a minimum."
    NONFINITE_DATA = 14, "Not finite: the data hold NaN or infinity, and so the cost or its gradient is not finite at the start."
    WORSE = 15, "Not converged: every step was run, and the end is above the start; result.best is the best point."
    INFEASIBLE = 16, "Infeasible: no small move makes the constraints less violated; the least violated point is returned."

    @property
    def converged(self) -> bool:
        """Whether a test of convergence held."""
        return self.value.startswith("Converged")

    @property
    def nonfinite(self) -> bool:
        """Whether a number that is not finite ended the run."""
        return self in (Status.DIVERGED, Status.NONFINITE_DATA)


RUNNING = Status.RUNNING.code


def above(cost: Any, other: Any) -> Any:
    """Return whether a cost is above another by more than rounding; arrays of JAX or NumPy of one floating type."""
    with np.errstate(invalid="ignore", over="ignore"):
        return cost - other > 32 * float(jnp.finfo(cost.dtype).eps) * (abs(cost) + abs(other))
