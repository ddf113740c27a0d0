import jax
import numpy as np
import pytest

import jaxgd
from tests.problems import PROBLEMS, Problem


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_the_stated_minimiser_is_stationary_and_has_the_stated_cost(problem: Problem) -> None:
    data = () if problem.data is None else (problem.data,)
    with jax.enable_x64(True):
        params = jax.tree.map(np.asarray, problem.minimiser)
        cost, gradient = jax.value_and_grad(problem.cost)(params, *data)
        curvature = jax.tree.leaves(jax.hessian(problem.cost)(params, *data))
    np.testing.assert_allclose(cost, problem.minimum, rtol=1e-11, atol=1e-12)
    # The quartic's second derivative is 25 and its minimiser is rounded to 2e-16 of itself.
    assert all(np.all(np.abs(leaf) < 1e-11) for leaf in jax.tree.leaves(gradient))
    assert all(np.all(np.isfinite(leaf)) for leaf in curvature)


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_the_default_method_finds_the_minimiser(problem: Problem) -> None:
    result = jaxgd.minimize(problem.cost, problem.start, problem.data, dtype="float64", max_steps=100_000)
    assert result.converged
    # Stationary stops where the step that is left is a few roundings; conditions of up to 2500 (rosenbrock) magnify it.
    for found, expected in zip(jax.tree.leaves(result.params), jax.tree.leaves(problem.minimiser), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(result.cost, problem.minimum, rtol=1e-12, atol=1e-12)
