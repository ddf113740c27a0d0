"""Give it a cost function, get the minimum.

You write a scalar cost with `jax.numpy`, and nothing else: no gradient, no loop. Two verbs minimise it:

    minimize(cost, start, data)                                     all rows in every step
    fit(cost, start, data, batch_size=32, n_epochs=50, key=0)       shuffled minibatches

and one `Result` says where the run ended (`params`, `cost`, `gradient`), how (`status`, `converged`), and what it saw (`best`,
`history`). Parameters are any pytree of numbers and arrays: a number, an array, a dict of arrays.

>>> import jax.numpy as jnp, numpy as np, jaxgd
>>> x, y = np.array([5, 15, 25, 35, 45, 55]), np.array([5, 20, 14, 32, 22, 38])
>>> def cost(line, data):
...     x, y = data
...     return jnp.mean((line["offset"] + line["slope"] * x - y) ** 2) / 2
>>> result = jaxgd.minimize(cost, {"offset": 0.0, "slope": 0.0}, (x, y))
>>> result.converged, round(float(result.params["offset"]), 3), round(float(result.params["slope"]), 3)
(True, 5.633, 0.54)

Without a method nothing has to be tuned: `minimize` takes `TrustRegion` for up to 200 parameters and `LBFGS` for more, `fit` takes
`Automatic`, which finds a learning rate by a short race. What else there is:

    methods           GradientDescent, Adam, Adagrad, Adadelta, RMSProp (first order), SpectralGradient (plain descent with a safe
                      step), LBFGS, TrustRegion, TruncatedNewton, LevenbergMarquardt, GaussNewton, InteriorPoint,
                      AugmentedLagrangian, Automatic, and any Optax
                      transformation
    least squares     least_squares(residuals, start, data, loss=...), curve_fit(model, x, y, start), SumOfSquares(residuals)
    learning rates    a number, an array for each variable, a schedule of `jaxgd.schedules`, any function of the step, or "auto"
    stopping          rules of `jaxgd.stopping`: UpdateTolerance, CostTolerance, GradientTolerance, Patience, Stationary
    penalties         penalty=L1(weight), ElasticNet, GroupLasso, NonNegative, by ProximalNewton or ProximalGradient; penalty_path
    constraints       equality=, inequality=: functions of the parameters; result.constraints
    room              bounds=(lower, upper), fixed=, transform= with `jaxgd.transforms`
    random starts     start=normal(shape), uniform(low, high) or sobol(low, high), key=..., n_starts=...
    before a fit      check(cost, start, data): why it may not work
    many fits         minimize_many(cost, start, data, shared=...), covariance_many
    uncertainties     covariance(cost, params): standard errors and correlations; found.propagate(function)
                      intervals, profile and contour: of the lowest cost over all other parameters, as MINOS has them
                      bootstrap(cost, result, data, key=0): how the parameters scatter from sample to sample
    looking           history=, callback= with `jaxgd.callbacks`, progress=, and the pictures of `jaxgd.plot`
    training          costs with parameters key, state and training; accumulate=, on_nonfinite=, ExponentialAverage
    large data        `jaxgd.data`: Chunks of what is larger than memory, a Stream of batches
    many devices      `jaxgd.data.shard` puts an equal share of the rows on each
    long runs         checkpoint=Checkpoint(directory), resume=
    fast starts       cache(): compiled programs are kept on disk, for later processes
    tutorials         gradient_descent and sgd, with their arguments; learning_rate_sweep
    SciPy             `jaxgd.compat`: minimize, curve_fit, least_squares with SciPy's arguments
    your own          `pytree` decorates methods, schedules and rules of your own

`help(jaxgd.minimize)`, `help(jaxgd.fit)` and so on tell all; the README is the tour.
"""

import importlib
from typing import TYPE_CHECKING, Any

