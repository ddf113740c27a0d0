"""What holds of data on eight devices: functions that `tests/test_sharded.py` runs in a process that has them."""

import pickle
import re
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import jaxgd
from jaxgd._compile import program
from jaxgd._objective import all_rows
from jaxgd.data import source

N_ROWS = 240
X = np.random.default_rng(0).normal(size=(N_ROWS, 3)).astype(np.float32)
Y = (X @ np.asarray([1, -2, 0.5], np.float32) + 0.1 * np.sin(np.arange(N_ROWS))).astype(np.float32)
NUMBERS = np.arange(N_ROWS, dtype=np.int32)
START = {"w": np.zeros(3, np.float32), "b": np.zeros((), np.float32)}
_compiled: list[str] = []


def cost(params: Any, rows: Any) -> Any:
    x, y = rows
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2)


def note_compiling(event: str, duration_secs: float, **about: Any) -> None:
    if "backend_compile" in event:
        _compiled.append(about.get("fun_name", ""))


def close(one: Any, other: Any, rtol: float = 2e-5) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6), one, other)


def same(one: Any, other: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, other)


def mesh_of(kind: AxisType, shape: tuple[int, ...] = (8,), names: tuple[str, ...] = ("rows",)) -> Mesh:
    return Mesh(np.array(jax.devices()).reshape(shape), names, axis_types=(kind,) * len(names))


def put(mesh: Mesh, axes: Any = "rows") -> Any:
    return jax.device_put((X, Y), NamedSharding(mesh, PartitionSpec(axes)))


def refused(kind: type[Exception], words: str, function: Any, *arguments: Any, **options: Any) -> None:
    before = len(_compiled)
    try:
        function(*arguments, **options)
    except kind as error:
        assert words in str(error), str(error)
    else:
        raise AssertionError(f"nothing was raised: {words}")
    assert len(_compiled) == before


def uses(**options: Any) -> np.ndarray:
    """How often each row is used in three epochs, counted by the gradient."""

    def counting(counts: Any, rows: Any) -> Any:
        return jnp.sum(counts[rows])

    numbers = jaxgd.data.shard(NUMBERS)
    descent = jaxgd.GradientDescent(1.0)
    result = jaxgd.fit(counting, np.zeros(N_ROWS, np.float32), numbers, n_epochs=3, method=descent, stop=(), **options)
    return -np.asarray(result.params)


def order(data: Any, batch_size: int, **options: Any) -> np.ndarray:
    """The numbers of the rows of two epochs in the order of their use."""

    def noting(params: Any, rows: Any, state: Any) -> Any:
        place, seen = state
        return jnp.sum(params) * 0, (place + batch_size, jax.lax.dynamic_update_slice(seen, rows, (place,)))

    first = np.int32(0), np.full(2 * N_ROWS, -1, np.int32)
    descent = jaxgd.GradientDescent(1.0)
    result = jaxgd.fit(noting, 0.0, data, batch_size=batch_size, n_epochs=2, cost_state=first, method=descent, stop=(), **options)
    return np.asarray(result.cost_state[1]).reshape(2, -1)


def collectives(function: Any, *arguments: Any) -> list[tuple[str, int]]:
    """The collectives in the loop of a compiled program, by name, with the numbers that each sends."""
    text = function.call.lower(*arguments).compile().as_text()
    found = []
    for line in text.splitlines():
        match = re.search(
            r"= (.*?) (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|broadcast-)(-start)?\(", line
        )
        if match:
            shapes = re.findall(r"\w+\[([\d,]*)\]", match[1])
            found.append((match[2], sum(int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes)))
    return found


def loops(call: Any) -> list[list[tuple[str, int]]]:
    """The collectives of the loops that a call compiles."""
    found, original = [], program.Program.prepare

    def prepare(self: Any, *arguments: Any, **options: Any) -> None:
        if getattr(self.function, "__name__", "") == "run_segment":
            found.append(collectives(self, *arguments))
        original(self, *arguments, **options)

    program.Program.prepare = prepare  # type: ignore[method-assign]
    try:
        call()
    finally:
        program.Program.prepare = original  # type: ignore[method-assign]
    return found


