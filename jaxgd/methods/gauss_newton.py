"""Gauss-Newton without matrices, for sums of squares of many parameters: conjugate gradients in a trust region."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._trees import pytree
from jaxgd.methods._conjugate import Region
from jaxgd.methods.protocol import Problem, Traits
from jaxgd.methods.truncated_newton import TruncatedNewton, TruncatedNewtonState, random_signs


@pytree
class GaussNewton(TruncatedNewton):
    """Minimise a sum of squares by truncated Gauss-Newton steps in a trust region: for more than some hundreds of parameters.

        x_new = P(x + d),    d about the least of g'd + |J d|**2 / 2 in |D d| <= radius
        D**2: estimates of the diagonal of J'J, from J' times some random signs

    The Jacobian J of the residuals, weighted by their loss, is never formed: conjugate gradients, preconditioned by D, need its
    products with vectors alone, and end at the radius (T. Steihaug) or when the slope that they leave is a tenth of itself, and
    less near the end. P moves into the bounds, where there are any; variables held back by one stay. A trial is accepted if the
    cost falls by more than 1e-4 of the predicted fall, and the radius changes as in `TrustRegion`.

    After a poor prediction, or a whole step that leaves more than a quarter of the slope along it, the residuals are too large or
    too bent for J'J to be the curvature: then the products are those of the exact Hessian, and along negative curvature a step goes
    to the radius, until a prediction is poor again. A run ends by the rule `Stationary`, or as STALLED when no step moves a
    parameter any more.

    Args:
        radius: the first radius, > 0, in lengths of D x, or of D**-1 g where x is zero.
        most: products in one step at most, >= 1; None is ten for each parameter, since conjugate gradients lose their
            conjugacy to rounding.

    T. Steihaug, The conjugate gradient method and trust regions in large scale optimization, SIAM J. Numer. Anal. 20 (1983);
    S. G. Nash, A survey of truncated-Newton methods, J. Comput. Appl. Math. 124 (2000); C. Bekas, E. Kokiopoulou, Y. Saad, An
    estimator for the diagonal of a matrix, Appl. Numer. Math. 57 (2007), for the signs, here of J' and so never negative.

    >>> import jax.numpy as jnp, jaxgd
    >>> result = jaxgd.least_squares(lambda x: jnp.diff(x**2) - 1, jnp.ones(300), method=jaxgd.GaussNewton(), dtype="float64")
    >>> result.converged, bool(result.cost < 1e-9)
    (True, True)
    """

    traits: ClassVar[Traits] = Traits(requires="products", can_reject=True, can_end=True, checks_convergence=True)
    radius: Any = 1.0
    most: Any = None

    def region(self, problem: Problem, params: Any, x: jax.Array, gradient: jax.Array) -> Region:
        forward, backward, *exact = problem.products  # type: ignore[misc]

        def linear(v: jax.Array) -> jax.Array:
            return backward(params, forward(params, v))

        like = jax.eval_shape(forward, params, x)
        squares = jnp.mean(jnp.square(lax.map(lambda u: backward(params, u), random_signs(like.shape, like.dtype))), axis=0)
        whole = (lambda v: exact[0](params, v)) if exact else linear
        return Region(x, gradient, problem.bounds, whole, squares, linear, of_squares=True)

    def takes_exact(self, state: TruncatedNewtonState, accepted: jax.Array, poor: jax.Array, slow: jax.Array) -> Any:
        return jnp.where(accepted, jnp.where(state.exact, ~poor, poor | slow), True)