from jaxgd import callbacks, data, penalties, schedules, stopping, transforms
from jaxgd._bootstrap import Bootstrap, bootstrap
from jaxgd._check import check
from jaxgd._covariances import covariance_many
from jaxgd._diagnosis.report import Report
from jaxgd._fit import fit
from jaxgd._least_squares import CurveFit, curve_fit, least_squares
from jaxgd._many import minimize_many
from jaxgd._minimize import minimize
from jaxgd._penalty_path import PenaltyPath, penalty_path
from jaxgd._persistent import cache
from jaxgd._profiles.contour import Contour, contour
from jaxgd._profiles.intervals import Intervals, intervals
from jaxgd._profiles.profile import Profile, profile
from jaxgd._profiles.search import IntervalStatus
from jaxgd._propagation import Propagated
from jaxgd._run.progress import Progress
from jaxgd._trees import pytree
from jaxgd.average import ExponentialAverage
from jaxgd.checkpoint import Checkpoint, Resume
from jaxgd.constraints import Constraints
from jaxgd.methods.augmented_lagrangian import AugmentedLagrangian
from jaxgd.methods.automatic import Automatic
from jaxgd.methods.first_order import Adadelta, Adagrad, Adam, GradientDescent, RMSProp
from jaxgd.methods.gauss_newton import GaussNewton
from jaxgd.methods.interior_point import InteriorPoint
from jaxgd.methods.levenberg_marquardt import LevenbergMarquardt
from jaxgd.methods.proximal_gradient import ProximalGradient
from jaxgd.methods.proximal_newton import ProximalNewton
from jaxgd.methods.quasi_newton import LBFGS
from jaxgd.methods.spectral import SpectralGradient
from jaxgd.methods.truncated_newton import TruncatedNewton
from jaxgd.methods.trust_region import TrustRegion
from jaxgd.penalties import L1, ElasticNet, GroupLasso, NonNegative
from jaxgd.result import Best, History, Result, Starts, Status
from jaxgd.squares import SumOfSquares
from jaxgd.starts import normal, sobol, uniform
from jaxgd.sweep import Sweep, learning_rate_sweep
from jaxgd.tutorials import gradient_descent, sgd
from jaxgd.uncertainty import Covariance, CovarianceStatus, covariance

if TYPE_CHECKING:
    from jaxgd import compat, plot

__all__ = [
    "L1",
    "LBFGS",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AugmentedLagrangian",
    "Automatic",
    "Best",
    "Bootstrap",
    "Checkpoint",
    "Constraints",
    "Contour",
    "Covariance",
    "CovarianceStatus",
    "CurveFit",
    "ElasticNet",
    "ExponentialAverage",
    "GaussNewton",
    "GradientDescent",
    "GroupLasso",
    "History",
    "InteriorPoint",
    "IntervalStatus",
    "Intervals",
    "LevenbergMarquardt",
    "NonNegative",
    "PenaltyPath",
    "Profile",
    "Progress",
    "Propagated",
    "ProximalGradient",
    "ProximalNewton",
    "RMSProp",
    "Report",
    "Result",
    "Resume",
    "SpectralGradient",
    "Starts",
    "Status",
    "SumOfSquares",
    "Sweep",
    "TruncatedNewton",
    "TrustRegion",
    "bootstrap",
    "cache",
    "callbacks",
    "check",
    "compat",
    "contour",
    "covariance",
    "covariance_many",
    "curve_fit",
    "data",
    "fit",
    "gradient_descent",
    "intervals",
    "learning_rate_sweep",
    "least_squares",
    "minimize",
    "minimize_many",
    "normal",
    "penalties",
    "penalty_path",
    "plot",
    "profile",
    "pytree",
    "schedules",
    "sgd",
    "sobol",
    "stopping",
    "transforms",
    "uniform",
]


def __getattr__(name: str) -> Any:
    """Return the pictures, or SciPy's functions, whose files are read when they are first asked for."""
    if name in ("compat", "plot"):
        return importlib.import_module(f"jaxgd.{name}")
    raise AttributeError(f"module 'jaxgd' has no attribute {name!r}")
