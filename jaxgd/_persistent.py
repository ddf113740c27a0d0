"""cache(): compiled programs that are kept on disk, for later processes."""

import getpass
import hashlib
import importlib.metadata
import os
import platform
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from jaxgd._checks import check
from jaxgd._compile import stored

_PROCESSORS = Path("/proc/cpuinfo")  # of Linux
_FEATURES = re.compile(r"^(?:flags|Features|model name|CPU part)\s*:.*$", flags=re.MULTILINE)


def cache(directory: Any = None) -> Path:
    """Keep compiled programs on disk, so that later processes load them instead of compiling.

    The first call of a kind compiles for about a second. After this line, at the top of a script, it does so in the first process
    alone. A program that was loaded computes the same numbers, bit for bit. The program of a run is found by the trace of the cost,
    the method, the shapes, the versions, the settings of JAX and the kind of processor: only the cost is traced in every process.
    Other programs are traced as a whole, as are runs with classes of your own among their arguments.

    This switches on the persistent compilation cache of JAX, a global setting: it holds for everything that the process compiles
    from now on, by `jax.jit` too, however short the compilation. It sets `jax_enable_compilation_cache`,
    `jax_compilation_cache_dir`, `jax_persistent_cache_min_compile_time_secs` and `jax_persistent_cache_min_entry_size_bytes`, which
    `jax.config.update` changes back. Another call chooses another directory.

    Args:
        directory: where the programs are; it is made if there is none. Processes may share it, on machines with the same processor,
            since a program for one processor may fail on another. Loading a program runs it: take no directory that people you do
            not trust can write to. None is a directory for this user, this kind of processor, and these versions of jax, jaxlib and
            jaxgd, in the folder that the system has for caches: $XDG_CACHE_HOME or ~/.cache, on macOS ~/Library/Caches, on Windows
            %LOCALAPPDATA%. Nothing is ever removed from it, unless you set `jax_compilation_cache_max_size`, which leaves the
            programs of runs, about a megabyte each, where they are; it may be deleted at any time.

    Returns:
        The directory, a `pathlib.Path`.

    Raises:
        TypeError: if the directory is no path.
        OSError: if it can't be made, or not be written to.

    >>> import jaxgd
    >>> jaxgd.cache()  # doctest: +SKIP
    PosixPath('/home/ada/.cache/jaxgd/0.1.0-jax-0.10.2-9f2c51d07ab34e68')
    """
    if not (directory is None or isinstance(directory, str | os.PathLike)):
        raise TypeError(f"cache: directory: expected None or a path, got {check.show(directory)}.")
    path = Path(_default() if directory is None else directory).expanduser().absolute()
    try:
        path.mkdir(mode=0o700 if directory is None else 0o777, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path):  # of a name that no other process takes
            pass
    except OSError as error:
        raise type(error)(f"cache: directory: {path} can't be written: {error}.") from error
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    stored.keep_in(path, _processor())
    compilation_cache.reset_cache()  # JAX looks at the directory when it compiles for the first time, and never again
    return path


def _default() -> Path:
    """Return the directory for this user, this kind of processor and these versions."""
    ours = _version()
    versions = (ours, jax.__version__, importlib.metadata.version("jaxlib"), platform.python_version())
    parts = (_user(), platform.system(), platform.machine(), _processor(), *versions)
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return _folder() / "jaxgd" / f"{ours}-jax-{jax.__version__}-{digest}"


def _folder() -> Path:
    """Return the folder that the system has for caches."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    given = os.environ.get("XDG_CACHE_HOME", "")
    return Path(given) if os.path.isabs(given) else Path.home() / ".cache"  # as its specification has it


def _user() -> str:
    """Return the name of the user, or the number where there is no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return str(getattr(os, "getuid", str)())


def _processor() -> str:
    """Return what tells processors apart that run different code: model and features, or the machine where they are not known."""
    try:
        found = _FEATURES.findall(_PROCESSORS.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        found = []
    return "\n".join(sorted(set(found))) or f"{platform.processor()} {platform.node()}"


def _version() -> str:
    try:
        return importlib.metadata.version("jaxgd")
    except importlib.metadata.PackageNotFoundError:
        return "source"
