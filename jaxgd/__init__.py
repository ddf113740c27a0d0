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
                      step), LBFGS, TrustRegion, Automatic, and any Optax transformation
    learning rates    a number, an array for each variable, a schedule of `jaxgd.schedules`, any function of the step, or "auto"
    stopping          rules of `jaxgd.stopping`: UpdateTolerance, CostTolerance, GradientTolerance, Patience, Stationary
    room              bounds=(lower, upper), fixed=
    random starts     start=normal(shape), key=..., n_starts=...
    uncertainties     covariance(cost, params): standard errors and correlations
    looking           history=, callback= with `jaxgd.callbacks`, progress=, and the pictures of `jaxgd.plot`
    training          costs with parameters key, state and training; accumulate=, on_nonfinite=, ExponentialAverage
    large data        `jaxgd.data`: Chunks of what is larger than memory, a Stream of batches
    many devices      `jaxgd.data.shard` puts an equal share of the rows on each
    long runs         checkpoint=Checkpoint(directory), resume=
    tutorials         gradient_descent and sgd, with their arguments; learning_rate_sweep
    your own          `pytree` decorates methods, schedules and rules of your own

`help(jaxgd.minimize)`, `help(jaxgd.fit)` and so on tell all; the README is the tour.
"""

import importlib
from typing import TYPE_CHECKING, Any

from jaxgd import callbacks, data, schedules, stopping
from jaxgd._fit import fit
from jaxgd._minimize import minimize
from jaxgd._run.progress import Progress
from jaxgd._trees import pytree
from jaxgd.average import ExponentialAverage
from jaxgd.checkpoint import Checkpoint, Resume
from jaxgd.methods.automatic import Automatic
from jaxgd.methods.first_order import Adadelta, Adagrad, Adam, GradientDescent, RMSProp
from jaxgd.methods.quasi_newton import LBFGS
from jaxgd.methods.spectral import SpectralGradient
from jaxgd.methods.trust_region import TrustRegion
from jaxgd.result import Best, History, Result, Starts, Status
from jaxgd.starts import normal
from jaxgd.sweep import Sweep, learning_rate_sweep
from jaxgd.tutorials import gradient_descent, sgd
from jaxgd.uncertainty import Covariance, CovarianceStatus, covariance

if TYPE_CHECKING:
    from jaxgd import plot

__all__ = [
    "LBFGS",
    "Adadelta",
    "Adagrad",
    "Adam",
    "Automatic",
    "Best",
    "Checkpoint",
    "Covariance",
    "CovarianceStatus",
    "ExponentialAverage",
    "GradientDescent",
    "History",
    "Progress",
    "RMSProp",
    "Result",
    "Resume",
    "SpectralGradient",
    "Starts",
    "Status",
    "Sweep",
    "TrustRegion",
    "callbacks",
    "covariance",
    "data",
    "fit",
    "gradient_descent",
    "learning_rate_sweep",
    "minimize",
    "normal",
    "plot",
    "pytree",
    "schedules",
    "sgd",
    "stopping",
]


def __getattr__(name: str) -> Any:
    """Return the pictures, whose files are read when they are first asked for."""
    if name == "plot":
        return importlib.import_module("jaxgd.plot")
    raise AttributeError(f"module 'jaxgd' has no attribute {name!r}")
