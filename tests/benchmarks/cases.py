"""All cases."""

from tests.benchmarks import call_cases, fit_cases, minimize_cases
from tests.benchmarks.case import CASES

__all__ = ["CASES", "call_cases", "fit_cases", "minimize_cases"]
