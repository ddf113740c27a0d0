"""SciPy's functions by their own names and arguments: a script changes one import.

    from scipy.optimize import curve_fit, least_squares, minimize        there
    from jaxgd.compat import curve_fit, least_squares, minimize          here

The results are SciPy's types, in 64 bits. JAX's exact derivatives are used where SciPy would take differences.
"""

from jaxgd.compat._curve_fit import curve_fit
from jaxgd.compat._least_squares import least_squares
from jaxgd.compat._minimize import minimize

__all__ = ["curve_fit", "least_squares", "minimize"]
