"""Compiled programs that are kept on disk: a second process compiles nothing, and computes the same bits."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.extend.core import Primitive

import jaxgd
from jaxgd import LBFGS, TrustRegion, _persistent
from jaxgd._compile import stored
from jaxgd._compile.program import trace
from jaxgd._run.apart import _evaluated, _proceeded
from jaxgd._trees import static
from jaxgd.stopping import StoppingRule

SETTINGS = (
    "jax_enable_compilation_cache",
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)
ROSENBROCK = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
import jaxgd

events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
if len(sys.argv) > 1:
    jaxgd.cache(sys.argv[1])
cost = lambda v: jnp.sum(100 * (v[1:] - v[:-1] ** 2) ** 2 + (1 - v[:-1]) ** 2)
jax.monitoring.register_event_duration_secs_listener(lambda event, _, **about: events.append(about.get("fun_name")))
start = jaxgd.minimize(cost, np.full(10, -1.0), dtype="float64", max_steps=5).params
result = jaxgd.minimize(cost, start, dtype="float64", method=jaxgd.GradientDescent(1e-3), max_steps=50)
hits, misses = (events.count(f"/jax/compilation_cache/cache_{name}") for name in ("hits", "misses"))
traced = events.count("_proceeded")
print(json.dumps([np.asarray(result.params).tobytes().hex(), float(result.cost).hex(), traced, hits, misses]))
"""


@pytest.fixture
def settings() -> Iterator[None]:
    """JAX's settings, put back after the test."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    stored._places.clear()
    _persistent.compilation_cache.reset_cache()


def in_a_fresh_process(*arguments: str, script: str = ROSENBROCK) -> list[Any]:
    root = str(Path(jaxgd.__file__).parent.parent)
    environment = os.environ | {"PYTHONPATH": root, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", script, *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def test_a_second_process_compiles_nothing_and_computes_the_same_bits(tmp_path: Path) -> None:
    *first, traced, first_hits, first_misses = in_a_fresh_process(str(tmp_path))
    files = sorted(path.name for path in tmp_path.iterdir() if not path.name.endswith("-atime"))
    runs = [path for path in tmp_path.iterdir() if path.name.startswith("jaxgd-")]
    *second, traced_again, hits, misses = in_a_fresh_process(str(tmp_path))
    assert (first_hits, misses) == (0, 0) and first_misses == len(files) - len(runs) and hits == first_misses - len(runs) > 0
    assert traced > 0 and traced_again == 0  # the method's step was found by its name
    assert files == sorted(path.name for path in tmp_path.iterdir() if not path.name.endswith("-atime"))
    for path in runs:
        path.write_bytes(path.read_bytes()[:-1000])
    *damaged, traced_anew, hits, misses = in_a_fresh_process(str(tmp_path))
    assert traced_anew > 0 and first == second == damaged == in_a_fresh_process()[:2]
    assert not any(path.exists() for path in runs)
    for _ in range(2):  # what is found in JAX's cache is not written to a file of ours, from which it could not be called
        *found, _, _, misses = in_a_fresh_process(str(tmp_path))
        assert misses == 0 and found == first and not any(path.exists() for path in runs)


def test_it_holds_after_something_was_compiled_and_can_be_moved(tmp_path: Path, settings: None) -> None:
    jax.jit(lambda v: v * 1.25)(1.0)
    for number, name in enumerate(("a", "b", "a")):
        found = jaxgd.cache(tmp_path / name / "inside")
        assert found == tmp_path / name / "inside" and str(found) == jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
        jax.jit(lambda v, by=number: v * 3.25 + by)(1.0)
        assert list(found.iterdir())


def test_the_directory_of_the_system(tmp_path: Path, settings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = jaxgd.cache()
    assert found.parent == tmp_path / "jaxgd" and re.fullmatch(rf".+-jax-{jax.__version__}-[0-9a-f]{{16}}", found.name)
    assert found.stat().st_mode & 0o077 == 0 and jaxgd.cache() == found
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert _persistent._default().parent == tmp_path / ".cache" / "jaxgd"
    for system, folder in (("darwin", "Library/Caches"), ("win32", "AppData/Local")):
        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.delenv("LOCALAPPDATA", raising=False)
        assert _persistent._default() == tmp_path / folder / "jaxgd" / found.name


def test_other_processors_users_and_versions_have_directories_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = [_persistent._default()]
    processors = tmp_path / "cpuinfo"
    monkeypatch.setattr(_persistent, "_PROCESSORS", processors)
    for text in ("flags : fpu avx2\ncpu MHz : 1", "flags : fpu avx2 avx512f\ncpu MHz : 1"):
        processors.write_text(text)
        found.append(_persistent._default())
    processors.write_text("flags : fpu avx2\ncpu MHz : 2")  # which changes all the time
    assert _persistent._default() == found[1]
    processors.unlink()
    found.append(_persistent._default())
    monkeypatch.setattr(_persistent, "_user", lambda: "ada")
    found.append(_persistent._default())
    monkeypatch.setattr(jax, "__version__", "99.0")
    found.append(_persistent._default())
    assert len(set(found)) == len(found) == 6


def test_a_directory_that_is_none_is_an_error_and_changes_nothing(tmp_path: Path, settings: None) -> None:
    before = [getattr(jax.config, name) for name in SETTINGS]
    with pytest.raises(TypeError, match=r"^cache: directory: expected None or a path, got 3\.$"):
        jaxgd.cache(3)
    file = tmp_path / "file"
    file.touch()
    for path in (file, file / "below"):
        with pytest.raises(OSError, match=f"^cache: directory: {re.escape(str(path))} can't be written: "):
            jaxgd.cache(path)
    assert before == [getattr(jax.config, name) for name in SETTINGS]


RUNS = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
import jaxgd

events = []
jax.monitoring.register_event_duration_secs_listener(lambda event, _, **about: events.append(about.get("fun_name")))
jaxgd.cache(sys.argv[1])
rows = np.linspace(0, 1, 50), np.linspace(1, 3, 50)
cost = lambda v, rows: jnp.mean((v[0] + v[1] * rows[0] - rows[1]) ** 2)
options = {"validation": rows, "history": "cost", "key": 0, "method": jaxgd.Adam(0.1), "batch_size": 10, "n_epochs": 3}
results = [jaxgd.fit(cost, np.zeros(2), rows, **options)]
valley = lambda v: jnp.sum(100 * (v[1:] - v[:-1] ** 2) ** 2 + (1 - v[:-1]) ** 2)
results += [jaxgd.minimize(valley, np.zeros(3), method=jaxgd.LBFGS()) for _ in range(4)]
if len(sys.argv) > 2:
    results.append(jaxgd.minimize(valley, np.zeros(3), equality=lambda v: jnp.sum(v) - 1))
    results.append(jaxgd.minimize_many(cost, np.zeros((8, 2)), tuple(np.tile(row, (8, 1)) for row in rows)))
leaves = jax.tree.leaves([(result.params, result.cost, result.gradient, result.history) for result in results])
kinds = {"run_segment", "_proceeded", "_evaluated", "run_queue", "apply"} & set(events)
print(json.dumps([[np.asarray(leaf).tobytes().hex() for leaf in leaves], sorted(kinds)]))
"""


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("more", [[], ["more"]], ids=["fit and minimize", "constraints and many"])
def test_in_a_second_process_only_costs_are_traced(more: list[str], tmp_path: Path) -> None:
    first, kinds = in_a_fresh_process(str(tmp_path), *more, script=RUNS)
    second, left = in_a_fresh_process(str(tmp_path), *more, script=RUNS)
    assert first == second and set(kinds) >= {"run_segment", "_proceeded", "_evaluated"}
    assert left == []