def every_row_is_used_once_an_epoch() -> None:
    for options in ({"batch_size": 16}, {"batch_size": 56}, {"batch_size": 240}, {"batch_size": 8, "shuffle": False}):
        same(uses(key=0, **options), np.full(N_ROWS, 3.0, np.float32))
    source._BLOCK_BYTES = 2**6  # so that an epoch has several blocks
    for size in (8, 16, 56):
        same(uses(key=0, batch_size=size), np.full(N_ROWS, 3.0, np.float32))
    drawn = uses(key=0, batch_size=16, shuffle="replacement")
    assert drawn.sum() == 3 * N_ROWS
    assert len(set(drawn)) > 2


def uneven_rows_and_batches_are_refused() -> None:
    data = jaxgd.data.shard((X, Y))
    for size in (12, 1, 239):
        refused(
            ValueError,
            f"batch_size: expected a multiple of 8, since the rows of the data are split over 8 devices and each "
            f"gives an equal share of every batch, got {size}",
            jaxgd.fit,
            cost,
            START,
            data,
            batch_size=size,
            n_epochs=1,
            key=0,
        )
    refused(
        ValueError,
        "data: expected rows that divide evenly over 8 devices, got 100: leave 4 out or pass devices=jax.devices()[:5].",
        jaxgd.data.shard,
        (X[:100], Y[:100]),
    )
    refused(ValueError, "data: expected equally many rows", jaxgd.data.shard, (X, Y[:16]))
    refused(ValueError, "devices: expected at least one device", jaxgd.data.shard, X, [])
    refused(ValueError, "and each once", jaxgd.data.shard, X, jax.devices()[:1] * 2)
    refused(TypeError, "devices: expected None or a list of devices", jaxgd.data.shard, X, 8)
    refused(TypeError, "data: expected arrays, got values that JAX is tracing", jax.jit(jaxgd.data.shard), X)
    two = jax.device_put(X, data[0].sharding), jaxgd.data.shard(Y, jax.devices()[:4])
    refused(
        ValueError,
        "data: expected all arrays to have their rows on the same devices",
        jaxgd.fit,
        cost,
        START,
        two,
        batch_size=8,
        n_epochs=1,
        key=0,
    )


def devices_have_to_be_those_of_the_data() -> None:
    data = jaxgd.data.shard((X, Y))
    fewer = jaxgd.data.shard((X, Y), jax.devices()[:4])
    options: dict[str, Any] = {"batch_size": 24, "n_epochs": 2, "key": 0, "method": jaxgd.Adam(0.1)}
    words = "expected an array on the devices of the data, 4 devices (0, 1, 2, 3), got one on 8 devices (0, 1, 2, 3, 4, 5, 6, 7)"
    refused(ValueError, f"validation[0]: {words}", jaxgd.fit, cost, START, fewer, validation=data, **options)
    start = START | {"w": jax.device_put(START["w"], NamedSharding(mesh_of(AxisType.Auto), PartitionSpec()))}
    refused(ValueError, f"start['w']: {words}", jaxgd.fit, cost, start, fewer, **options)
    refused(ValueError, f"start['w']: {words}", jaxgd.minimize, cost, start, fewer)
    there = jax.device_put(START, jax.devices()[5])  # one device alone is no place to stay at
    same(jaxgd.fit(cost, there, data, **options).params, jaxgd.fit(cost, START, data, **options).params)


def one_program_serves_all_segments() -> None:
    data = jaxgd.data.shard((X, Y))

    def absolute(params: Any, rows: Any) -> Any:
        x, y = rows
        return jnp.mean(jnp.abs(x @ params["w"] - y))

    before = len(_compiled)
    seen: list[int] = []
    for callback in (None, lambda progress: seen.append(progress.step)):
        jaxgd.fit(absolute, START, data, batch_size=24, n_epochs=4, key=0, method=jaxgd.Adam(0.1), callback=callback)
    assert len(seen) == 4
    assert len(_compiled) == before + 2, _compiled[before:]  # the loop, and the evaluation of the end


