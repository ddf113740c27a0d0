"""The options of the host during a run, checked, and the run that a call goes on with."""

from typing import Any, NamedTuple

import jax

from jaxgd._checks import check
from jaxgd._run.processes import processes_of
from jaxgd._run.saved import Call, Saved, check_length, parts_of
from jaxgd._run.state import RunSpec
from jaxgd.callbacks import Every, as_callbacks
from jaxgd.checkpoint import Checkpoint, Resume, as_checkpoint, as_resume, to_go_on_with


class RunOptions(NamedTuple):
    """The options of the host during a run."""

    callbacks: tuple[Every, ...] = ()
    progress: bool | str = False
    jit: bool = True
    resume: Resume | None = None
    checkpoint: Checkpoint | None = None

    @staticmethod
    def of(callback: Any, progress: Any, resume: Any, checkpoint: Any, *, jit: bool, has_aux: bool) -> "RunOptions":
        """Check the arguments for the host, and the flag that goes with them."""
        check.options(has_aux=has_aux, progress=progress, jit=jit)
        return RunOptions(as_callbacks(callback), progress, jit, as_resume(resume), as_checkpoint(checkpoint))

    def check_alone(self, n_starts: int, history: Any) -> None:
        """Check that many starts do not come with what looks at one run."""
        looking = {"callback": self.callbacks, "progress": self.progress, "resume": self.resume, "checkpoint": self.checkpoint}
        check.alone("n_starts", n_starts, history=history, **looking, jit=not self.jit)

    def looking(self, *, jit: bool) -> dict[str, tuple[Any, Any]]:
        """Return the arguments that look at a run, or let it pause, each with the value that leaves it alone."""
        given = {"callback": self.callbacks or None, "resume": self.resume, "checkpoint": self.checkpoint}
        return {name: (value, None) for name, value in given.items()} | {"progress": (self.progress, False), "jit": (jit, True)}

    def call(self, spec: RunSpec, cost: Any, method: Any, **others: Any) -> Call:
        """Return the identity of a call."""
        return Call(
            parts_of(spec, cost, method, **others),
            with_values=self.checkpoint is not None or (self.resume is not None and self.resume.is_path),
        )

    def checked(self, call: Call, spec: RunSpec) -> Saved | None:
        """Return the run to go on with, if there is one and this call may."""
        if self.resume is None and self.checkpoint is None:
            return None
        if call.is_traced:
            raise no_pauses("checkpoint" if self.resume is None else "resume")
        processes = processes_of(spec)
        if jax.process_count() > 1 and self.checkpoint is not None and not processes.several:
            raise ValueError("checkpoint: expected data, or parameters, on devices of all processes, since JAX runs in several.")
        saved = to_go_on_with(call, self.resume, self.checkpoint, processes)
        if saved is not None:
            check_length(spec, saved)
        return saved


def no_pauses(name: str) -> ValueError:
    """Return the error of an argument that an outer program has no use for."""
    return ValueError(f"{name}: expected none inside jax.jit, jax.vmap or jax.grad, where a run has no pauses.")
