"""The method of Levenberg and Marquardt: the trust region of `TrustRegion` with the curvature of linear residuals."""

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxgd._trees import bundled, pytree, unbundled
from jaxgd.methods._curvature import OfHessian, OfResiduals
from jaxgd.methods._model import Model, Place
from jaxgd.methods._rarely import rarely
from jaxgd.methods.protocol import Problem, Traits
from jaxgd.methods.trust_region import Memory, Trial, TrustRegion, TrustRegionState

_SLOW = 0.1  # of the slope along a whole step, so much left of which says that the residuals are not linear enough


@pytree
class LevenbergMarquardt(TrustRegion):
    """Minimise a sum of squares of residuals: for up to some hundreds of parameters.

        x_new = x + s * d,  d the least of |J s d + r|**2 / 2 in |d| <= radius
        s: the sizes of the variables;  r, J: the residuals and their Jacobian, weighted by their loss

    J s is factorised by QR, and the triangle by SVD, so J'J is not formed and no digits are lost to it; only many runs of a few
    parameters side by side form it, where no digit that matters is lost. The sizes, the radius, bounds and the ends of a run are
    those of `TrustRegion`, beginning with ten times its radius.

    J'J is the curvature of the cost where residuals are small or nearly linear. Where they are not, the exact Hessian takes its
    place: at a point from which a step was refused; after a whole step that left more than a tenth of the slope along it, and from
    then on as long as whole steps are taken; and wherever nothing seems to be left to gain. So CONVERGED is said where the exact
    model has nothing to gain either, or where rounding hides the step by which it promised more, as on a curve of equal minima. A
    cost for which JAX has no second derivatives is left with J'J.

    Args:
        radius: the first radius, > 0, relative to the sizes of the variables.

    Each accepted point costs a Jacobian, about as much as an evaluation of the residuals for each parameter.

    J. J. Moré, The Levenberg-Marquardt algorithm: implementation and theory, LNM 630 (1978), here with the sizes of `TrustRegion`
    as the scale; J. E. Dennis, D. M. Gay, R. E. Welsch, An adaptive nonlinear least-squares algorithm, ACM TOMS 7 (1981), for the
    two models, the second of which is exact here and has another rule to be chosen.

    >>> import jax.numpy as jnp, jaxgd
    >>> result = jaxgd.least_squares(lambda x: jnp.stack([10 * (x[1] - x[0]**2), 1 - x[0]]), [-1.2, 1.0])
    >>> result.converged, result.n_evaluations < 30
    (True, True)
    """

    traits: ClassVar[Traits] = TrustRegion.traits._replace(requires="residuals")
    radius: Any = 1.0

    def reconsiders(self, memory: Memory, trial: Trial) -> Any:
        return memory.started & ~trial.accepted & (trial.hidden | ~memory.exact)

    def modelled(
        self, place: Place, params: Any, trial: Trial, before: TrustRegionState, made: Callable[[Place], Model], problem: Problem
    ) -> tuple[Model, jax.Array]:
        linearised: Any = problem.linearised
        memory, whole, hessian = before.memory, before.proposal.newton, problem.hessian
        found = made(place._replace(curvature=OfResiduals(*linearised(params))))
        if hessian is None:
            return found, jnp.asarray(True)
        doubted = memory.started & whole & ((jnp.abs(trial.left) > _SLOW) | memory.exact)
        exact = jnp.where(trial.accepted, doubted | found.calm | found.flat, ~memory.exact)

        def by_hessian() -> tuple[jax.Array, ...]:
            return bundled(made(place._replace(curvature=OfHessian(hessian(params)))), place.x.dtype)

        bundles = rarely(exact, by_hessian, bundled(found, place.x.dtype))
        return unbundled(bundles, found), exact