def full_batches_make_the_numbers_of_one_device() -> None:
    data = jaxgd.data.shard((X, Y))
    for method in (jaxgd.GradientDescent(0.1, 0.5), jaxgd.Adam(0.1)):
        options = {"batch_size": N_ROWS, "n_epochs": 20, "key": 0, "method": method}
        one, many = (jaxgd.fit(cost, START, rows, **options) for rows in ((X, Y), data))
        close(one.params, many.params)
        close((one.cost, one.gradient), (many.cost, many.gradient))
    for method in (None, jaxgd.LBFGS()):
        one, many = (jaxgd.minimize(cost, START, rows, method=method, max_steps=100) for rows in ((X, Y), data))
        assert many.status == one.status
        close(one.params, many.params, rtol=1e-3)
        close(one.cost, many.cost)


def the_cost_reported_is_that_of_all_rows() -> None:
    data = jaxgd.data.shard((X, Y))
    for size in (56, 240):
        result = jaxgd.fit(cost, START, data, batch_size=size, n_epochs=3, key=0, method=jaxgd.Adam(0.1), validation=data)
        close(result.cost, cost(result.params, (X, Y)))
        close(result.best.cost, cost(result.best.params, (X, Y)))


def a_step_has_one_collective_and_moves_no_row() -> None:
    data = jaxgd.data.shard((X, Y))
    n_params = 4

    def network(params: Any, rows: Any) -> Any:
        x, y = rows
        hidden = jnp.tanh(x @ params["first"] + params["b"])
        return jnp.mean((hidden @ params["last"] - y) ** 2)

    layers = {"first": np.full((3, 5), 0.1, np.float32), "b": np.zeros(5, np.float32), "last": np.full(5, 0.1, np.float32)}
    adam, one = jaxgd.Adam(0.1), [("all-reduce", n_params + 1)]
    for options in ({"batch_size": 240}, {"batch_size": 24}, {"batch_size": 24, "shuffle": False}):
        call = {"n_epochs": 2, "key": 0, "method": adam, **options}
        assert loops(lambda: jaxgd.fit(cost, START, data, **call)) == [one]  # noqa: B023
    assert loops(lambda: jaxgd.fit(network, layers, data, **call)) == [[("all-reduce", 26)]]
    uneven = {"batch_size": 56, "n_epochs": 2, "key": 0, "method": adam}
    assert loops(lambda: jaxgd.fit(cost, START, data, **uneven)) == [2 * one]  # the smaller batch has a loop of its own
    parts = {"batch_size": 24, "accumulate": 4, "n_epochs": 2, "key": 0, "method": adam}
    [found] = loops(lambda: jaxgd.fit(cost, START, data, **parts))
    assert {name for name, _ in found} == {"all-reduce"}, found
    assert loops(lambda: jaxgd.minimize(cost, START, data, method=jaxgd.LBFGS())) == [one]
    assert loops(lambda: jaxgd.minimize(cost, START, data)) == [[("all-reduce", n_params**2), *one]]  # with a Hessian


def meshes_of_all_kinds_make_the_same_bits() -> None:
    options: dict[str, Any] = {"batch_size": 24, "n_epochs": 3, "key": 0, "method": jaxgd.Adam(0.1)}
    plain = jaxgd.fit(cost, START, jaxgd.data.shard((X, Y)), **options)
    explicit = mesh_of(AxisType.Explicit)
    found = [jaxgd.fit(cost, START, put(mesh_of(AxisType.Auto)), **options)]
    found.append(jaxgd.fit(cost, START, put(explicit), **options))
    assert found[-1].params["w"].sharding.mesh == explicit
    with jax.set_mesh(explicit):
        start = jax.tree.map(lambda leaf: jnp.asarray(leaf) * 1, START)
        found.append(jaxgd.fit(cost, start, put(explicit), **options))
        assert (found[-1].params["w"] + jnp.zeros(3, "float32")).shape == (3,)  # it lies where the rest of such a program does
        found.append(jaxgd.fit(cost, START, jaxgd.data.shard((X, Y)), **options))
        one, key = jnp.ones((), "float32") * 1, jax.random.key(0)  # everything made here lies on this mesh
        given: dict[str, Any] = options | {"method": jaxgd.Adam(0.1 * one), "key": key}
        half = jaxgd.fit(lambda params, rows: cost(params, rows) * one, start, put(explicit), **{**given, "n_epochs": 2})
        found.append(jaxgd.fit(lambda params, rows: cost(params, rows) * one, start, put(explicit), resume=half, **given))
        assert jaxgd.minimize(cost, start, put(explicit)).converged
        assert jaxgd.covariance(cost, start, put(explicit)).standard_errors["w"].sharding.mesh == explicit
    found.append(jaxgd.fit(cost, START, put(mesh_of(AxisType.Auto, (4, 2), ("a", "b")), ("a", "b")), **options))
    with jax.set_mesh(mesh_of(AxisType.Auto, (4, 2), ("a", "b"))):  # another than that of the data
        found.append(jaxgd.fit(cost, START, jaxgd.data.shard((X, Y)), **options))
        fewer = jaxgd.data.shard((X, Y), jax.devices()[:4])
        jaxgd.fit(cost, START, fewer, validation=fewer, **options)
    renamed = put(mesh_of(AxisType.Auto, (8,), ("batch",)), "batch")
    for x in (X, renamed[0]):  # these go to the others
        found.append(jaxgd.fit(cost, START, (x, put(mesh_of(AxisType.Auto))[1]), **options))
    for result in found:
        same(result.params, plain.params)
        same(result.cost, plain.cost)


