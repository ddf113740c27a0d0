"""Eigenvectors of many tiny matrices at once, against LAPACK's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd.methods._eigen import eigh


def check(matrices: Any, tolerance: float) -> None:
    """The same eigenvalues as LAPACK's, orthonormal vectors, and the matrix again out of both; relative to its norm."""
    values, vectors = (np.asarray(part) for part in jax.jit(jax.vmap(eigh))(matrices))
    norm = np.max(np.abs(matrices), axis=(1, 2))[:, None]
    assert np.all(np.abs(values - np.linalg.eigvalsh(matrices)) <= tolerance * norm)
    again = np.einsum("bij,bj,bkj->bik", vectors, values, vectors)
    assert np.all(np.abs(again - matrices) <= tolerance * norm[:, None])
    assert np.all(np.abs(np.einsum("bji,bjk->bik", vectors, vectors) - np.eye(matrices.shape[1])) <= tolerance)


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_random_equal_graded_and_singular_matrices(n: int, dtype: str) -> None:
    generator = np.random.default_rng(n)
    full = generator.normal(size=(300, n, n))
    graded = full * 10.0 ** generator.integers(-6, 7, size=(300, n, 1))
    low = full[:, :, :1] * full[:, None, :, 0]
    special = np.stack([np.zeros((n, n)), np.eye(n), -np.eye(n), np.ones((n, n)), np.flip(np.eye(n), 0)])
    matrices = np.concatenate([full + full.mT, graded @ graded.mT, low, np.tile(special, (20, 1, 1)), 1e30 * special])
    with jax.enable_x64(dtype == "float64"):
        check(matrices.astype(dtype), 40 * float(np.finfo(dtype).eps))


def test_small_eigenvalues_of_graded_matrices_keep_their_digits() -> None:
    scales = 10.0 ** np.array([0, -5, -10])
    core = np.array([[2, 0.3, 0.1], [0.3, 1, 0.2], [0.1, 0.2, 3]])
    with jax.enable_x64(True):
        values, _ = jax.vmap(eigh)(np.tile(scales[:, None] * core * scales, (64, 1, 1)))
    pivots = np.diagonal(np.linalg.cholesky(core)) ** 2 * scales**2  # the eigenvalues, up to the squares of the ratios of scales
    np.testing.assert_allclose(values, np.tile(pivots[::-1], (64, 1)), rtol=1e-9)


def test_a_matrix_that_is_not_finite_spoils_no_other() -> None:
    matrices = np.tile(np.diag([3.0, 1.0, 2.0]).astype(np.float32), (64, 1, 1))
    matrices[5, 0, 1] = matrices[5, 1, 0] = np.nan
    values, _ = jax.vmap(eigh)(matrices)
    assert np.all(np.isnan(values[5]))
    np.testing.assert_allclose(np.delete(values, 5, axis=0), np.tile([1.0, 2.0, 3.0], (63, 1)), rtol=1e-6)


def test_maps_inside_maps_and_matrices_that_are_not_mapped() -> None:
    matrix = np.array([[2.0, 1.0], [1.0, 2.0]], np.float32)
    grid = jnp.asarray(np.tile(matrix, (3, 64, 1, 1)))
    np.testing.assert_allclose(jax.vmap(jax.vmap(eigh))(grid)[0], np.tile([1.0, 3.0], (3, 64, 1)), rtol=1e-6)
    values = jax.vmap(lambda _: eigh(jnp.asarray(matrix))[0])(jnp.zeros(100))
    np.testing.assert_allclose(values, np.tile([1.0, 3.0], (100, 1)), rtol=1e-6)


@pytest.mark.slow
def test_forward_derivatives_of_a_minimum_of_one_and_of_many_runs() -> None:
    def minimiser(y: Any) -> Any:
        return jaxgd.minimize(lambda p: jnp.sum((p - y) ** 2 * (4 + p**2)), np.zeros(2), dtype="float64").params

    with jax.enable_x64(True):
        targets = jnp.asarray([1.0, 2.0])
        expected = [(minimiser(targets + shift) - minimiser(targets - shift)) / 2e-4 for shift in 1e-4 * np.eye(2)]
        np.testing.assert_allclose(jax.jacfwd(minimiser)(targets), np.array(expected).T, rtol=1e-6, atol=1e-9)
        many = jnp.tile(targets, (64, 1))
        along = jax.jvp(jax.vmap(minimiser), (many,), (jnp.ones_like(many),))[1]
        np.testing.assert_allclose(along, np.tile(sum(expected), (64, 1)), rtol=1e-6)
