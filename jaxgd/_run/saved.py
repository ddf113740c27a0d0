"""A run that was saved: its state, what it recorded, and the identity of the call, by which the call that goes on is known."""

import functools
import platform
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxlib.version
import numpy as np

from jaxgd._compile import fingerprint
from jaxgd._run.state import Mean, RunSpec, RunState, start_epoch
from jaxgd._trees import integer, is_traced
from jaxgd.methods.automatic import is_sought
from jaxgd.result import RUNNING, Status, above

_ENDS_OF_CALLS = (Status.MAX_STEPS, Status.MAX_EPOCHS, Status.WORSE, Status.CALLBACK, Status.INTERRUPTED)
_ANOTHER = "To begin another run where that one ended, pass its params as the start, without resume"


class Part(NamedTuple):
    """A part of a call as it is compared: digests, the second of the values of large arrays where they are known, and a text."""

    digest: str
    values: str | None
    text: str


class Call:
    """The identity of a call: what has to be the same in a call that goes on with its run.

    Args:
        parts: the parts by the names of the arguments: pytrees, each with what is shown of it.
        with_values: whether large arrays are read and compared by their values, and not by their shapes alone.
    """

    def __init__(self, parts: dict[str, tuple[Any, Any]], *, with_values: bool = False) -> None:
        self._parts = parts if with_values else fingerprint.kept(parts)

    @property
    def is_traced(self) -> bool:
        """Whether an outer program traces the call."""
        return is_traced([tree for tree, _ in self._parts.values()])

    @functools.cached_property
    def prints(self) -> dict[str, Part]:
        """The parts as they are compared."""
        of, of_large, show = fingerprint.digest, fingerprint.digest_of_large, fingerprint.shown
        return {name: Part(of(tree), of_large(tree), show(shown)) for name, (tree, shown) in self._parts.items()}

    @functools.cached_property
    def place(self) -> dict[str, str]:
        """The versions and the hardware that the bits of a run depend on."""
        device = jax.devices()[0]
        kind = _processor() if device.platform == "cpu" else device.device_kind
        return {"version of JAX": jax.__version__, "version of jaxlib": jaxlib.version.__version__, "hardware": kind}

    @staticmethod
    def of_prints(prints: dict[str, Part], place: dict[str, str]) -> "Call":
        """Return the identity of a call that was made before."""
        call = Call({})
        call.__dict__.update(prints=prints, place=place)
        return call

    def __getstate__(self) -> dict[str, Any]:
        return {"prints": self.prints, "place": self.place}

    def check(self, before: "Call", name: str, *, force: bool) -> None:
        """Check that this call may go on with the run of another one; `force` lets versions and hardware differ.

        `name` begins the errors.
        """
        moved = [name for name, value in self.place.items() if before.place.get(name) != value]
        if moved and not force:
            changes = ", ".join(f"{name}: {before.place.get(name)} then, {self.place[name]} now" for name in moved)
            raise ValueError(
                f"{name}: the same bits are not to be had after a change of versions or hardware ({changes}). "
                "To go on all the same, pass resume=jaxgd.Resume(..., force=True)."
            )
        traced = ("cost", "method") if any("version" in name for name in moved) else ()  # other versions trace them otherwise
        for part in [part for part in self.prints if part != "average_from"]:
            now, then = self.prints[part], before.prints.get(part)
            if part in traced and then is not None and now.text == then.text:
                continue
            if then is None or now.digest != then.digest or (now.values != then.values and now.values and then.values):
                cure = _ANOTHER if name == "resume" else "Another run needs a directory of its own"
                raise ValueError(f"{name}: {part} differs from that of the run to go on with{_difference(now, then)}. {cure}.")


def _difference(now: Part, then: Part | None) -> str:
    if then is None or now.text == then.text:
        return ""
    return f": expected {then.text}, got {now.text}"