def rows_lie_over_one_of_two_axes() -> None:
    mesh = mesh_of(AxisType.Explicit, (4, 2), ("rows", "columns"))
    x = jax.device_put(X[:, :2], NamedSharding(mesh, PartitionSpec("rows", "columns")))
    y = jax.device_put(Y, NamedSharding(mesh, PartitionSpec("rows")))
    start = {"w": np.zeros(2, np.float32), "b": np.zeros((), np.float32)}
    options: dict[str, Any] = {"n_epochs": 5, "key": 0, "method": jaxgd.Adam(0.1)}
    one, many = (jaxgd.fit(cost, start, rows, batch_size=N_ROWS, **options) for rows in ((X[:, :2], Y), (x, y)))
    close(one.params, many.params)
    result = jaxgd.fit(cost, start, (x, y), batch_size=28, **options)
    close(result.cost, cost(result.params, (X[:, :2], Y)))
    numbers = jax.device_put(NUMBERS, NamedSharding(mesh, PartitionSpec("rows")))
    same(np.sort(order(numbers, 24, key=0), axis=1), np.stack([NUMBERS, NUMBERS]))


def each_device_has_an_order_of_its_own() -> None:
    numbers = jaxgd.data.shard(NUMBERS)
    share, per_device = 3, N_ROWS // 8
    kept = order(numbers, 8 * share, shuffle=False)
    places = kept.reshape(2, -1, 8, share)  # epoch, batch, device, place
    expected = NUMBERS.reshape(8, -1, share).transpose(1, 0, 2)
    same(places, np.stack([expected, expected]))
    drawn = order(numbers, 8 * share, key=5).reshape(2, -1, 8, share).transpose(0, 2, 1, 3).reshape(2, 8, per_device)
    same(np.sort(drawn, axis=2), np.stack([NUMBERS.reshape(8, per_device)] * 2))
    within = drawn - np.arange(8)[:, None] * per_device
    assert len({tuple(one) for one in within.reshape(16, per_device)}) == 16
    same(order(numbers, 8 * share, key=5), order(numbers, 8 * share, key=5))
    assert np.any(order(numbers, 8 * share, key=6) != order(numbers, 8 * share, key=5))
    longer = order(numbers, 8 * 5, key=5).reshape(2, -1, 8, 5).transpose(0, 2, 1, 3).reshape(2, 8, per_device)
    same(longer, drawn)  # the order does not depend on the batches


def looking_on_changes_no_bit() -> None:
    data = jaxgd.data.shard((X, Y))
    for size in (56, 240):
        options = {"batch_size": size, "n_epochs": 4, "key": 3, "method": jaxgd.Adam(0.1)}
        plain = jaxgd.fit(cost, START, data, **options)
        looked_on = [
            jaxgd.fit(cost, START, data, **options),
            jaxgd.fit(cost, START, data, history=("params", "gradient_norm"), **options),
            jaxgd.fit(cost, START, data, callback=lambda progress: None, **options),
            jaxgd.fit(cost, START, data, validation=data, **options),
        ]
        for result in looked_on:
            same((result.params, result.cost, result.gradient), (plain.params, plain.cost, plain.gradient))
        history: Any = looked_on[1].history
        assert history.cost.shape == (5,)


