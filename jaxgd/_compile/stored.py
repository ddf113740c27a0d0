"""Programs of the package's own that are kept on disk, and found there without being traced.

The cache of JAX knows a program by its arithmetic: to be found it has to be traced and lowered, which is half of the time of a
first call. What `advance` does follows from the source of this package, the classes of the method and the rules, and the shapes.
Where all of these are the package's own, they are its name.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import serialize_executable

_PACKAGE = Path(__file__).parent.parent
_ATOMS = bool, int, float, str, bytes, type(None)
_MODULES = "builtins", "collections", "jaxgd"


class _Place(NamedTuple):
    """A directory in which programs are kept, and the kind of processor that they are for."""

    directory: Path
    processor: str


_places: list[_Place] = []  # the last one counts


def keep_in(directory: Path, processor: str) -> None:
    """Keep programs in a directory from now on, for processors of this kind."""
    _places[:] = [_Place(directory, processor)]


def path_of(function: Callable[..., Any], arguments: Any) -> Path | None:
    """Return the file of a function of the package for arguments like these. None where it is not kept, or depends on others."""
    config: Any = jax.config
    if not _places or len(jax.devices()) > 1 or function.__module__.partition(".")[0] != "jaxgd":
        return None
    directory, processor = _places[-1]
    if not config.jax_enable_compilation_cache or config.jax_compilation_cache_dir != str(directory):
        return None  # switched off, or moved, by JAX's own settings
    leaves, structure = jax.tree.flatten(arguments)
    try:
        parts = _structure(structure), [_shape(leaf) for leaf in leaves], _source(), _settings()
    except (_Foreign, OSError):
        return None
    name = f"{function.__module__}.{function.__qualname__}", *parts, processor, jax.devices()[0].device_kind
    return directory / f"jaxgd-{hashlib.sha256(repr(name).encode()).hexdigest()}"


def load(path: Path, arguments: Any, like: Any) -> Any:
    """Return the program in a file, a function of such arguments; None if it can't be loaded.

    It returns what has the structure of `like`.
    """
    try:
        structures = jax.tree.structure((arguments, {})), jax.tree.structure(like)
        return serialize_executable.deserialize_and_load(path.read_bytes(), *structures)
    except Exception:  # whatever half a file, or one of another version, leads to
        return None


def save(path: Path, compiled: Any) -> None:
    """Write a program to a file: all of it, or nothing, also where several processes do so at once."""
    with contextlib.suppress(Exception):  # a full disk, or a program that can't be written
        own = path.with_name(f"{path.name}.{os.getpid()}")
        own.write_bytes(serialize_executable.serialize(compiled)[0])
        os.replace(own, path)


class _Foreign(Exception):
    """Something is not of this package, and may be another thing in another process."""


def _structure(structure: Any) -> Any:
    """Return the structure of a tree as nested tuples, in names."""
    data = structure.node_data()
    return data and (*map(_part, data), *map(_structure, structure.children()))


def _part(value: Any) -> Any:
    """Return the name of a class of nodes, or what belongs to the structure of one."""
    if isinstance(value, tuple | list):
        return tuple(map(_part, value))
    if isinstance(value, type) and value.__module__.partition(".")[0] in _MODULES:
        return f"{value.__module__}.{value.__qualname__}"
    if type(value) in _ATOMS:
        return type(value).__name__, value
    if isinstance(value, np.dtype):
        return value.name
    raise _Foreign


def _shape(leaf: Any) -> tuple[Any, ...]:
    return np.shape(leaf), str(np.asarray(leaf).dtype if np.isscalar(leaf) else leaf.dtype), bool(getattr(leaf, "weak_type", False))


@functools.cache
def _source() -> str:
    """Return a digest of the source of this package."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(_PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _settings() -> Any:
    """Return the versions of what makes a program, and the settings that it may depend on."""
    versions = tuple(importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy"))
    values: dict[str, Any] = jax.config.values  # type: ignore[attr-defined]
    changing = {name: repr(value) for name, value in values.items() if "cache" not in name}
    return versions, sorted(changing.items()), os.environ.get("XLA_FLAGS"), os.environ.get("LIBTPU_INIT_ARGS")