def test_the_code_of_a_cost_is_part_of_a_name(tmp_path: Path, settings: None) -> None:
    def name(function: Any) -> Path | None:
        return stored.path_of(_proceeded, (trace(function, np.zeros(3, np.float32)),))

    jaxgd.cache(tmp_path)
    own = Primitive("add")
    own.def_abstract_eval(lambda x, _: x)
    costs = [lambda x: x + 1, lambda x: x + 1.5, lambda x: x - 1, lambda x: x.sum(), lambda x: x.at[1].set(0.0), lambda x: x @ x]
    names = [name(one) for one in costs]
    assert None not in names and len(set(names)) == len(names) and name(lambda v: v + 1) == names[0]
    assert name(lambda x: own.bind(x, x)) is None  # an operation of a user's
    assert name(lambda x: jax.pure_callback(lambda x: x, x, x)) is None


@jaxgd.pytree
class Patience(StoppingRule):
    """A rule of a user's, with a number that belongs to the structure."""

    count: int = static(default=3)


def test_the_names_of_programs_that_are_found_without_being_traced(
    tmp_path: Path, settings: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def name(*arguments: Any) -> Path | None:
        return stored.path_of(_proceeded, arguments)

    wide = np.zeros(3)
    assert name(LBFGS(), wide) is None
    jaxgd.cache(tmp_path)
    names = [name(*one) for one in ((LBFGS(), wide), (LBFGS(memory=3), wide), (TrustRegion(), wide), (LBFGS(), wide[1:]))]
    names += [name(LBFGS(), wide.astype(np.float32)), name(LBFGS(), {"a": wide}), stored.path_of(_evaluated, (LBFGS(), wide))]
    assert names[0] == name(LBFGS(), wide + 1) and None not in names
    assert name((Patience(),), wide) is None  # a class of a user's is another in another process
    for change in ((stored, "_source", lambda: "another"), (jax, "devices", lambda *_: [1, 2])):
        with monkeypatch.context() as patch:
            patch.setattr(*change)
            names.append(name(LBFGS(), wide))
    assert names.pop() is None
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    names.append(name(LBFGS(), wide))
    with jax.numpy_rank_promotion("warn"):
        names.append(name(LBFGS(), wide))
    assert len(set(names)) == len(names) == 10
    jax.config.update("jax_enable_compilation_cache", False)
    assert name(LBFGS(), wide) is None
