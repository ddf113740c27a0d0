"""Findings: possible reasons for a bad fit, each with a code for programs, a sentence, and its cure."""

from typing import NamedTuple

ORDER = (
    "nonfinite_data",
    "nonfinite_cost",
    "nonfinite_gradient",
    "wrong_gradient",
    "steps",
    "unused",
    "saturated",
    "saddle",
    "kink",
    "nonfinite_hessian",
    "at_bound",
    "degenerate",
    "coarse_data",
    "uncentred",
    "column_scales",
    "ill_conditioned",
    "sum_over_rows",
    "not_additive",
)  # from what makes a fit impossible to what makes it slow


class Finding(NamedTuple):
    """A possible reason for a bad fit.

    Attributes:
        code: its kind, one of the codes that `jaxgd.check` lists.
        text: what was found, with the names of parameters or data.
        cure: what to do about it.
    """

    code: str
    text: str
    cure: str

    def __str__(self) -> str:
        return f"{self.text}. {self.cure[0].upper()}{self.cure[1:]}."
