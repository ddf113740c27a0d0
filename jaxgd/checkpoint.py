"""Checkpoints: a run that is saved now and then, and goes on from there when the same call is made again."""

import dataclasses
import functools
import hashlib
import json
import math
import os
import re
import shutil
import signal
import tempfile
import threading
import time
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._checks import check
from jaxgd._run.processes import Processes
from jaxgd._run.saved import Call, Part, Saved, Tuning
from jaxgd.callbacks import Every
from jaxgd.result import Result

_FORMAT = 1  # of what is written
_SECONDS = 60.0
_NAME = re.compile("[0-9]{12}")  # of the folder of a checkpoint: the number of batches


class Checkpoint:
    """Saves of a run in a directory, for the argument `checkpoint` of `minimize` and `fit`.

    The same call again finds the newest whole one and goes on from there, to the bits of a run without a pause. A call that differs
    in anything but the number of its steps or epochs, and in what only looks at a run, is refused. A run that has ended is saved
    as well, so that the same call then returns its result at once; one that a callback has stopped goes on.

    A save is written beside the run, by Orbax, and becomes a checkpoint when it is complete. Each holds digests of all its numbers;
    one that was cut off or damaged is passed over with a warning. A save that fails, as on a full disk, is a warning that names the
    directory; the run goes on, and the next save is tried. SIGTERM and an interrupt from the keyboard save the run before they end
    it, and so does an exception of a callback. A search for a learning rate that is done is not repeated. Each save holds the whole
    history: where that is long and wide, save seldom.

    Where a run pauses within an epoch, the iterates keep their bits; what is measured at the end of that epoch, such as the cost on
    validation data, may differ in its last bit, since XLA may compile small loops otherwise.

    Args:
        directory: where they are; it is made if there is none. One run has it for itself.
        every_epochs: how many epochs from save to save, >= 1. In `minimize` every step is an epoch.
        every_steps: the same in updates. A run of `fit` then pauses within its epochs.
        every_seconds: the same in seconds, > 0; 60 where none of the three is given. Where an epoch takes longer, a run pauses
            within it.
        keep: how many of the newest are kept, >= 1.

    It needs Orbax: pip install "jaxgd[checkpoint]".

    >>> import tempfile, jaxgd
    >>> def cost(x):
    ...     return (x - 3.0) ** 2
    >>> save = jaxgd.Checkpoint(tempfile.mkdtemp(), every_steps=10)
    >>> some = jaxgd.minimize(cost, 0.0, method=jaxgd.Adam(0.1), max_steps=20, checkpoint=save)
    >>> more = jaxgd.minimize(cost, 0.0, method=jaxgd.Adam(0.1), max_steps=50, stop=None, checkpoint=save)  # goes on
    >>> some.n_steps, more.n_steps
    (20, 50)
    """

    def __init__(
        self,
        directory: Any,
        *,
        every_epochs: int | None = None,
        every_steps: int | None = None,
        every_seconds: float | None = None,
        keep: int = 3,
    ) -> None:
        given = {"every_epochs": every_epochs, "every_steps": every_steps, "every_seconds": every_seconds}
        several = [name for name, value in given.items() if value is not None]
        if len(several) > 1:
            raise ValueError(f"Checkpoint: expected one of {', '.join(given)}, got {' and '.join(several)}.")
        self.epochs = None if every_epochs is None else check.integer("Checkpoint: every_epochs", every_epochs, 1)
        self.steps = None if every_steps is None else check.integer("Checkpoint: every_steps", every_steps, 1)
        if every_seconds is not None:
            check.positive("Checkpoint: every_seconds", every_seconds)
        self.seconds = None if self.epochs or self.steps else float(every_seconds or _SECONDS)
        self.keep = check.integer("Checkpoint: keep", keep, 1)
        if not isinstance(directory, str | os.PathLike):
            raise TypeError(f"Checkpoint: directory: expected a path, got {check.show(directory)}.")
        self.directory = Path(directory).expanduser().absolute()
        _orbax()
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.directory):  # of a name that no other process takes
                pass
        except OSError as error:
            raise type(error)(f"Checkpoint: directory: {self.directory} can't be written: {error}.") from error

    def __repr__(self) -> str:
        return f"Checkpoint({str(self.directory)!r})"


