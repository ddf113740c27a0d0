"""Constraints at the end of a run: their values, multipliers, and which of them are active."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxgd import _text
from jaxgd._trees import pytree

NAMES = ("equality", "inequality")


@pytree
class Constraints:
    """The constraints at the end of a run, in dicts with the keys "equality" and "inequality", or one of them.

    Attributes:
        values: what the functions of the constraints return at `result.params`.
        multipliers: the derivative of the minimal cost with respect to each number that a constraint has to be equal to, or at
            least; zero for an inequality that is not active, and positive where a stricter one would cost something. With them the
            gradient of the cost, but for parameters at their bounds, is that of sum(multipliers * values).
        active: which constraints are active, pytrees of booleans like the values: every equation, and the inequalities whose value
            is less than their multiplier, in units of the run.
        violation: the largest violation, >= 0, in the units of the constraints: |equality| or -inequality.

    >>> import jax.numpy as jnp, jaxgd
    >>> result = jaxgd.minimize(lambda x: jnp.sum(x**2), [3.0, 1.0], inequality=lambda x: x[0] + x[1] - 1, dtype="float64")
    >>> result.params.round(6).tolist(), round(float(result.constraints.multipliers["inequality"]), 6)
    ([0.5, 0.5], 1.0)
    >>> bool(result.constraints.active["inequality"]), bool(result.constraints.violation < 1e-12)
    (True, True)
    """

    values: Mapping[str, Any]
    multipliers: Mapping[str, Any]
    active: Mapping[str, Any]
    violation: Any

    def facts(self) -> list[tuple[str, str]]:
        """Return what there is to say of them in a summary."""
        found = [("violation", f"{float(self.violation):.2g} (largest, of the constraints)")]
        named = []
        for path, leaf in jax.tree_util.tree_flatten_with_path(self.active.get("inequality"))[0]:
            place = "inequality" + jax.tree_util.keystr(path)
            named += [place + (f"[{','.join(map(str, at))}]" if at else "") for at in np.argwhere(np.asarray(leaf)).tolist()]
        if named:
            found.append(("active", _text.several(named)))
        return found
