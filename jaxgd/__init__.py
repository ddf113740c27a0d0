"""Give it a cost function, get the minimum."""

from jaxgd import schedules, stopping
from jaxgd._classic import gradient_descent, sgd
from jaxgd._drive import Progress
from jaxgd._fit import fit
from jaxgd._minimize import minimize
from jaxgd._trees import pytree
from jaxgd.methods.automatic import Automatic
from jaxgd.methods.first_order import Adadelta, Adagrad, Adam, GradientDescent, RMSProp
from jaxgd.methods.quasi_newton import LBFGS
from jaxgd.methods.spectral import SpectralGradient
from jaxgd.methods.trust_region import TrustRegion
from jaxgd.result import Best, History, Result, Starts, Status
from jaxgd.starts import normal
from jaxgd.sweep import Sweep, learning_rate_sweep
from jaxgd.uncertainty import Covariance, CovarianceStatus, covariance

__all__ = [
    "LBFGS",
    "Adadelta",
    "Adagrad",
    "Adam",
    "Automatic",
    "Best",
    "Covariance",
    "CovarianceStatus",
    "GradientDescent",
    "History",
    "Progress",
    "RMSProp",
    "Result",
    "SpectralGradient",
    "Starts",
    "Status",
    "Sweep",
    "TrustRegion",
    "covariance",
    "fit",
    "gradient_descent",
    "learning_rate_sweep",
    "minimize",
    "normal",
    "pytree",
    "schedules",
    "sgd",
    "stopping",
]
