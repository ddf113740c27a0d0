"""All cases."""

from tests.benchmarks import fit_cases, minimize_cases
from tests.benchmarks.case import CASES

__all__ = ["CASES", "fit_cases", "minimize_cases"]
