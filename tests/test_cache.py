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
import pytest

import jaxgd
from jaxgd import _persistent

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
start = jaxgd.minimize(cost, np.full(10, -1.0), dtype="float64", max_steps=5).params
result = jaxgd.minimize(cost, start, dtype="float64", method=jaxgd.GradientDescent(1e-3), max_steps=50)
hits, misses = (events.count(f"/jax/compilation_cache/cache_{name}") for name in ("hits", "misses"))
print(json.dumps([np.asarray(result.params).tobytes().hex(), float(result.cost).hex(), hits, misses]))
"""


@pytest.fixture
def settings() -> Iterator[None]:
    """JAX's settings, put back after the test."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    _persistent.compilation_cache.reset_cache()


def in_a_fresh_process(*arguments: str) -> list[Any]:
    root = str(Path(jaxgd.__file__).parent.parent)
    environment = os.environ | {"PYTHONPATH": root, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", ROSENBROCK, *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def test_a_second_process_compiles_nothing_and_computes_the_same_bits(tmp_path: Path) -> None:
    *first, first_hits, first_misses = in_a_fresh_process(str(tmp_path))
    files = sorted(path.name for path in tmp_path.iterdir() if path.name.endswith("-cache"))
    *second, hits, misses = in_a_fresh_process(str(tmp_path))
    assert (first_hits, misses) == (0, 0) and hits == first_misses == len(files) > 0
    assert files == sorted(path.name for path in tmp_path.iterdir() if path.name.endswith("-cache"))
    assert first == second == in_a_fresh_process()[:2]


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
