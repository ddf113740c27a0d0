"""Eigenvectors and singular values of many tiny matrices at once, against LAPACK's, and branches that few of many take."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd.methods._eigen import eigh
from jaxgd.methods._few import cholesky, solve_lower, solve_upper, solver
from jaxgd.methods._rarely import rarely
from jaxgd.methods._singular import lengths_of, svd_of


def check(matrices: Any, tolerance: float, mapped: Any = jax.vmap) -> None:
    """The same eigenvalues as LAPACK's, orthonormal vectors, and the matrix again out of both; relative to its norm."""
    values, vectors = (np.asarray(part) for part in jax.jit(mapped(eigh))(matrices))
    norm = np.max(np.abs(matrices), axis=(1, 2))[:, None]
    assert np.all(np.abs(values - np.linalg.eigvalsh(matrices)) <= tolerance * norm)
    again = np.einsum("bij,bj,bkj->bik", vectors, values, vectors)
    assert np.all(np.abs(again - matrices) <= tolerance * norm[:, None])
    assert np.all(np.abs(np.einsum("bji,bjk->bik", vectors, vectors) - np.eye(matrices.shape[1])) <= tolerance)


def one_by_one(function: Any) -> Any:
    return lambda matrices: jax.lax.map(function, matrices)


def of_all_kinds(n: int) -> Any:
    generator = np.random.default_rng(n)
    full = generator.normal(size=(300, n, n))
    graded = full * 10.0 ** generator.integers(-6, 7, size=(300, n, 1))
    low = full[:, :, :1] * full[:, None, :, 0]
    special = np.stack([np.zeros((n, n)), np.eye(n), -np.eye(n), np.ones((n, n)), np.flip(np.eye(n), 0)])
    return np.concatenate([full + full.mT, graded @ graded.mT, low, np.tile(special, (20, 1, 1)), 1e30 * special])


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_random_equal_graded_and_singular_matrices(n: int, dtype: str) -> None:
    with jax.enable_x64(dtype == "float64"):
        check(of_all_kinds(n).astype(dtype), 40 * float(np.finfo(dtype).eps))


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("n", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_matrix_at_a_time(n: int, dtype: str) -> None:
    """Also of elements whose squares leave the range of numbers, or are below it."""
    matrices, info = of_all_kinds(n), np.finfo(dtype)
    largest = np.max(np.abs(matrices), axis=(1, 2), keepdims=True)
    matrices = matrices / np.where(largest > 0, largest, 1)
    with jax.enable_x64(dtype == "float64"):
        for scale in (1, float(info.tiny) / info.eps, float(info.max) / 100):
            check((scale * matrices).astype(dtype), 40 * float(np.finfo(dtype).eps), one_by_one)


@pytest.mark.parametrize("n", [1, 2, 12])
def test_a_matrix_that_is_not_finite_has_no_eigenvalues(n: int) -> None:
    for value in (np.nan, np.inf):
        for values, vectors in (eigh(jnp.full((n, n), value)), jax.vmap(eigh)(jnp.full((2, n, n), value))):
            assert np.all(np.isnan(values)) and np.all(np.isnan(vectors))


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


@pytest.mark.parametrize("n", [1, 3, 4, -1, -2, -8])
def test_singular_values_keep_the_digits_of_small_columns(n: int) -> None:
    """Of many matrices at once, and, for negative n, of one after the other."""
    mapped: Any = jax.vmap if n > 0 else one_by_one
    n = abs(n)
    rng = np.random.default_rng(n)
    joined = rng.normal(size=(80, n + 5, n + 1)) * 10.0 ** rng.uniform(-8, 8, size=(80, 1, n + 1))
    joined[:4, :, 0] = 0
    joined[4:8, :, n - 1] = joined[4:8, :, 0]
    matrices, right = joined[..., :n], joined[..., n]
    with jax.enable_x64(True):
        scale, units = jnp.ones((80, n)), jnp.zeros(n)
        many = jax.jit(mapped(lambda one: svd_of(*one, jnp.ones(()), units)))
        values, vectors, along = map(np.asarray, many((matrices, right, scale)))
        np.testing.assert_allclose(jax.vmap(lengths_of)(matrices, right), np.linalg.norm(matrices, axis=1), rtol=1e-14)
    exact = np.linalg.svd(matrices, compute_uv=False)[:, ::-1]
    assert np.all(abs(values - exact) <= 2e-14 * exact[:, -1:])
    np.testing.assert_allclose(np.swapaxes(vectors, 1, 2) @ vectors, np.broadcast_to(np.eye(n), vectors.shape), atol=1e-13)
    slopes = np.einsum("kij,ki->kj", matrices, right)
    found = np.einsum("kij,kj->ki", vectors, values * along)
    scale = np.linalg.norm(matrices, axis=1) * np.linalg.norm(right, axis=1)[:, None]
    assert np.all(abs(found - slopes) <= 1e-13 * np.max(scale, axis=1, keepdims=True))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the QR factorisation of a GPU leaves the range of numbers at 1e200")
def test_residuals_that_are_not_finite_or_leave_the_range_of_squares_are_those_of_one_alone() -> None:
    rng = np.random.default_rng(0)
    matrices, right = rng.normal(size=(64, 6, 2)), rng.normal(size=(64, 6))
    matrices[0, 0, 0], right[1, 2], matrices[2], right[3] = np.inf, np.nan, matrices[2] * 1e200, right[3] * 1e-200
    with jax.enable_x64(True):
        scale, root, units = jnp.ones(2), jnp.ones(()), jnp.array([0.0, 2.0])

        def one(matrix: Any, right: Any) -> Any:
            return lengths_of(matrix, right), *svd_of(matrix, right, scale, root, units)[::2]

        many = [np.asarray(part) for part in jax.jit(jax.vmap(one))(matrices, right)]
        for k in range(5):
            for found, expected in zip(many, jax.jit(one)(matrices[k], right[k]), strict=True):
                np.testing.assert_allclose(abs(found[k]), abs(np.asarray(expected)), rtol=1e-13)
        assert np.all(many[0][:2] == 0) and np.all(many[1][:2] == [0, 2])


@pytest.mark.parametrize("count", [1, 13, 64])
def test_a_rare_branch_is_taken_by_those_that_want_it(count: int) -> None:
    table, shared = jnp.arange(3.0 * count).reshape(count, 3), jnp.array([1.0, 10.0, 100.0])

    def one(wanted: Any, row: Any) -> Any:
        return rarely(wanted, lambda: (row * shared, jnp.sum(row)), (row, jnp.zeros(())))

    for wanted in (jnp.arange(count) % 3 == 1, jnp.zeros(count, bool), jnp.ones(count, bool)):
        rows, sums = jax.jit(jax.vmap(one))(wanted, table)
        np.testing.assert_array_equal(rows, jnp.where(wanted[:, None], table * shared, table))
        np.testing.assert_array_equal(sums, jnp.where(wanted, jnp.sum(table, axis=1), 0))
    rows, _ = jax.vmap(one, in_axes=(None, 0))(jnp.asarray(True), table)
    np.testing.assert_array_equal(rows, table * shared)
    np.testing.assert_array_equal(one(jnp.asarray(False), table[0])[0], table[0])


@pytest.mark.parametrize("n", [1, 3, 16, 17])
def test_factors_of_few_rows_are_those_of_lapack(n: int) -> None:
    half = np.random.default_rng(n).normal(size=(n, n))
    matrix, right = half @ half.T + np.eye(n), half[0]
    with jax.enable_x64(True):
        factor = cholesky(jnp.asarray(matrix))
        np.testing.assert_allclose(factor, np.linalg.cholesky(matrix), rtol=1e-11, atol=1e-13)
        solved = solve_upper(factor, solve_lower(factor, jnp.asarray(right)))
        np.testing.assert_allclose(solved, np.linalg.solve(matrix, right), rtol=1e-9, atol=1e-12)
        swapped = jnp.asarray(half - np.diag(np.diagonal(half)) if n > 1 else half)  # its pivots are not on the diagonal
        np.testing.assert_allclose(swapped @ solver(swapped)(jnp.asarray(right)), right, rtol=1e-9, atol=1e-12)
        assert np.all(np.isnan(cholesky(jnp.asarray(matrix - 1e3 * np.eye(n)))[np.tril_indices(n)]))
