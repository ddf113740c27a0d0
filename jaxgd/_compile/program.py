"""Programs: a function is traced once a call, and a compiled program is found again by the structure of what was traced.

`trace` turns a function into a `Traced`: a pytree whose leaves are the arrays that the function closes over, and whose structure is
the function's jaxpr. So a compiled program that takes a `Traced` as an argument serves every function with the same arithmetic,
whichever arrays it closes over: fresh lambdas, new data and new hyperparameters compile nothing.
"""

import contextlib
import functools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._compile import fingerprint, jaxprs, native, stored
from jaxgd._compile.closures import JITTED, fresh, is_plain, parts_of
from jaxgd._compile.explained import explained
from jaxgd._compile.lifting import Wanted, with_arguments_first
from jaxgd._compile.parts import has_fixed_bits, is_exact, operations
from jaxgd._trees import in_64_bits, is_traced

_CACHE_SIZE = 256
_SMALL = 2**16  # bytes of an empty state that a program keeps
_NARROW = {np.dtype(wide): np.dtype(to) for wide, to in (("f8", "f4"), ("i8", "i4"), ("u8", "u4"), ("c16", "c8"))}  # without x64
_codes: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()  # of jaxprs that JAX remembers
_lock = threading.Lock()
_lowering = threading.Lock()


class _Code:
    """The structure of a traced function whose constants are its first arguments; equal and of equal hash for equal programs."""

    def __init__(self, jaxpr: Any, inputs: Any, shapes: Any) -> None:
        self.jaxpr = jaxpr
        self.inputs = inputs
        self.outputs = jax.tree.structure(shapes)
        self.shapes = shapes
        self.key = (jaxprs.key(jaxpr), self.inputs, self.outputs)
        self.hash = hash(self.key)

    @functools.cached_property
    def largest(self) -> int:
        return jaxprs.largest(self.jaxpr)

    @functools.cached_property
    def operations(self) -> float:
        return operations(self.jaxpr)

    @functools.cached_property
    def has_rules(self) -> bool:
        return jaxprs.has_rules(self.jaxpr)

    def __repr__(self) -> str:
        return f"program {fingerprint.of_key(self.key)}"

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Code) and (self is other or (self.hash == other.hash and self.key == other.key))


@jax.tree_util.register_pytree_node_class
class Traced:
    """A traced function, to be called with arguments of the structure and shapes that it was traced with."""

    def __init__(self, constants: tuple[Any, ...], code: _Code) -> None:
        self.constants = constants
        self.code = code

    def __call__(self, *arguments: Any) -> Any:
        leaves, structure = jax.tree.flatten(arguments)
        shapes = [variable.aval.shape for variable in self.code.jaxpr.invars[len(self.constants) :]]
        if structure != self.code.inputs or shapes != list(map(np.shape, leaves)):
            raise TypeError(f"expected arguments of the structure {self.code.inputs} and shapes {shapes}, got {structure}.")
        with explained("cost"):  # JAX may find only here that types do not fit
            outputs = jaxprs.applied(self.code.jaxpr, (), *self.constants, *leaves)
        outputs = map(jnp.asarray, outputs)  # a literal comes as a number
        return jax.tree.unflatten(self.code.outputs, outputs)

    @property
    def shapes(self) -> Any:
        """The shapes and dtypes of what the function returns, as a pytree of `jax.ShapeDtypeStruct`."""
        return self.code.shapes

    @property
    def largest(self) -> int:
        """How many numbers the largest array has that the function computes."""
        return self.code.largest

    @property
    def operations(self) -> float:
        """How many operations on single numbers the function takes; infinitely many where that is not known."""
        return self.code.operations

    def depends(self, is_asked: Callable[[Any], bool]) -> list[bool]:
        """Return which of the arrays that it returns may depend on the arguments whose paths are asked for."""
        numbered = jax.tree.unflatten(self.code.inputs, range(self.code.inputs.num_leaves))
        asked = [is_asked(path) for path, _ in jax.tree_util.tree_flatten_with_path(numbered)[0]]
        return jaxprs.dependent(self.code.jaxpr, [False] * len(self.constants) + asked)

    def tree_flatten(self) -> tuple[Any, _Code]:
        return self.constants, self.code

    @classmethod
    def tree_unflatten(cls, code: _Code, constants: Any) -> "Traced":
        return cls(tuple(constants), code)


def trace(function: Any, *arguments: Any, name: str = "cost", wanted: Callable[..., Wanted] | None = None) -> Traced:
    """Trace a function for arguments like these (arrays, or their shapes and dtypes); see `explained` for its errors.

    A function that `jax.jit` made is traced once for each of their structures and shapes. Of the jaxpr and the arguments `wanted`
    tells the literals that are constants like arrays, so that other numbers in their place are no new program.
    """
    with explained(name, eager=name == "learning_rate"):
        if isinstance(function, JITTED):
            traced = function.trace(*arguments)
            closed, shapes = traced.jaxpr, None
        else:
            traced = None
            closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    alone = not is_traced(arguments, closed.consts)  # nobody differentiates what is traced
    with _lock:
        found = _codes.get(closed.jaxpr, {}).get(alone)
    if found is None:
        jaxpr, lifted = with_arguments_first(closed, wanted(closed.jaxpr, arguments) if wanted else {}, alone=alone)
        found = _Code(jaxpr, jax.tree.structure(arguments), traced.out_info if traced else shapes), _on_device(lifted)
        with _lock:
            _codes.setdefault(closed.jaxpr, {})[alone] = found
    code, lifted = found
    return Traced((*lifted, *closed.consts), code)


