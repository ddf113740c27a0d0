"""Costs that have not changed are not traced again, and a change in anything that they look at is seen."""

import gc
import time
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd._compile import memory
from jaxgd._compile.large import MOST
from jaxgd._compile.program import trace
from tests.changing import LARGE, Module, Scaled, line, of_large, steps


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A list that gets longer with every trace."""
    found: list[Any] = []

    def counted(*called: Any, **options: Any) -> Any:
        found.append(None)
        return trace(*called, **options)

    monkeypatch.setattr(memory, "trace", counted)
    memory._made.clear()
    return found


def itself(function: Any) -> Callable[..., Any]:
    return lambda *arguments: function(*arguments)


def value(cost: Any) -> float:
    """The cost at 2, as it is traced or found again."""
    return float(memory.traced(itself, cost, jnp.float32(2), name="cost")(jnp.float32(2)))


@pytest.mark.parametrize("name", steps())
def test_a_change_in_what_a_cost_looks_at_is_seen(name: str, count: list[Any]) -> None:
    cost, changes = steps()[name]()
    for change in [lambda: None, *changes]:
        change()
        for _ in range(2):
            assert value(cost) == float(cost(jnp.float32(2)))


UNKNOWN = ["gaps", "masked", "of objects", "thread", "weak", "namespace"]


@pytest.mark.parametrize("name", [name for name in steps() if not any(word in name for word in UNKNOWN)])
def test_what_has_not_changed_is_found_again(name: str, count: list[Any]) -> None:
    cost, _ = steps()[name]()
    for _ in range(2 if "cached" in name else 1):  # tracing fills in what is cached, the first time
        value(cost)
    before = len(count)
    value(cost)
    assert len(count) == before


class Getting:
    """An object that answers by itself."""

    def __init__(self) -> None:
        self.answers = iter([2.0, 3.0, 4.0])

    def __getattr__(self, name: str) -> Any:
        return next(self.answers)


class Descriptor:
    """An attribute of a class that says something else each time."""

    answers: ClassVar[list[float]] = [4.0, 3.0, 2.0]

    def __get__(self, *_: Any) -> float:
        return self.answers.pop()


def ways() -> dict[str, Any]:
    """Costs whose factor is 2, 3 and 4 in three calls."""
    numbers = iter([2.0, 3.0, 4.0])
    switching = Scaled(1.0)
    switching.by = 1.0  # type: ignore[attr-defined]

    def switched(v: Any) -> Any:
        switching.factor += switching.by  # type: ignore[attr-defined]
        return switching.factor * v

    def counted(v: Any, place: Any = [1.0]) -> Any:  # noqa: B006
        place[0] += 1.0
        return place[0] * v

    getting: Any = Getting()
    described: Any = type("Described", (), {"factor": Descriptor()})()
    generated = (number for number in (2.0, 3.0, 4.0))
    return {
        "an iterator": lambda v: next(numbers) * v,
        "a generator": lambda v: next(generated) * v,
        "__getattr__": lambda v: getting.factor * v,
        "a descriptor": lambda v: described.factor * v,
        "a count in an object": switched,
        "a count in a default": counted,
    }


@pytest.mark.parametrize("way", ways())
def test_a_cost_that_is_another_in_every_call_is_traced_in_every_call(way: str, count: list[Any]) -> None:
    cost = ways()[way]
    assert [value(cost) for _ in range(3)] == [4.0, 6.0, 8.0]


def test_a_cost_that_switches_back_and_forth_is_traced_in_every_call(count: list[Any]) -> None:
    model = Scaled(2.0)

    def cost(v: Any) -> Any:
        model.factor = 5.0 - model.factor
        return model.factor * v

    assert [value(cost) for _ in range(4)] == [6.0, 4.0, 6.0, 4.0]


@pytest.mark.parametrize("library", ["time", "np.random", "np.load"])
def test_a_cost_of_chance_or_time_is_traced_in_every_call(library: str, count: list[Any]) -> None:
    costs: dict[str, Any] = {
        "time": lambda v: v * time.perf_counter(),
        "np.random": lambda v: v * np.random.random(),
        "np.load": lambda v: v * 2 if v is not None else np.load("x"),
    }
    for _ in range(2):
        value(costs[library])
    assert len(count) == 2


@pytest.mark.parametrize("name", ["jax_enable_x64", "jax_default_matmul_precision"])
def test_a_setting_of_jax_that_traces_depend_on_counts(name: str, count: list[Any]) -> None:
    value(line)
    before = getattr(jax.config, name)
    try:
        jax.config.update(name, not before if isinstance(before, bool) else "highest")
        value(line)
    finally:
        jax.config.update(name, before)
    value(line)
    assert len(count) == 2


def test_attributes_that_no_code_names_do_not_count(count: list[Any]) -> None:
    model = Scaled(2.0)
    value(model.cost)
    model.result, model.unnamed = object(), open  # type: ignore[attr-defined]
    value(model.cost)
    value(Scaled(2.0).cost)  # another object that is the same
    assert len(count) == 1


def test_python_that_a_program_calls_belongs_to_one_object(count: list[Any]) -> None:
    def cost_of(place: list[float]) -> Any:
        return lambda v: jax.pure_callback(lambda u: np.float32(place[0]) * u, v, v)

    one, other = [2.0], [2.0]
    assert value(cost_of(one)) == value(cost_of(other)) == 4.0
    one[0] = 3.0
    assert value(cost_of(other)) == 4.0 and value(cost_of(one)) == 6.0


@pytest.mark.parametrize("make", [jnp.asarray, np.asarray, lambda array: np.asarray(array, np.float64)])
def test_large_arrays_are_neither_kept_nor_confused(make: Any, count: list[Any]) -> None:
    gone = []
    for factor in (2.0, 3.0, 4.0):
        array = make(np.full(LARGE * 10, factor, np.float32))  # in the memory of the last, perhaps
        cost = of_large(array)
        assert value(cost) == value(cost) == 2 * factor
        gone.append(weakref.ref(array))
        del array, cost
        gc.collect()
    assert len(count) == 3 and all(one() is None for one in gone)
    assert not any(made.nbytes for places in memory._made.values() for made in places.values())


def test_arrays_larger_than_what_is_compared_are_traced_anew(count: list[Any]) -> None:
    array = np.ones(MOST // 8 + 1)
    cost = of_large(array)
    for _ in range(2):
        value(cost)
    assert len(count) == 2


def test_an_array_that_was_deleted_is_an_error_as_ever(count: list[Any]) -> None:
    array = jnp.full(LARGE, 2.0)
    cost = of_large(array)
    value(cost)
    array.delete()
    with pytest.raises(RuntimeError, match="deleted"):
        value(cost)


def test_methods_of_parameters_count(count: list[Any]) -> None:
    def run() -> float:
        module = Module([jnp.float32(3)])
        return float(memory.traced(itself, lambda module: module(2.0), module, name="cost")(module))

    original = Module.__call__
    assert run() == run() == 6.0 and len(count) == 1
    try:
        Module.__call__ = lambda self, v: self.factor[0] + v  # type: ignore[method-assign]
        assert run() == 5.0
    finally:
        Module.__call__ = original  # type: ignore[method-assign]
    assert run() == 6.0


class Held:
    """A leaf that is no parameter, which a cost calls."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, v: Any) -> Any:
        return self.factor * v