def a_run_goes_on_to_the_same_bits() -> None:
    data = jaxgd.data.shard((X, Y))
    for size in (56, 240):
        options = {"batch_size": size, "key": 3, "method": jaxgd.Adam(0.1)}
        whole = jaxgd.fit(cost, START, data, n_epochs=6, **options)
        half = jaxgd.fit(cost, START, data, n_epochs=3, **options)
        rest = jaxgd.fit(cost, START, data, n_epochs=6, resume=half, **options)
        same((rest.params, rest.cost), (whole.params, whole.cost))
        again = jaxgd.fit(cost, START, data, n_epochs=6, resume=pickle.loads(pickle.dumps(half)), **options)
        same((again.params, again.cost), (whole.params, whole.cost))
    fewer = jaxgd.data.shard((X, Y), jax.devices()[:4])
    words = "the number of devices over which rows are split differs from that of the run to go on with: expected 8, got 4"
    try:
        jaxgd.fit(cost, START, fewer, n_epochs=6, resume=half, **options)
    except ValueError as error:
        assert words in str(error), str(error)
    else:
        raise AssertionError
    with tempfile.TemporaryDirectory() as directory:
        batches = {"batch_size": 24, "key": 3, "method": jaxgd.Adam(0.1), "n_epochs": 4}
        whole = jaxgd.fit(cost, START, data, **batches)
        save = jaxgd.Checkpoint(directory, every_steps=7, keep=9)
        saved = jaxgd.fit(cost, START, data, checkpoint=save, **batches)
        same((saved.params, saved.cost), (whole.params, whole.cost))
        folders = sorted(Path(directory).glob("*"), key=lambda folder: folder.name)
        assert any("14" in folder.name for folder in folders), folders
        within = next(folder for folder in folders if "14" in folder.name)  # in the middle of the second epoch
        rest = jaxgd.fit(cost, START, data, resume=within, **batches)
        same((rest.params, rest.cost), (whole.params, whole.cost))


def parameters_may_be_split_too() -> None:
    mesh = mesh_of(AxisType.Auto)
    wide = np.random.default_rng(1).normal(size=(N_ROWS, 16)).astype(np.float32)
    split = NamedSharding(mesh, PartitionSpec("rows"))
    rows = jax.device_put((wide, Y), split)
    start = {"w": np.zeros(16, np.float32), "b": np.zeros((), np.float32)}
    spread = start | {"w": jax.device_put(start["w"], split)}
    options: dict[str, Any] = {"n_epochs": 10, "key": 0, "method": jaxgd.Adam(0.05)}
    one, many = (jaxgd.fit(cost, *given, batch_size=N_ROWS, **options) for given in ((start, (wide, Y)), (spread, rows)))
    close(one.params, many.params, rtol=1e-4)
    assert many.params["w"].sharding == split
    assert jaxgd.fit(cost, spread, rows, batch_size=24, **options).params["w"].sharding == split


