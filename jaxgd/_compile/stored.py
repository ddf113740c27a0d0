"""Programs that are kept on disk, and found there without being traced.

The cache of JAX knows a program by its arithmetic: to be found it has to be traced and lowered, which is half of the time of a
first call. What a run does follows from the source of this package, the classes of the method and the rules, the shapes, and what
the trace of the cost has shown. Where no more than that is part of it, these are its name.
"""

import contextlib
import enum
import functools
import hashlib
import importlib.metadata
import os
import secrets
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.experimental import serialize_executable

from jaxgd._compile import jaxprs

_PACKAGE = Path(__file__).parent.parent
_CODE = "jaxgd._compile.program"  # where the code of a traced function is defined
_ATOMS = bool, int, float, complex, str, bytes, type(None)
_WITH_RULES = "CustomJVPCallPrimitive", "CustomVJPCallPrimitive"  # primitives with classes of their own
_SHOWN = "AbstractMesh", "JaxprEqnContext", "Mesh", "NamedSharding", "ShapedArray", "UnspecifiedValue"  # known by what they print
_ASKED, _FOUND = "/jax/compilation_cache/compile_requests_use_cache", "/jax/compilation_cache/cache_hits"  # JAX's names of events
_MODULES = "builtins", "collections", "numpy", "jax", "jaxlib", "jaxgd"


class _Place(NamedTuple):
    """A directory in which programs are kept, and the kind of processor that they are for."""

    directory: Path
    processor: str


_places: list[_Place] = []  # at most one


def keep_in(directory: Path, processor: str) -> None:
    """Keep programs in a directory from now on, for processors of this kind."""
    _listen()
    _places[:] = [_Place(directory, processor)]


@functools.cache
def _listen() -> None:
    """Begin to note, once a process, what JAX tells of its own cache."""
    jax.monitoring.register_event_listener(lambda event, **_: getattr(_told, "events", set()).add(event))


_told = threading.local()  # the events while this thread compiles


def path_of(function: Callable[..., Any], arguments: Any, *options: bool) -> Path | None:
    """Return the file of a function of the package for arguments like these, compiled with some options.

    None where it is not kept, or depends on something that may be another thing in another process.
    """
    config: Any = jax.config
    if not _places or len(jax.devices()) > 1 or function.__module__.partition(".")[0] != "jaxgd":
        return None
    directory, processor = _places[0]
    if not config.jax_enable_compilation_cache or config.jax_compilation_cache_dir != str(directory):
        return None  # switched off, or moved, by JAX's own settings
    leaves, structure = jax.tree.flatten(arguments)
    try:
        parts = _exact(structure), [_shape(leaf) for leaf in leaves], options, _source(), _settings()
    except (_Foreign, OSError):
        return None
    name = f"{function.__module__}.{function.__qualname__}", *parts, processor, jax.devices()[0].device_kind
    return directory / f"jaxgd-{hashlib.sha256(repr(name).encode()).hexdigest()}"


def load(path: Path | None, arguments: Any, like: Any) -> Any:
    """Return the program in a file, a function of such arguments; None if there is none.

    It returns what has the structure of `like`. A file that can't be loaded is removed; it is written again when the program is
    compiled, and not found in JAX's cache.
    """
    if path is None or not path.exists():
        return None
    structures = jax.tree.structure((arguments, {})), jax.tree.structure(like)
    with contextlib.suppress(Exception):  # whatever half a file leads to
        digest, _, content = path.read_bytes().partition(b"\n")
        if digest == _digest(structures, content):
            return serialize_executable.deserialize_and_load(content, *structures)
    with contextlib.suppress(OSError):
        path.unlink()
    return None


def compiled(path: Path | None, lowered: Any) -> Any:
    """Return what JAX compiles, and begin to write it to its file: nobody waits for that but the end of the process.

    What JAX found in its own cache is not written: on CPUs it would be without its functions, and fail where it is called.
    """
    _told.events = set()
    found = lowered.compile()
    if path is not None and _ASKED in _told.events and _FOUND not in _told.events:
        threading.Thread(target=_write, args=(path, found)).start()
    return found


def _write(path: Path, compiled: Any) -> None:
    """Write all of a program, or nothing, also where several processes do so at once."""
    with contextlib.suppress(Exception):  # a full disk, or a program that can't be written
        own = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        content, *structures = serialize_executable.serialize(compiled)
        own.write_bytes(_digest(structures, content) + b"\n" + content)
        os.replace(own, path)


def _digest(structures: Any, content: bytes) -> bytes:
    """Return a digest of a program and of the structures of its arguments and outputs."""
    return hashlib.sha256("\n".join(map(str, structures)).encode() + content).hexdigest().encode()


class _Foreign(Exception):
    """Something may be another thing in another process."""


def _exact(value: Any) -> Any:
    """Return the name of a part of the structure of a program: equal names, equal parts."""
    if isinstance(value, tuple | list):
        return type(value).__name__, *map(_exact, value)
    if type(value) in _ATOMS:
        return type(value).__name__, repr(value)
    if isinstance(value, jaxprs.Identity):
        return _exact(value.value)
    if isinstance(value, jax.tree_util.PyTreeDef):
        return _exact(value.node_data()), *map(_exact, value.children())
    if isinstance(value, type | types.FunctionType):
        return _defined(value)
    if isinstance(value, np.dtype):
        return value.name
    kind = type(value)
    if kind.__module__ == _CODE:
        return _exact(value.key)
    if kind.__module__.partition(".")[0] not in ("jax", "jaxlib"):
        raise _Foreign
    if isinstance(value, jaxprs.core().Primitive):
        known = kind.__name__ in _WITH_RULES or value in _of_gradients() or value in _primitives("jax.lax")
        if not known and value not in _primitives("jax.extend.core.primitives"):  # whose import takes its time
            raise _Foreign
        return value.name
    if not isinstance(value, enum.Enum) and kind.__name__ not in _SHOWN:
        raise _Foreign
    return _defined(kind), repr(value)


def _defined(value: Any) -> str:
    """Return the name of a class, or of a function of a module. Both are this package's, or a library's that it is built on."""
    name = f"{value.__module__}.{value.__qualname__}"
    if value.__module__.partition(".")[0] not in _MODULES or "<" in name:
        raise _Foreign
    return name


@functools.cache
def _of_gradients() -> frozenset[Any]:
    """Return the primitives of a small gradient, of which `jax.lax` does not show all. Most costs have them, too."""
    closed = jax.make_jaxpr(jax.grad(lambda x: jax.jit(lax.sin)(x) * x))(np.float32(0))
    return frozenset(eqn.primitive for eqn in closed.jaxpr.eqns)


@functools.cache
def _primitives(module: str) -> frozenset[Any]:
    """Return the primitives in a module of JAX."""
    values = vars(importlib.import_module(module)).values()
    return frozenset(value for value in values if isinstance(value, jaxprs.core().Primitive))


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