class Model:
    """A cost with rows and one without, that are methods, with a large array beside their number."""

    def __init__(self) -> None:
        self.at, self.rows = 1.0, np.zeros(LARGE, np.float32)

    def cost(self, v: Any) -> Any:
        return (v - self.at) ** 2 + jnp.sum(self.rows).astype(v.dtype)

    def of_rows(self, v: Any, rows: Any) -> Any:
        return jnp.mean((v - self.at * rows) ** 2) + jnp.sum(self.rows).astype(v.dtype)


EXACT: dict[str, Any] = {"method": jaxgd.GradientDescent(0.5), "dtype": "float64"}
VERBS: dict[str, Callable[[Model], Any]] = {
    "minimize": lambda model: jaxgd.minimize(model.cost, 0.0, **EXACT).params,
    "minimize, by default": lambda model: jaxgd.minimize(jax.jit(model.cost), 0.0, dtype="float64").params,
    "minimize, a leaf that is called": lambda model: jaxgd.minimize(
        lambda p: p["w"] ** 2 - 2 * p["f"](p["w"]), {"w": 0.0, "f": Held(model.at)}, **EXACT
    ).params["w"],
    "least_squares": lambda model: jaxgd.least_squares(lambda v: v - model.at, 0.0, dtype="float64").params,
    "fit": lambda model: jaxgd.fit(model.of_rows, 0.0, np.ones(4), batch_size=2, n_epochs=2, key=0, **EXACT).params,
    "minimize_many": lambda model: jaxgd.minimize_many(model.of_rows, 0.0, np.ones((2, 4)), **EXACT).params[1],
    "covariance": lambda model: 0.5 / jaxgd.covariance(lambda v: model.of_rows(v, 0) * model.at, 0.0, dtype="float64").matrix[0, 0],
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ("minimize", "fit") else pytest.mark.slow) for name in VERBS]
)
def test_every_verb_sees_what_an_object_holds_and_finds_the_rest_again(name: str, traces: Any) -> None:
    model, verb = Model(), VERBS[name]
    verb(model)
    verb(model)  # a second run is worth a program of its own
    with traces() as again:
        assert verb(model) == pytest.approx(1, abs=1e-12)
    assert not again
    model.at = 2.0
    assert verb(model) == pytest.approx(2, abs=1e-12)