@functools.cache
def _processor() -> str:
    """Return the name of the processor: XLA compiles for what it offers."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "CPU part"))]
    return f"{platform.machine()} {names[0] if names else platform.processor()}".strip()


class Tuning(NamedTuple):
    """The findings of a search for a learning rate: the best candidate, and what was tried."""

    best: Any
    tried: Any


class Saved(NamedTuple):
    """A run that was saved.

    Attributes:
        fields: the fields of its state by name: pytrees, or lists of their leaves; and beside these the place of a stream, "feed".
        rows: the rows of its history, a pytree of arrays for each segment.
        tuning: the findings of the search before it; None where there was none.
        call: the identity of the call; None where JAX has rebuilt the result.
    """

    fields: dict[str, Any]
    rows: list[Any]
    tuning: Tuning | None
    call: Call

    @staticmethod
    def of(
        state: RunState, rows: list[Any], tuning: Tuning | None, call: Call, fields: dict[str, Any] | None = None
    ) -> "Saved | None":
        """Return what is saved beside the state of a result; None inside an outer program."""
        return None if is_traced(state.code) else Saved(fields or {}, rows, tuning, call)


def parts_of(spec: RunSpec, cost: Any, method: Any, **others: Any) -> dict[str, tuple[Any, Any]]:
    """Return the parts of the call of a run: what is compared, and what is shown of it.

    `cost` is the traced cost, or the function where it runs as Python, and `method` what the user gave: that is compared where a
    search completes it, since a schedule then lasts as long as the call, and else the method as it runs.
    """
    source, key = spec.source, others.pop("key")
    data = source.data if (identity := others.pop("data", None)) is None else identity
    random = key, getattr(source, "seed", None), spec.extras and spec.extras.key
    parts = {"the function called": (spec.returns_current, "minimize" if spec.returns_current else "fit"), "key": (random, key)}
    parts |= {name: (value, value) for name, value in others.items()}
    parts |= {
        "start": (spec.start, spec.start),
        "the number of devices over which rows are split": (source.layout.n_shards, source.layout.n_shards),
        "data": (data, data),
        "validation": (spec.validation, spec.validation),
        "method": (method if is_sought(method) else spec.method, method),
        "stop": (spec.rules, spec.rules),
        "bounds": (spec.bounds, spec.bounds),
        "history": (spec.names, spec.names),
        "average_from": (spec.average_from, spec.average_from),
    }
    return parts | {"cost": (cost, "")}


def check_length(spec: RunSpec, saved: Saved) -> None:
    """Check that a call is no shorter than the run that it is to go on with."""
    [done] = map(integer, jax.tree.leaves(saved.fields["epoch"]))
    done += bool(jax.tree.leaves(saved.fields.get("under_way")))
    name, less = ("max_steps", 1) if spec.returns_current else ("n_epochs", 0)
    if done > int(spec.n_epochs):
        asked = int(spec.n_epochs) - less
        raise ValueError(f"{name}: expected at least the {done - less} that the run to go on with has begun, got {asked}.")


def reopened(spec: RunSpec, blank: RunState, saved: Saved) -> RunState:
    """Return the state of a saved run as the call of this spec goes on with it.

    A run that had come to the end of its call, or was broken off, runs again where there are epochs left for it.
    """
    fields = {name: jax.tree.leaves(saved.fields.get(name)) for name in blank._fields}
    if fields["under_way"]:
        blank = blank._replace(under_way=jax.eval_shape(start_epoch, spec, blank).under_way)
    likes, structure = jax.tree.flatten(blank)
    leaves = [leaf for leaves in fields.values() for leaf in leaves]
    state = structure.unflatten([_as_key(leaf, like) for leaf, like in zip(leaves, likes, strict=True)])
    done, code = integer(state.epoch), integer(state.code)
    if done < int(spec.n_epochs) and code in [status.code for status in _ENDS_OF_CALLS]:
        state = state._replace(code=np.int32(RUNNING))
    elif done == int(spec.n_epochs) and code == RUNNING:  # saved there by a call that asked for more
        state = state._replace(code=np.int32(_spent(spec, state).code))
    same_average = spec.average_from is None or saved.call.prints["average_from"].digest == fingerprint.digest(spec.average_from)
    return state if same_average else state._replace(mean=_mean(spec, state))


def _spent(spec: RunSpec, state: RunState) -> Status:
    """Return the status of a run all of whose epochs are done."""
    if not spec.returns_current:
        return Status.MAX_EPOCHS
    return Status.WORSE if above(np.asarray(state.current.cost), np.asarray(state.start_cost)) else Status.MAX_STEPS


def _as_key(leaf: Any, like: Any) -> Any:
    """Return the leaf of a state, a random key where that was saved as its data."""
    if not jnp.issubdtype(like.dtype, jax.dtypes.prng_key) or leaf.dtype == like.dtype:
        return leaf
    return jax.random.wrap_key_data(jnp.asarray(leaf), impl=jax.random.key_impl(like))


def _mean(spec: RunSpec, state: RunState) -> Mean:
    """Return the mean of the iterates of a call whose average begins elsewhere than before."""
    mean: Any = state.mean
    epoch, batch = map(int, spec.average_from)
    begun = (int(state.epoch) - epoch) * spec.source.count + int(state.extra) - batch
    if begun > 0:
        raise ValueError(
            f"average: the mean of this call has {begun} iterates where the run to go on with stopped, and that run averaged "
            f"{int(mean.count)} there: pass as many n_epochs as that call did, or go on from a place before its average begins."
        )
    return Mean(jax.tree.map(np.zeros_like, mean.params), np.zeros_like(mean.count))