@dataclasses.dataclass(frozen=True)
class Resume:
    """A run to go on with, for the argument `resume` of `minimize` and `fit`.

    Args:
        run: the `Result` of a run, or the directory of a `Checkpoint`, or one of the folders in it.
        force: whether to go on although the version of JAX or the hardware has changed, which may change the last bits of the
            numbers.

    >>> import jaxgd
    >>> def cost(x):
    ...     return (x - 3.0) ** 2
    >>> some = jaxgd.minimize(cost, 0.0, method=jaxgd.Adam(0.1), max_steps=10)
    >>> more = jaxgd.minimize(cost, 0.0, method=jaxgd.Adam(0.1), max_steps=20, resume=jaxgd.Resume(some))
    >>> more.params == jaxgd.minimize(cost, 0.0, method=jaxgd.Adam(0.1), max_steps=20).params
    Array(True, dtype=bool)
    """

    run: Any
    force: bool = False

    def __post_init__(self) -> None:
        check.flag("Resume: force", self.force)
        if isinstance(self.run, Checkpoint):
            object.__setattr__(self, "run", self.run.directory)
        if isinstance(self.run, str | os.PathLike):
            if not Path(self.run).expanduser().is_dir():
                raise ValueError(f"resume: expected a directory of checkpoints, got {self.run}: there is no such directory.")
            return
        if not isinstance(self.run, Result):
            raise TypeError(f"resume: expected a Result, or the directory of a checkpoint, got {check.show(self.run)}.")
        if np.ndim(self.run.code) or self.run.state is None or self.run.saved is None or self.run.starts is not None:
            raise ValueError(
                "resume: expected the Result of one call as it was returned, got one that JAX has rebuilt or of many starts."
            )

    @property
    def is_path(self) -> bool:
        """Whether the run is read from files."""
        return not isinstance(self.run, Result)

    def saved(self, processes: Processes) -> Saved:
        """Return the run with all that is needed to go on."""
        if not isinstance(self.run, Result):
            found = newest(Path(self.run).expanduser().absolute(), processes)
            if found is None:
                raise ValueError(f"resume: expected a directory that holds a whole checkpoint, got {self.run}.")
            return found
        return self.run.saved._replace(fields=self.run.saved.fields | self.run.state._asdict())


def as_resume(resume: Any) -> Resume | None:
    """Check the argument `resume`."""
    return resume if resume is None or isinstance(resume, Resume) else Resume(resume)


def as_checkpoint(checkpoint: Any) -> Checkpoint | None:
    """Check the argument `checkpoint`."""
    if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
        raise TypeError(f"checkpoint: expected None or a jaxgd.Checkpoint, got {check.show(checkpoint)}.")
    return checkpoint


def to_go_on_with(call: Call, resume: Resume | None, checkpoint: Checkpoint | None, processes: Processes) -> Saved | None:
    """Return the run that a call goes on with, if there is one: the newest checkpoint, else what it is told to resume."""
    force = resume is not None and resume.force
    saved = None if checkpoint is None else newest(checkpoint.directory, processes)
    name = "resume" if saved is None or checkpoint is None else f"checkpoint: {checkpoint.directory} holds another run"
    if saved is None and resume is not None:
        saved = resume.saved(processes)
    if saved is not None:  # the first process knows what it has saved: the digests of its own rows
        processes.once(functools.partial(call.check, saved.call, name, force=force))
    return saved


class Saver:
    """The writer of the checkpoints of one run: one save at a time, in a thread of its own.

    Args:
        checkpoint: where and when to save.
        about: what is saved beside the state and the rows.
        place: how many batches a run that goes on has seen; it is saved again once it has seen more.
        processes: those that run together; the first of them writes.
    """

    def __init__(self, checkpoint: Checkpoint, about: Saved, place: int | None, processes: Processes) -> None:
        self.checkpoint, self.about, self.place, self.processes = checkpoint, about, place, processes
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="jaxgd-checkpoint")
        self.pending: Future[None] | None = None
        self.last = time.monotonic()
        self.terminated = False
        self.handler: Any = None

    def __enter__(self) -> "Saver":
        for unfinished in self.checkpoint.directory.glob("*.orbax-checkpoint-tmp*") if self.processes.is_first else ():
            shutil.rmtree(unfinished, ignore_errors=True)
        if threading.current_thread() is threading.main_thread():
            self.handler = signal.signal(signal.SIGTERM, self._terminate)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.wait()
        finally:
            self.thread.shutdown()
            if self.handler is not None:
                signal.signal(signal.SIGTERM, self.handler)
            if self.terminated:
                signal.raise_signal(signal.SIGTERM)

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        self.terminated = True

    @property
    def cadence(self) -> Every | None:
        """When to save, where that does not go by the clock."""
        steps, epochs = self.checkpoint.steps, self.checkpoint.epochs
        return Every(lambda _: None, steps=steps, epochs=epochs) if steps or epochs else None

    @property
    def is_time(self) -> bool:
        """Whether the clock asks for a save, and the one before is done."""
        seconds, busy = self.checkpoint.seconds, self.pending is not None and not self.pending.done()
        return seconds is not None and not busy and time.monotonic() - self.last >= seconds

    def save(self, progress: Any) -> None:
        """Begin to save a run, once the save before is done; `progress` has its place, its fields and its rows."""
        if progress.place == self.place:
            return
        self.wait()
        self.last, self.place = time.monotonic(), progress.place
        saved = self.about._replace(fields=progress.fields, rows=progress.chunks)
        write = functools.partial(_write, self.checkpoint, progress.place, saved, is_first=self.processes.is_first)
        if not self.processes.several:
            self.pending = self.thread.submit(write)
            return
        error = None
        try:
            write()  # what a thread beside would exchange between processes, nobody could keep in order
        except Exception as raised:
            error = raised
        self._conclude(error)

    def wait(self) -> None:
        """Wait for the save under way, and warn if it failed."""
        pending, self.pending = self.pending, None
        if pending is not None:
            self._conclude(pending.exception())

    def _conclude(self, error: BaseException | None) -> None:
        """Warn of a save that failed, in whichever process; it is tried again in all."""
        if self.processes.anyone(error is not None):
            self.place = None
            what = f"{self.checkpoint.directory}: a save failed: {error or 'in another process'}"
            warnings.warn(f"checkpoint: {what}. The run goes on, and the next save is tried.", RuntimeWarning, stacklevel=2)