def _on_device(lifted: dict[Any, tuple[Any, Any]]) -> tuple[Any, ...]:
    """Return the values, single numbers as arrays of JAX: in an outer program NumPy's would be literals again."""
    with jax.ensure_compile_time_eval():
        return tuple(value if np.ndim(value) else jax.device_put(value) for _, value in lifted.values())


class Program:
    """A compiled function of arguments of one structure, and the time of one tick of its loop.

    Compiled `quickly` it runs more slowly.
    """

    def __init__(self, function: Callable[..., Any], *, in_parts: bool = False, quickly: bool = False) -> None:
        self.origin, self.function = function, _seeing_afresh(function)
        self.in_parts, self.has_run = in_parts, False
        self.was_apart = False  # once, see `jaxgd._run.apart`
        self.bits_are_fixed: bool | None = None
        self.is_exact = False
        forms = [native.in_parts(self.function, self._note), self.function] if in_parts else [self.function]
        self.quickly, options = quickly, native.QUICKLY if quickly else None
        self.forms = [jax.jit(form, compiler_options=options) for form in forms]  # each for a compiler that refuses the one before
        self.shapes: Any = None
        self.blank: Any = None
        self.is_new = True
        self.is_cold = True
        self.seconds_per_tick: float | None = None
        self.compiling: threading.Thread | None = None
        self.preparing = threading.Lock()

    def __call__(self, *arguments: Any) -> Any:
        self.wait()
        outputs = self._first_that_compiles(lambda form: form(*arguments))
        self.has_run = True
        return outputs

    def compiled(self, *arguments: Any, like: Any) -> Any:
        """Return what JAX compiles for arguments like these, to be called in any thread; what is returned is like `like`."""
        path = self._path(arguments)
        found = stored.load(path, arguments, like)
        if found is None:
            found = self._first_that_compiles(lambda form: stored.compiled(path, form.lower(*arguments)))
        return found

    def _first_that_compiles(self, use: Callable[[Any], Any]) -> Any:
        """Return what is made of the first form that the compiler does not refuse."""
        form = self.call
        try:
            return use(form)
        except jax.errors.JaxRuntimeError:
            if self.has_run or form is self.forms[-1]:
                raise
            if form is self.call:  # no other thread has gone on to the next one
                self.forms = self.forms[1:]
            return self._first_that_compiles(use)

    @property
    def call(self) -> Any:
        """The function as JAX compiles it."""
        return self.forms[0]

    def zeros(self, *arguments: Any) -> Any:
        """Return zeros of the shapes that the function returns for arguments like these. Few are kept, on the device."""
        if self.blank is not None:
            return self.blank
        if self.shapes is None:
            self.shapes = self.call.eval_shape(*arguments)
        blank = jax.tree.map(_zeros, self.shapes)
        if sum(leaf.nbytes for leaf in jax.tree.leaves(blank)) <= _SMALL:
            blank = self.blank = jax.device_put(blank)
        return blank

    def has_fixed_bits(self, *arguments: Any) -> bool:
        """Return whether what it computes has the same bits in every program that computes it."""
        if self.in_parts and self.bits_are_fixed is None:
            self.call.trace(*arguments)
        return bool(self.bits_are_fixed)

    def _note(self, jaxpr: Any) -> None:
        self.bits_are_fixed, self.is_exact = has_fixed_bits(jaxpr), is_exact(jaxpr)

    def prepare(self, *arguments: Any, quickly: bool = False, like: Any = None) -> None:
        """Begin to compile for arguments like these, if it was not done before: JAX finds the program when it is called.

        Compiled `quickly`, a program runs more slowly; one whose bits could differ then is compiled in full all the same. Objects
        of the user are traced before this returns, since they may change afterwards. A program that returns what has the structure
        of `like` may be loaded, if another process has kept it on disk.
        """
        with self.preparing:
            if not self.is_new or is_traced(arguments):
                return
            path = None if like is None else self._path(arguments, quickly=quickly)
            if self._recalled(path, like, arguments):
                return
            if quickly:
                if self.has_fixed_bits(*arguments) and self.is_exact:
                    self.forms.insert(0, jax.jit(self.call.__wrapped__, compiler_options=native.QUICKLY))
                else:
                    path = None
            with contextlib.suppress(Exception):  # comes again where the program is called
                if not all(map(is_plain, _parts_of_users(arguments))):
                    self.call.trace(*arguments)
            settings = in_64_bits(), current_settings()
            self._begin(_compile, self.call, arguments, *settings, path)

    def recall(self, like: Any, *arguments: Any, quickly: bool = False) -> bool:
        """Begin to load what another process has prepared, and return whether there is something.

        What was compiled `quickly` has fixed bits.
        """
        with self.preparing:
            if not self.is_new or is_traced(arguments):
                return False
            found = self._recalled(self._path(arguments, quickly=quickly), like, arguments)
            if found and quickly:
                self.bits_are_fixed = self.is_exact = True
            return found

    def _path(self, arguments: Any, *, quickly: bool = False) -> Path | None:
        """Return the file in which the program is kept."""
        return stored.path_of(self.origin, arguments, self.in_parts, self.quickly or quickly) if self.in_parts else None

    def _recalled(self, path: Path | None, like: Any, arguments: Any) -> bool:
        """Begin to load the program in a file, if it is there."""
        if path is None or not path.exists():
            return False
        self._begin(self._load, path, like, arguments, in_64_bits(), current_settings())
        return True

    def _begin(self, function: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=function, args=arguments)
        thread.start()
        self.compiling, self.is_new = thread, False

    def _load(self, path: Path, like: Any, arguments: Any, wide: bool, settings: Any) -> None:
        """Take what was kept as the first form; what can't be loaded is compiled where it is called."""
        with jax.enable_x64(wide):
            found = stored.load(path, arguments, like) if current_settings() is settings else None
        if found is not None:
            self.forms.insert(0, found)

    @property
    def is_compiling(self) -> bool:
        """Whether a compilation that `prepare` began is under way."""
        return self.compiling is not None and self.compiling.is_alive()

    def wait(self) -> None:
        """Wait for what `prepare` has begun."""
        compiling = self.compiling
        if compiling is not None:
            compiling.join()
            self.compiling = None


