"""What the table of examples/comparison.md says of jaxgd, row by row: what it has works, what it has not is not there."""

import inspect
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
import sklearn.linear_model

import jaxgd
from tests.problems import X, Y, line, rosenbrock, square

ROOT = Path(__file__).parent.parent
SECTION = (ROOT / "examples" / "comparison.md").read_text(encoding="utf-8").split("## Features\n")[1].split("\n## ")[0]
ROWS = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in re.findall(r"^\|.*$", SECTION, flags=re.MULTILINE)[2:]]
CLAIMS = {row[0].strip(): row[1:] for row in ROWS if not row[0].startswith("**")}
START = np.array([0.5, 0.5])
DESCENT = jaxgd.GradientDescent(0.1)
PLAN: dict[str, Any] = {"batch_size": 3, "n_epochs": 30, "key": 0}
CHECKS: dict[str, Callable[[], Any]] = {}


def row(name: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Register what checks a row of the table."""

    def registered(check: Callable[[], Any]) -> Callable[[], Any]:
        CHECKS[name] = check
        return check

    return registered


@pytest.fixture(autouse=True)
def standard_promotion() -> Iterator[None]:
    """Peers' code, and users' costs, run under JAX's own rules."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def parameters(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters)


def fit(**options: Any) -> Any:
    chosen: dict[str, Any] = PLAN | {"method": jaxgd.GradientDescent(0.0004)} | options
    return jaxgd.fit(line, START, (X, Y), **chosen)


@row("A cost of your own, and nothing else")
def _() -> Any:
    return jaxgd.minimize(square, 3.0).converged


@row("The gradient by automatic differentiation")
def _() -> Any:
    assert not {"jac", "grad", "gradient", "hess"} & parameters(jaxgd.minimize)
    return jaxgd.minimize(square, 3.0, max_steps=1, method=DESCENT).gradient != 0


@row("Any pytree of parameters")
def _() -> Any:
    start = {"a": 0.0, "b": (np.ones(2),)}
    result = jaxgd.minimize(lambda p: (p["a"] - 1) ** 2 + jnp.sum(p["b"][0] ** 2), start, method=DESCENT)
    return result.converged and set(result.params) == {"a", "b"}


@row("Minibatches, in a new order every epoch")
def _() -> Any:
    assert "batch_size" not in parameters(sklearn.linear_model.SGDRegressor)
    first, second = (fit(n_epochs=1, key=key).params for key in (0, 1))
    return np.any(first != second)


@row("The whole run in one compiled program")
def _() -> Any:
    text = jax.jit(lambda start: jaxgd.minimize(square, start).params).lower(1.0).as_text()
    return "stablehlo.while" in text and "callback" not in text


@row("No learning rate to choose, in minibatches")
def _() -> Any:
    return fit(method=None, n_epochs=500).cost < 17  # the least is 16.88


@row("First-order methods: momentum, Adam and others")
def _() -> Any:
    methods = [jaxgd.GradientDescent(0.0004, momentum=0.5), jaxgd.Adam(0.1), optax.lion(0.01)]
    return all(fit(method=method).cost < line(START, (X, Y)) for method in methods)


@row("L-BFGS")
def _() -> Any:
    return jaxgd.minimize(rosenbrock, np.zeros(2), method=jaxgd.LBFGS()).converged


@row("A trust region with the exact Hessian")
def _() -> Any:
    with pytest.raises(ValueError, match="Jacobian is required"):
        scipy.optimize.minimize(rosenbrock, np.zeros(2), method="trust-exact")
    return jaxgd.minimize(rosenbrock, np.zeros(2), method=jaxgd.TrustRegion()).converged


@row("Bounds")
def _() -> Any:
    assert "bounds" in parameters(scipy.optimize.minimize)
    return jaxgd.minimize(square, 3.0, bounds=(1, None), method=DESCENT, max_steps=20).params == 1


@row("Proximal operators: sparse parameters")
def _() -> Any:
    assert callable(optax.projections.projection_simplex)
    result = jaxgd.minimize(lambda x: jnp.sum((x - jnp.array([3.0, 0.5])) ** 2) / 2, [1.0, 1.0], penalty=jaxgd.L1(1.0))
    return result.params.tolist() == [2.0, 0.0]


@row("Equations and inequalities as constraints")
def _() -> Any:
    assert "constraints" in parameters(scipy.optimize.minimize)
    result = jaxgd.minimize(lambda v: v @ v, START, equality=lambda v: v[0] - 1, inequality=lambda v: v[1] - 2, dtype="float64")
    return bool(np.all(result.params == [1, 2]))


@row("Fixed parameters")
def _() -> Any:
    return jaxgd.minimize(line, START, (X, Y), fixed=np.array([True, False]), method=DESCENT, max_steps=1).params[0] == 0.5


@row("Many random starts in one program")
def _() -> Any:
    return jaxgd.minimize(square, jaxgd.normal(), key=0, n_starts=3, method=DESCENT).starts.cost.shape == (3,)


@row("Whole runs under `jax.vmap`")
def _() -> Any:
    ends = jax.vmap(lambda start: jaxgd.minimize(square, start, method=DESCENT).params)(jnp.arange(3.0))
    return np.allclose(ends, 0, atol=1e-6)


@row("Uncertainties of the parameters")
def _() -> Any:
    found = jaxgd.covariance(None, [5 + 19 / 30, 0.54], (X, Y), residuals=lambda b, data: b[0] + b[1] * data[0] - data[1])
    _, theirs = scipy.optimize.curve_fit(lambda x, a, b: a + b * x, X, Y)
    return np.allclose(found.matrix, theirs, rtol=1e-4)  # 32 bits


@row("Errors by the profile of the likelihood: MINOS")
def _() -> Any:
    found = jaxgd.intervals(lambda v: v - 9 * jnp.log(v), 9.0)
    return found.valid and abs(found.upper - 12.342) < 1e-2


@row("A status that says why the run ended")
def _() -> Any:
    return jaxgd.minimize(square, 3.0, max_steps=1, method=DESCENT).status is jaxgd.Status.MAX_STEPS


@row("NaN ends a run at its last finite, or best, point")
def _() -> Any:
    walled = jaxgd.minimize(lambda v: v + jnp.sqrt(v) * 0, 1.05, method=DESCENT, max_steps=50)
    return walled.status is jaxgd.Status.DIVERGED and np.isfinite(walled.cost) and walled.best.cost < 0.1


@row("A history of the run")
def _() -> Any:
    return fit(history="cost").history.cost.shape == (31,)


@row("Callbacks")
def _() -> Any:
    return fit(callback=lambda progress: progress.epoch == 4).n_epochs == 4


@row("Early stopping on held-out data")
def _() -> Any:
    assert "validation_fraction" in parameters(sklearn.linear_model.SGDRegressor)
    stop = jaxgd.stopping.Patience(2, minimum_change=1.0)
    return fit(validation=(X, Y), stop=stop, n_epochs=500).status is jaxgd.Status.PATIENCE


@row("Checkpoints, and runs that go on from them")
def _() -> Any:
    some = fit(n_epochs=10)
    assert "checkpoint" in parameters(jaxgd.minimize) & parameters(jaxgd.fit)
    return bool(np.array_equal(fit(resume=some).params, fit().params))


@row("Data in streams, larger than the memory")
def _() -> Any:
    assert hasattr(sklearn.linear_model.SGDRegressor, "partial_fit")
    with pytest.raises(TypeError, match=r"got <generator.*: pass jaxgd.data.Stream"):
        jaxgd.fit(line, START, ((X, Y) for _ in range(3)), **PLAN)
    stream = jaxgd.data.Stream(lambda: iter([(X[:3], Y[:3]), (X[3:], Y[3:])]))
    runs = [jaxgd.fit(line, START, data, **PLAN | {"key": None, "method": DESCENT}, shuffle=False) for data in (stream, (X, Y))]
    return np.array_equal(*(run.params for run in runs))


@row("Least squares by residuals: Levenberg-Marquardt")
def _() -> Any:
    assert callable(scipy.optimize.least_squares)
    return jaxgd.least_squares(lambda v: v - X, 0.0, method=jaxgd.LevenbergMarquardt()).converged


@row("Derivatives of the minimum, by the implicit function")
def _() -> Any:
    def end(slope: Any) -> Any:
        return jaxgd.minimize(lambda v: (v - slope) ** 2, 0.0, method=DESCENT).params

    return np.isclose(jax.jacfwd(end)(1.0), 1) and np.isclose(jax.grad(end)(1.0), 1)


@row("64 bits without a global switch")
def _() -> Any:
    theirs = sklearn.linear_model.SGDRegressor().partial_fit(X[:, None] / 55, Y).predict(X[:, None])
    assert theirs.dtype == scipy.optimize.minimize(lambda v: v @ v, np.ones(2)).x.dtype == np.float64
    return fit(dtype="float64").params.dtype == np.float64


@row("Runs on a GPU")
def _() -> Any:
    def both(start: jax.Array) -> Any:
        first = jaxgd.minimize(line, start, (X, Y)).params
        return jaxgd.fit(line, first, (X, Y), **PLAN, method=jaxgd.Adam(0.1)).params

    platforms = ("cuda", "rocm", "tpu")
    return jax.export.export(jax.jit(both), platforms=platforms)(jnp.asarray(START)).platforms == platforms


@row("Maintained")
def _() -> Any:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return not any("Inactive" in classifier for classifier in project["classifiers"])


@row("Roots and fixed points")
def _() -> Any:
    assert callable(scipy.optimize.root)
    return any(re.search("root|fixed_point", name) for name in jaxgd.__all__)


@row("Methods without derivatives")
def _() -> Any:
    def opaque(v: Any) -> Any:
        return jax.pure_callback(lambda v: np.square(v), jax.ShapeDtypeStruct((), jnp.result_type(float)), v)

    with pytest.raises(TypeError, match="a callback to Python has no derivative"):
        jaxgd.minimize(opaque, 1.0)
    return False


@row("Models and losses, ready made")
def _() -> Any:
    return any(re.search("loss|layer|model|[Rr]egress", name) for name in jaxgd.__all__)


@pytest.mark.sweep(keep=6)
@pytest.mark.parametrize("name", CHECKS, ids=lambda name: re.sub(r"\W+", "_", name.lower()))
def test_what_is_said_of_jaxgd(name: str) -> None:
    expected = {"yes": True, "no": False, "partly": "partly"}[CLAIMS[name][0].split(" ")[0]]
    assert CHECKS[name]() == expected


def test_every_row_is_checked() -> None:
    assert list(CLAIMS) == list(CHECKS)


def test_what_is_said_of_others_is_linked() -> None:
    targets = dict(re.findall(r"^\[([a-z-]+)\]: (https://\S+)$", SECTION, flags=re.MULTILINE))
    notes = len(re.findall(r"^\d+\. ", SECTION, flags=re.MULTILINE))
    for name, (_, *others) in CLAIMS.items():
        assert len(others) == 7, name
        for cell in others:
            parts = re.fullmatch(r"\[?(yes|no|partly|n/a)(?: (\d+))?\]?(?:\[([a-z-]+)\])?", cell)
            assert parts, (name, cell)
            word, number, target = parts.groups()
            assert target is None or target in targets, (name, cell)
            assert target or word != "partly", (name, cell)
            assert (number is not None) == (word == "partly"), (name, cell)
            assert number is None or 1 <= int(number) <= notes, (name, cell)