def _folders(directory: Path) -> list[Path]:
    """Return the folders of the checkpoints in a directory, the newest first."""
    return sorted((one for one in directory.iterdir() if _NAME.fullmatch(one.name)), reverse=True) if directory.is_dir() else []


def newest(path: Path, processes: Processes) -> Saved | None:
    """Return the newest whole checkpoint of a directory, or the one whose folder it is; None where there is none."""
    for folder in processes.once(lambda: [path] if (path / "_CHECKPOINT_METADATA").exists() else _folders(path)):
        saved, reason = None, ""
        try:
            saved = _read(folder)
        except Exception as error:
            reason = ": " + " ".join(str(error).split())[:200]
        if not processes.anyone(saved is None):
            return saved
        warnings.warn(f"checkpoint: {folder} is not whole and is passed over{reason}", RuntimeWarning, stacklevel=2)
    return None


def _write(checkpoint: Checkpoint, place: int, saved: Saved, *, is_first: bool) -> None:
    """Write a checkpoint, and take away those that are too old; of several processes only the first one does."""
    leaves = {
        f"{name}.{k}": _as_numpy(leaf) for name, tree in _trees(saved).items() for k, leaf in enumerate(jax.tree.leaves(tree))
    }
    call = saved.call
    about = {
        "format": _FORMAT,
        "leaves": {name: [str(leaf.dtype), list(leaf.shape), _sha256(_bytes(leaf))] for name, leaf in leaves.items()},
        "tuned": saved.tuning is not None,
        "prints": {name: list(part) for name, part in call.prints.items()},
        "place": call.place,
    }
    text = json.dumps(about)
    packed = np.concatenate([np.zeros(1, np.uint8), *map(_bytes, leaves.values())])  # Orbax refuses an empty array
    folder = checkpoint.directory / f"{place:012d}"
    custom = {"about": text, "sha256": _sha256(text.encode())}
    _orbax().save(folder, {"leaves": packed}, overwrite=True, custom_metadata=custom)
    older = [one for one in _folders(checkpoint.directory) if int(one.name) < place]
    for one in older[checkpoint.keep - 1 :] if is_first else ():
        shutil.rmtree(one, ignore_errors=True)


def _read(folder: Path) -> Saved:
    """Read a checkpoint, and check that it is whole."""
    orbax = _orbax()
    custom: Any = orbax.metadata(folder).custom_metadata
    packed = np.asarray(orbax.load(folder)["leaves"])
    if custom["sha256"] != _sha256(custom["about"].encode()):
        raise ValueError("its description is damaged")
    about = json.loads(custom["about"])
    if about["format"] != _FORMAT:
        raise ValueError(f"it has the format {about['format']}, expected {_FORMAT}")
    place = 1
    fields: dict[str, list[Any]] = {}
    for name, (dtype, shape, digest) in about["leaves"].items():
        size = math.prod(shape) * np.dtype(dtype).itemsize
        raw, place = packed[place : place + size].copy(), place + size
        if raw.size != size or _sha256(raw) != digest:
            raise ValueError(f"its numbers {name} are damaged")
        fields.setdefault(name.partition(".")[0], []).append(raw.view(dtype).reshape(shape))
    call = Call.of_prints({name: Part(*part) for name, part in about["prints"].items()}, about["place"])
    rows, tuning = fields.pop("rows", []), fields.pop("tuning", [])
    return Saved(fields, [rows] if rows else [], Tuning(tuning[:2], tuning[2:]) if about["tuned"] else None, call)


def _trees(saved: Saved) -> dict[str, Any]:
    """Return all that is saved by name; the rows of all segments joined."""
    rows = jax.tree.map(lambda *leaves: np.concatenate(leaves), *saved.rows) if saved.rows else ()
    return saved.fields | {"rows": rows, "tuning": saved.tuning or ()}


def _as_numpy(leaf: Any) -> np.ndarray:
    """Return a leaf as an array of NumPy, a random key as its data."""
    is_key = jnp.issubdtype(getattr(leaf, "dtype", np.float64), jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def _bytes(leaf: Any) -> np.ndarray:
    """Return an array as the bytes that hold it."""
    return np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)


def _sha256(raw: Any) -> str:
    return hashlib.sha256(raw).hexdigest()


def _orbax() -> Any:
    """Return Orbax' functions for checkpoints."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from orbax.checkpoint import v1
    except ImportError as error:
        raise ImportError('checkpoint needs Orbax: pip install "jaxgd[checkpoint]"') from error
    return v1