_nothing = jax.jit(lambda: None)


def current_settings() -> Any:
    """Return an object that stands for JAX's settings in this thread, since JAX keeps a trace for each of them."""
    return _nothing.trace().jaxpr.jaxpr


def _compile(function: Any, arguments: Any, wide: bool, settings: Any, path: Path | None = None) -> None:
    """Compile a function; an error comes again where it is called.

    Settings that hold in one thread alone, such as `jax.default_matmul_precision`, can't be made here: then nothing is compiled.
    Only one function at a time is traced and lowered, since that is Python: side by side the first would be ready no sooner than
    the last.
    """
    with contextlib.suppress(Exception), jax.enable_x64(wide):
        if current_settings() is not settings:
            return
        with _lowering:
            lowered = function.lower(*arguments)
        stored.compiled(path, lowered)


def _seeing_afresh(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as it is to be traced: methods and rules of the user's among its arguments see their arrays afresh."""

    def seeing(*arguments: Any) -> Any:
        with fresh(*_parts_of_users(arguments)):
            return function(*arguments)

    seeing.__name__ = getattr(function, "__name__", "run")
    return seeing


def _parts_of_users(arguments: Any) -> list[Any]:
    """Return the classes and objects among arguments that users may have written."""
    return [part for part in parts_of(arguments) if not isinstance(part, _Code)]


def _zeros(like: Any) -> Any:
    """Return an array of zeros of a shape and dtype, NumPy's unless they are keys."""
    return (jnp if jnp.issubdtype(like.dtype, jax.dtypes.extended) else np).zeros(like.shape, like.dtype)


_programs: OrderedDict[Hashable, Program] = OrderedDict()


def program_for(
    function: Callable[..., Any], *arguments: Any, rules: Hashable = None, in_parts: bool = False, quickly: bool = False
) -> Program:
    """Return the program of a function for arguments of this structure and these shapes. Those unused for longest are dropped.

    A program that somebody may differentiate is also told apart by the `rules` of what it calls, see `rules_of`. One that nobody
    traces may have native functions as its small parts, and may be compiled `quickly`, where its arguments are on one CPU.
    """
    leaves, structure = jax.tree.flatten(arguments)
    narrow = {} if in_64_bits() else _NARROW
    in_parts = in_parts and native.is_possible(leaves)
    quickly = quickly and in_parts
    name = (function, structure, tuple([_shape_and_dtype(leaf, narrow) for leaf in leaves]), rules, in_parts, quickly)
    with _lock:
        program = _programs.pop(name, None) or Program(function, in_parts=in_parts, quickly=quickly)
        _programs[name] = program
        while len(_programs) > _CACHE_SIZE:
            _programs.popitem(last=False)
    return program


def apply(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function; as a program of its own."""
    return function(*arguments)


def rules_of(tree: Any) -> Hashable:
    """Return what tells traced functions apart that differ in the derivatives that users gave alone; None where there are none."""
    functions = [node for node in jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, Traced)) if isinstance(node, Traced)]
    return tuple(jaxprs.Identity(one.code) for one in functions if one.code.has_rules) or None


def _shape_and_dtype(leaf: Any, narrow: dict[Any, Any]) -> tuple[Any, Any]:
    dtype = getattr(leaf, "dtype", None)
    return (jnp.shape(leaf), type(leaf)) if dtype is None else (leaf.shape, narrow.get(dtype, dtype))
