"""Programs in parts: the same numbers as without, whatever is in them, and the marks that the compiler obeys."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

import jaxgd
from jaxgd import _trees
from jaxgd._compile import jaxprs, native
from jaxgd._compile import parts as cutting
from jaxgd._compile.parts import has_loop, parts

MARK = 'xla_cpu_small_call="true"'
X = np.linspace(0.5, 1.5, 6)
PLACES = np.array([0, 2, 2, 1, 0, 3], np.int32)
ROWS = np.linspace(0, 1, 50_000).reshape(2, 25_000)
TABLE = np.random.default_rng(0).normal(size=(6, 6))

on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="only programs for CPUs are cut into parts")


def integrated(x: Any) -> Any:
    return lax.scan(lambda y, row: (y - 0.1 * row * jnp.tanh(y), jnp.sum(y)), x, jnp.asarray(TABLE))


def halved(x: Any) -> Any:
    return lax.while_loop(lambda y: jnp.sum(y) > 1, lambda y: y / 2 + jnp.where(y > 1, jnp.sin(y), 0) / 8, x)


def noted(x: Any) -> Any:
    """A loop that writes its numbers into a large array, and reads them there."""

    def turn(k: Any, carry: Any) -> Any:
        found, x = carry
        return lax.dynamic_update_index_in_dim(found, found[k - 1] / 2 + jnp.sum(x), k, 0), x * 0.9

    return lax.fori_loop(1, 900, turn, (jnp.ones(900), x))


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "arithmetic": lambda x: jnp.exp(-x) * jnp.sum(x**3) / jnp.sqrt(1 + x @ x) + jnp.cumsum(x),
    "products": lambda x: (TABLE @ x, jnp.outer(x, x) @ TABLE, jnp.einsum("ij,kj->ik", TABLE, TABLE), jnp.vdot(x, x)),
    "batches": lambda x: jnp.einsum("bij,bj->bi", jnp.stack([TABLE, TABLE.T]), jnp.stack([x, x * x])),
    "loop": halved,
    "scan": integrated,
    "mapped loop": lambda x: jax.vmap(lambda y: lax.while_loop(lambda z: z[0] < 2, lambda z: (z[0] * 1.3, z[1] + z[0]), (y, y)))(x),
    "mapped twice": lambda x: jax.vmap(jax.vmap(lambda y: lax.while_loop(lambda z: z < 2, lambda z: z * 1.3, y)))(jnp.outer(x, x)),
    "branches": lambda x: lax.switch(jnp.int32(x[0] * 2), [lambda: x, lambda: x * x + 1, lambda: -x]),
    "indices": lambda x: (x[jnp.argmax(x)], x[::-1], jnp.roll(x, 2), x[jnp.array([3, 1])], jnp.take(x, jnp.int32(x[0] * 4))),
    "integers": lambda x: (jnp.int32(x * 10) % 7, (x > 1) & (x < 1.2), jnp.uint8(x * 100), jnp.int32(x * 9) << 3),
    "derivative": lambda x: jax.hessian(lambda y: jnp.sum(jnp.log(1 + y * y) * jnp.cos(TABLE @ y)))(x),
    "rule": lambda x: jax.nn.softplus(x) + jax.nn.relu(x - 1) + jax.scipy.special.logsumexp(x),
    "random": lambda x: x + jax.random.normal(jax.random.key(3), (6,)),
    "writes": noted,
    "added": lambda x: (jnp.zeros(4).at[PLACES].add(x * x) / 3, jnp.zeros((4, 6)).at[PLACES].add(jnp.outer(x, x))),
    "set": lambda x: (
        x.at[jnp.int32(x[0] * 4)].set(7) * x,
        jnp.zeros((3, 4)).at[PLACES, PLACES % 2].set(x),
        x.at[PLACES[:0]].set(1),
    ),
    "outside": lambda x: [
        jnp.zeros(4).at[PLACES + shift].add(x, mode=mode) * 2 for mode in ("drop", "clip") for shift in (2, -2, -9)
    ],
    "derivative of edges": lambda x: jax.grad(lambda y: jnp.sum(jnp.take(y, jnp.array([-1, 0, 7]), mode="clip") ** 3))(x),
    "places in large rows": lambda x: jnp.take_along_axis(jnp.tile(ROWS, (3, 1)), jnp.int32(x[:, None] * 9), axis=1)[:, 0] * x,
    "columns": lambda x: jnp.sum(jnp.asarray(ROWS)[:, jnp.int32(x * 9)] * x) + jnp.asarray(ROWS)[jnp.int32(x[0]), 7],
    "mapped loop that writes": lambda x: jax.vmap(
        lambda y: lax.while_loop(lambda c: c[0] < y * 9, lambda c: (c[0] + 1, c[1].at[c[0]].set(y * c[0])), (0, jnp.zeros(3000)))[1]
    )(x),
    "large rows": lambda x: lax.scan(lambda old, row: (row, old[3] + row[5]), x[0] * ROWS[0], x[1] * ROWS),
    "rows of a scan": lambda x: lax.scan(lambda old, row: (old + row[:6], row), x, x[1] * ROWS),
    "derivative of places": lambda x: jax.hessian(lambda y: jnp.sum(jnp.sin(y[PLACES] * x) ** 2))(x),
    "written in a loop": lambda x: lax.fori_loop(0, 900, lambda k, y: y.at[k].set(y[k - 1] / 2 + x[k % 6]), jnp.ones(900)),
    "long scan": lambda x: lax.scan(lambda y, k: (jnp.sin(y + k), (y * k, y > 0)), x, jnp.arange(700.0))[1],
    # with what is no part of a native function
    "sorted": lambda x: jnp.sort(jnp.sin(8 * x) + 1)[:3] * jnp.median(x),
    "algebra": lambda x: jnp.linalg.eigvalsh(TABLE @ TABLE.T + jnp.diag(x * x)) + jnp.linalg.solve(TABLE, x + 1),
    "spectrum": lambda x: jnp.abs(jnp.fft.fft(x * x + 1)) ** 2,
    "host": lambda x: jax.pure_callback(lambda y: np.asarray(y) * 2, jax.ShapeDtypeStruct((6,), x.dtype), x + 1) * 3,
    "large": lambda x: jnp.sum(jnp.sin(jnp.arange(20000.0) + x[0]) ** 2) * x + 1,
    "empty": lambda x: (
        jnp.concatenate([x[:0], x + 1]),
        x[:0] * 2,
        lax.cond(x[0] > 0, lambda e: (x * 2, e), lambda e: (x, e), x[3:3]),
    ),
    "constants": lambda x: (jnp.arange(1) < 1, jnp.zeros(0) * 2, jnp.sort(x)),
    "empty in a loop": lambda x: lax.fori_loop(
        0,
        3,
        lambda k, y: (
            jnp.concatenate([y[:0], y / 2 - jnp.sum(y[2:2]) + TABLE[:, :0] @ y[:0], jnp.zeros(0)]) + jnp.max(y[:0], initial=0.5)
        ),
        x,
    ),
    "medium": lambda x: functools.reduce(lambda y, k: jnp.tanh(y + k * y[::-1]) * jnp.sum(y), range(9), jnp.tile(x, (20, 1))),
    "loop of a sort": lambda x: lax.fori_loop(0, 3, lambda k, y: jnp.sort(y * y - 1)[::-1] + jnp.sin(y) + k, x),
    "branch of a sort": lambda x: lax.cond(x[0] > 0, lambda: jnp.sort(-x) * 2 + 1, lambda: x + 1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_same_numbers_as_without(name: str) -> None:
    with jax.enable_x64(True):
        function = FUNCTIONS[name]
        expected, found = jax.jit(function)(X), jax.jit(native.in_parts(function))(X)
        assert jax.tree.structure(expected) == jax.tree.structure(found)
        for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
            assert one.dtype == other.dtype and one.shape == other.shape
            np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-14)


def unneeded(x: Any, y: Any) -> Any:
    """Only late the compiler finds that y does not matter."""
    return x * 2 + jnp.where(y[0] != y[0], 1, 0) * 0, lax.optimization_barrier((x, y))[0] + 1


def test_parameters_that_turn_out_not_to_be_needed() -> None:
    for function in (unneeded, lambda x, y: lax.fori_loop(0, 3, lambda k, z: unneeded(z, y)[0], x)):
        assert jax.tree.leaves(jax.jit(native.in_parts(function))(X, jnp.arange(7.0)))[0].shape == (6,)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8", "bool"])
def test_outputs_that_turn_out_to_be_constant(dtype: str) -> None:
    with jax.enable_x64(True):
        values = [0, 1] + [-1] * (dtype[:3] in ("flo", "int")) + [np.nan, np.inf, -0.0] * dtype.startswith("float")
        expected = [jnp.full(shape, value, dtype) for value in values for shape in ((), (3,))]

        def function(x: Any) -> Any:
            return [jnp.where(x[0] != x[0], value, value) for value in expected]

        for native_one in (function, lambda x: lax.fori_loop(0, 3, lambda k, found: function(x + k), expected)):
            found = jax.jit(native.in_parts(native_one))(jnp.arange(4.0))
            for one, other in zip(found, expected, strict=True):
                assert one.tobytes() == other.tobytes()


def test_an_outer_program_is_seen_from_the_first_call_on() -> None:
    seen: list[bool] = []

    def look(x: Any) -> Any:
        seen.append(_trees.is_staged())
        return x

    outer = [jax.jit, lambda f: lambda x: lax.fori_loop(0, 2, lambda _, y: f(y), x), jax.checkpoint, jax.vmap, jax.grad]
    for wrap, expected in zip(outer, [True, True, True, False, False], strict=True):
        for forget in (True, False):
            if forget:
                _trees._state_of_trace.cache_clear()
            seen.clear()
            wrap(lambda x: look(x))(jnp.ones(2 if wrap is jax.vmap else ()))
            assert set(seen) == {expected} and not _trees.is_staged(), (wrap, seen)


def sums_of_products(table: Any, x: Any) -> tuple[Any, list[Any]]:
    """Products, quotients and elementary functions, each taken by a sum; and they themselves."""
    terms = [
        x * x[::-1],
        jnp.sin(x) / 3,
        jnp.exp(-x) * 0.7,
        jnp.sqrt(x * x + 1),
        x / (1 + x),
        table @ x * x,
        jnp.sum(table * x) * x,
        jnp.zeros_like(x).at[jnp.arange(len(x)) // 2].add(x * x) * x,
    ]
    return functools.reduce(lambda y, term: x - y + term, terms), terms


@on_cpu
@pytest.mark.parametrize("size", [2, 3])  # few enough that the compiler unrolls what it finds
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_bits_wherever_a_part_is(dtype: str, size: int) -> None:
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray(X[:size], dtype)
        of_all = functools.partial(sums_of_products, TABLE[:size, :size].astype(dtype))
        one = lambda x: of_all(x)[0] / 4  # noqa: E731
        expected = functools.reduce(lambda y, _: jax.jit(native.in_parts(one))(y), range(6), x)
        ways: dict[str, Callable[[Any], Any]] = {
            "loop": lambda x: lax.fori_loop(0, 6, lambda _, y: one(y), x),
            "unrolled": lambda x: functools.reduce(lambda y, _: one(y), range(6), x),
            "scan": lambda x: lax.scan(lambda y, _: (one(y), of_all(y)[1]), x, None, length=6),
            "all terms": lambda x: functools.reduce(lambda y, _: (of_all(y[0])[0] / 4, [y[1], of_all(y[0])[1]]), range(6), (x, [])),
            "branch": lambda x: lax.fori_loop(0, 12, lambda k, y: lax.cond(k % 2 == 0, one, lambda y: y, y), x),
        }
        for name, way in ways.items():
            found = jax.tree.leaves(jax.jit(native.in_parts(way))(x))[0]
            np.testing.assert_array_equal(found, expected, err_msg=name)


@on_cpu
def test_the_compiler_obeys_the_mark() -> None:
    def outer(x: Any) -> Any:
        with set_xla_metadata(**native._MARK):
            return jax.jit(jnp.sort)(x)

    with pytest.raises(jax.errors.JaxRuntimeError):  # it could sort in a function of its own alone
        jax.jit(outer).lower(jnp.arange(3.0)).compile()
    text = jax.jit(native.in_parts(halved)).lower(X).compile().as_text() or ""
    assert any(" call(" in line and MARK in line for line in text.splitlines())


@on_cpu
def test_a_small_loop_is_one_part_and_a_sort_is_none() -> None:
    jaxpr = jax.make_jaxpr(jax.jit(halved))(X).jaxpr
    assert [part.is_native for part in parts(jaxpr)] == [True]
    with jax.enable_x64(True):
        for name in ("writes", "long scan", "written in a loop"):  # small pieces of large arrays
            (loop,) = (part for part in parts(jax.make_jaxpr(FUNCTIONS[name])(X).jaxpr) if any(map(has_loop, part.equations)))
            assert loop.is_native
        mixed = jax.make_jaxpr(FUNCTIONS["sorted"])(X).jaxpr
    assert [part.is_native for part in parts(mixed)] == [True, False, True]
    order = [eqn for part in parts(mixed) for eqn in part.equations]
    assert sorted(map(id, order)) == sorted(map(id, mixed.eqns))
    assert all(jaxprs.is_literal(atom) is False for part in parts(mixed) for atom in part.inputs)


@on_cpu
@pytest.mark.parametrize("size", [2**10, 2**20])
def test_a_loop_over_large_arrays_is_left_to_several_threads(size: int) -> None:
    def doubled(x: Any) -> Any:
        return lax.while_loop(lambda carry: carry[0] < 3, lambda carry: (carry[0] + 1, carry[1] * 2 + 1), (0, x))

    compiled = jax.jit(native.in_parts(doubled)).lower(jax.ShapeDtypeStruct((size,), jnp.float32)).compile()
    text, [turns, found] = compiled.as_text() or "", compiled(jnp.arange(size, dtype=jnp.float32))
    assert (" sort(" in text) == (size == 2**20)
    assert not any(MARK in line and f"f32[{2**20}]" in line for line in text.splitlines())
    assert turns == 3
    np.testing.assert_array_equal(found, 8 * np.arange(size, dtype=np.float32) + 7)


@on_cpu
def test_a_compiler_that_can_do_nothing_with_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "_WRITTEN", cutting._WRITTEN | {"sort"})

    def cost(v: Any, shift: Any = 0) -> Any:
        return jnp.sum(jnp.cosh(jnp.sort(v) - shift - jnp.array([1.0, 2.0, 4.0])))

    one = jaxgd.minimize(cost, np.arange(3.0), method=jaxgd.LBFGS())
    many = jaxgd.minimize_many(cost, np.arange(3.0), np.zeros(2), method=jaxgd.LBFGS())
    for found in (one.params, *many.params):
        np.testing.assert_allclose(found, [1, 2, 4], rtol=1e-3)


def rosenbrock(x: Any) -> Any:
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@pytest.mark.parametrize("method", [None, jaxgd.LBFGS(), jaxgd.Adam(0.01)], ids=["trust_region", "lbfgs", "adam"])
def test_the_same_numbers_inside_an_outer_program(method: Any) -> None:
    start = np.tile([-1.2, 1.0], 2)
    with jax.enable_x64(True):
        alone = jaxgd.minimize(rosenbrock, start, method=method, max_steps=50)
        inside = jax.jit(lambda x: jaxgd.minimize(rosenbrock, x, method=method, max_steps=50).params)(start)
        np.testing.assert_allclose(alone.params, inside, rtol=1e-12)
        mapped = jax.vmap(lambda x: jaxgd.minimize(rosenbrock, x, method=method, max_steps=50).params)(np.stack([start, start]))
        np.testing.assert_allclose(mapped[1], alone.params, rtol=1e-9)


@on_cpu
@pytest.mark.parametrize("method", [None, jaxgd.LBFGS(), jaxgd.Adam(0.01)], ids=["trust_region", "lbfgs", "adam"])
def test_rows_of_mapped_runs_have_the_bits_of_runs_alone(method: Any) -> None:
    """Also where maps are nested, and where a map passes some arguments by."""
    starts, scales = np.array([[-1.2, 1.0], [0.5, 2.0], [3.0, 3.0]]), np.array([1.0, 2.0])

    def end(start: Any, scale: Any) -> Any:
        found = jaxgd.minimize(lambda x, s: s * rosenbrock(x), start, scale, method=method, max_steps=50)
        return found.params, found.cost, found.n_evaluations, found.code

    with jax.enable_x64(True):
        alone = [[jax.jit(end)(start, scale) for scale in scales] for start in starts]
        nested = jax.jit(jax.vmap(jax.vmap(end, (None, 0)), (0, None)))(starts, scales)
        turned = jax.vmap(jax.vmap(end, (0, None)), (None, 0))(starts, scales)
    for k, j in np.ndindex(3, 2):
        jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda leaf, k=k, j=j: leaf[k, j], nested), alone[k][j])
        jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda leaf, k=k, j=j: leaf[j, k], turned), alone[k][j])