def everything_around_a_run_works() -> None:
    data = jaxgd.data.shard((X, Y))
    race = jaxgd.fit(cost, START, data, batch_size=24, n_epochs=20, key=0)
    assert race.cost < 0.02 and race.tried is not None

    def draw(key: Any) -> Any:
        return {"w": jax.random.normal(key, (3,), "float32"), "b": jnp.zeros((), "float32")}

    draws = {"start": draw, "key": 1, "n_starts": 6}
    one, many = (jaxgd.minimize(cost, data=rows, **draws) for rows in ((X, Y), data))
    assert many.converged
    close(one.params, many.params, rtol=1e-3)
    close(one.starts.cost, many.starts.cost, rtol=1e-3)
    options = {"batch_size": 24, "n_epochs": 6, "key": 0, "method": jaxgd.Adam(0.1)}
    for average in (0.5, jaxgd.ExponentialAverage(0.9)):
        jaxgd.fit(cost, START, data, average=average, **options)
    result = jaxgd.fit(cost, START, data, accumulate=3, **options)
    close(result.cost, cost(result.params, (X, Y)))
    bad = X.copy()
    bad[100, 1] = np.nan
    lost = jaxgd.data.shard((bad, Y))
    skipped = jaxgd.fit(cost, START, lost, on_nonfinite="skip", **options)
    assert skipped.n_skipped == 6
    stopped = jaxgd.fit(cost, START, lost, **options)
    assert stopped.status is jaxgd.Status.NONFINITE_DATA
    assert str(stopped.cause).startswith("data[0], row 100, column 1, is NaN"), stopped.cause
    with jax.enable_x64(True):
        wide = jaxgd.data.shard((X.astype(np.float64), Y.astype(np.float64)))
    narrow = jaxgd.fit(cost, START, wide, dtype="float32", **options)
    same(narrow.params, jaxgd.fit(cost, START, data, dtype="float32", **options).params)
    descent: dict[str, Any] = {"batch_size": N_ROWS, "n_epochs": 9, "method": jaxgd.GradientDescent(0.1), "dtype": "float64"}
    one, many = (jaxgd.fit(cost, START, rows, **descent) for rows in ((X, Y), data))
    close(one.params, many.params, rtol=1e-12)


def large_data_are_looked_at_in_parts_on_every_device() -> None:
    data = jaxgd.data.shard((X, Y))
    all_rows._TOGETHER, all_rows._PART = 2**6, 2**4  # type: ignore[misc]
    options = {"batch_size": 8, "n_epochs": 2, "key": 0, "method": jaxgd.Adam(0.1), "validation": data}

    def total(params: Any, rows: Any) -> Any:
        x, y = rows
        return jnp.sum((x @ params["w"] + params["b"] - y) ** 2) + jnp.sum(params["w"] ** 2)

    for objective in (cost, total):
        result = jaxgd.fit(objective, START, data, **options)
        close(result.cost, objective(result.params, (X, Y)))
        close(result.gradient, jax.grad(objective)(result.params, (X, Y)), rtol=1e-4)
        assert result.in_parts is None
    maximum = jaxgd.fit(lambda params, rows: jnp.max((rows[0] @ params["w"] - rows[1]) ** 2), START, data, **options)
    close(maximum.cost, np.max((X @ np.asarray(maximum.params["w"]) - Y) ** 2))


def many_fits_run_where_their_data_lie() -> None:
    rows = np.linspace(1, 3, N_ROWS, dtype=np.float32)[:, None] * X[:20, 0] + 0.1 * Y[:, None]
    at = X[:20, 0]

    def misfit(params: Any, row: Any, at: Any) -> Any:
        return jnp.sum((params["w"] * at + params["b"] - row) ** 2) + params["w"] ** 4

    start = {"w": np.float32(0), "b": np.float32(0)}
    one = jaxgd.minimize_many(misfit, start, rows, shared=at)
    for mesh in (mesh_of(AxisType.Auto), mesh_of(AxisType.Explicit), mesh_of(AxisType.Auto, (4, 2), ("rows", "other"))):
        sharding = NamedSharding(mesh, PartitionSpec("rows"))
        many = jaxgd.minimize_many(misfit, start, jax.device_put(rows, sharding), shared=at)
        same((one.params, one.cost, one.gradient, one.code), (many.params, many.cost, many.gradient, many.code))
        assert many.cost.sharding.is_equivalent_to(sharding, 1), many.cost.sharding
    varied = jaxgd.minimize_many(misfit, {"w": rows[:, 0], "b": rows[:, 1]}, jaxgd.data.shard(rows), shared=at)
    close(varied.params, one.params, rtol=1e-3)
    errors = jaxgd.covariance_many(misfit, many.params, jaxgd.data.shard(rows), shared=at)
    close(errors.matrix, jaxgd.covariance_many(misfit, one.params, rows, shared=at).matrix, rtol=1e-3)


if __name__ == "__main__":
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    warnings.simplefilter("error")
    jax.monitoring.register_event_duration_secs_listener(note_compiling)
    assert len(jax.devices()) == 8
    for check in sys.argv[1:]:
        globals()[check]()
        print(check, flush=True)
