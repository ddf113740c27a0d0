"""The checks of the functions of constraints: how they are called, and what they returned while they were traced."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._checks import check
from jaxgd._checks.check import Refused


def constraint_arrays(name: str, value: Any) -> Any:
    """Check what a function of constraints returned while it is traced, and return it with arrays for its numbers."""
    expected = f"{name}: it must return real numbers, arrays or a pytree of them, it returned"
    leaves = jax.tree.leaves(value)
    if value is None:
        raise Refused(f"{expected} None: is a `return` missing?")
    for leaf in leaves:
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic | float | int) or isinstance(leaf, bool):
            raise Refused(f"{expected} {check.show(leaf)}{_cure(name, leaf)}.")
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise Refused(f"{expected} numbers of type {jnp.result_type(leaf)}{_cure(name, leaf)}.")
    return jax.tree.map(jnp.asarray, value)


def _cure(name: str, leaf: Any) -> str:
    """Return the cure where a comparison was returned."""
    if isinstance(leaf, str) or not hasattr(leaf, "dtype") or leaf.dtype != bool:
        return ""
    return ": for x >= y return x - y" if name == "inequality" else ": for x == y return x - y"
