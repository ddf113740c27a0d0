"""The parts of a jaxpr: runs of equations that can be one native function each, and the equations between them.

An equation is native if the compiler knows how to write it into a function, and all that it computes is small. A loop or a branch
is native if all that is in it is.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import AxisType

from jaxgd._compile import jaxprs
from jaxgd._compile.indexing import COMBINED
from jaxgd._compile.rebuilding import CALLS

LARGE = 2**11  # bytes of an array: what takes ten times as much the compiler gives to several threads, which a function can't use
_PARALLEL = 2**22  # bytes of an array, from which on several threads compute it sooner than one
_GATHERED = 2**19  # the same of an array that is gathered, number by number, from all over another
PRODUCTS = 2**12  # of numbers in a product of matrices, above which a kernel of its own is as fast
LONG = 256  # operations of one function: the compiler takes longer for a long one than for two short ones
_KINDS = frozenset(map(np.dtype, ("bool", "int8", "uint8", "int32", "uint32", "int64", "uint64", "float32", "float64")))
_WRITTEN = frozenset(
    "abs acos acosh add add_any and argmax argmin asin asinh atan atan2 atanh bitcast_convert_type broadcast_in_dim cbrt ceil "
    "clamp concatenate convert_element_type copy copy_p cos cosh cumlogsumexp cummax cummin cumprod cumsum div "
    "eq erf erf_inv erfc exp exp2 expand_dims expm1 floor ge gt integer_pow iota is_finite le log log1p "
    "logistic lt max min mul ne neg nextafter not optimization_barrier or pad platform_index population_count pow reduce_and "
    "reduce_max reduce_min reduce_or reduce_prod reduce_sum reduce_xor rem reshape rev round rsqrt select_n shift_left "
    "shift_right_arithmetic shift_right_logical sign sin sinh split sqrt square squeeze stack stop_gradient sub tan tanh "
    "threefry2x32 transpose unstack xor".split()
)
ROUNDED = frozenset(
    "acos acosh asin asinh atan atan2 atanh cbrt cos cosh cumlogsumexp cumprod div erf erf_inv erfc exp exp2 expm1 integer_pow log "
    "log1p logistic mul pow rem rsqrt sin sinh sqrt square tan tanh".split()
)
"""The operations which are products, or end with one in the form that the compiler gives them."""

_APPROXIMATE = ROUNDED - {"cumprod", "div", "integer_pow", "mul", "rem", "sqrt", "square"}
"""The operations which the compiler writes as a series of products and sums, in whose rounding it has a choice."""

_OF_LIBRARIES = frozenset("cholesky eigh lu qr sort svd triangular_solve".split())  # the same function wherever it is called
_LOOPS = frozenset(("while", "scan"))
_HOLDING = CALLS | _LOOPS | {"cond"}
_READING = frozenset(("dynamic_slice", "gather", "slice"))  # from an array that may be large
_WRITING = frozenset(("dynamic_update_slice", *COMBINED))  # into one


class Part(NamedTuple):
    """Equations that are applied one after the other, and whether they can be one native function.

    `inputs` are the variables that they use, and `outputs` those that they define and that are used elsewhere. Arrays without
    numbers are neither: they are made anew where they are used.
    """

    equations: list[Any]
    is_native: bool
    inputs: list[Any]
    outputs: list[Any]

    @property
    def floats(self) -> set[str]:
        """The types of floating-point numbers that it computes."""
        return set().union(*map(_floats, self.equations))


def parts(jaxpr: Any) -> list[Part]:
    """Return the parts of a jaxpr in an order in which they can be applied.

    The native equations that need nothing from a later part are together, however they are mixed with others in the jaxpr.
    """
    stages: dict[tuple[int, bool], list[Any]] = {}
    place: dict[Any, tuple[int, bool]] = {}
    for eqn in jaxpr.eqns:
        native = is_native(eqn)
        before = [place[variable] for variable in variables(eqn.invars) if variable in place]
        stage = max([number + (native and not other) for number, other in before], default=0)
        stages.setdefault((stage, not native), []).append(eqn)
        place.update((variable, (stage, native)) for variable in eqn.outvars)
    cut = [(piece, not other) for (_, other), equations in sorted(stages.items()) for piece in _pieces(equations, cut=not other)]
    return [_part(equations, native, k, cut, jaxpr) for k, (equations, native) in enumerate(cut)]


def is_native(eqn: Any, *, looped: bool = False) -> bool:
    """Return whether an equation can be a part of a native function.

    A loop may write small pieces of large arrays, by indices or as its rows, which it does in place.
    """
    name = eqn.primitive.name
    if (name in _WRITTEN or _moves_nothing(eqn)) and all(map(is_small, eqn.outvars)) and all(map(is_small, variables(eqn.invars))):
        return not eqn.effects
    is_loop = _writes_in_place(eqn)
    writes = looped and name in _WRITING and all(map(is_small, variables(eqn.invars[1:])))
    around = [one.aval for one in (*eqn.outvars, *variables(eqn.invars))]
    if eqn.effects or not all(is_usable(one) or (is_empty(one) and name not in _HOLDING - CALLS) for one in around):
        return False
    if not (is_loop or writes or (looped and name in CALLS) or all(map(is_small, eqn.outvars))):
        return False
    if name in _HOLDING:
        inner = [one for inner in jaxprs.inside(eqn) for one in jaxprs.opened(inner).eqns]
        return all(is_native(one, looped=looped or is_loop) for one in inner)
    if name == "dot_general":
        return products(eqn) <= PRODUCTS
    return writes or name in _READING or (name in _WRITING and all(map(is_small, variables(eqn.invars))))


def _moves_nothing(eqn: Any) -> bool:
    """Return whether an equation only notes that the compiler may place an array anywhere."""
    return eqn.primitive.name == "reshard" and set(eqn.outvars[0].aval.sharding.mesh.axis_types) <= {AxisType.Auto}


def _writes_in_place(eqn: Any) -> bool:
    """Return whether an equation is a loop that may carry large arrays: none of its turns makes one."""
    if eqn.primitive.name == "while":
        return not eqn.params["cond_jaxpr"].out_avals[0].ndim  # else each turn chooses between the old and the new, lane by lane
    if eqn.primitive.name != "scan":
        return False
    body = jaxprs.opened(eqn.params["jaxpr"])
    seen, carried, _ = jaxprs.split_scan(eqn, body.invars)
    return all(map(is_small, [*variables(body.invars[len(seen) + len(carried) :]), *variables(body.outvars[len(carried) :])]))


def is_parallel(eqn: Any) -> bool:
    """Return whether an equation is a loop, not a mapped one, in which several threads are sooner than one."""
    if eqn.primitive.name != "while" or eqn.params["cond_jaxpr"].out_avals[0].ndim:
        return False
    return any(map(_computes_in_parallel, jaxprs.opened(eqn.params["body_jaxpr"]).eqns))


def _computes_in_parallel(eqn: Any) -> bool:
    """Return whether an equation computes such an array, outside of loops in it."""
    name = eqn.primitive.name
    if name in _LOOPS or name in _WRITING:
        return False
    if name in _HOLDING:
        return any(_computes_in_parallel(one) for inner in jaxprs.inside(eqn) for one in jaxprs.opened(inner).eqns)
    least = _GATHERED if name == "gather" else _PARALLEL
    return any(is_usable(one.aval) and one.aval.size * one.aval.dtype.itemsize >= least for one in eqn.outvars)


def has_fixed_bits(jaxpr: Any) -> bool:
    """Return whether what a jaxpr computes has the same bits in every program: native parts, and functions of libraries."""
    return not jaxpr.effects and all(map(_has_fixed_bits, jaxpr.eqns))


def _has_fixed_bits(eqn: Any) -> bool:
    if is_native(eqn) or eqn.primitive.name in _OF_LIBRARIES:
        return True
    inner = jaxprs.inside(eqn) if eqn.primitive.name in _HOLDING else []
    return bool(inner) and all(has_fixed_bits(jaxprs.opened(one)) for one in inner)


def is_exact(jaxpr: Any) -> bool:
    """Return whether a jaxpr applies no function that is approximated.

    Then its bits are the same however well it is compiled.
    """
    return not any(eqn.primitive.name in _APPROXIMATE for inner in jaxprs.all_jaxprs(jaxpr) for eqn in inner.eqns)


def products(eqn: Any) -> int:
    """Return how many products of two numbers a product of matrices takes."""
    (summed, _), _ = eqn.params["dimension_numbers"]
    return eqn.outvars[0].aval.size * math.prod(eqn.invars[0].aval.shape[axis] for axis in summed)


def operations(jaxpr: Any) -> float:
    """Return how many operations on single numbers a jaxpr takes, infinitely many where a loop has no known length.

    Products of two matrices, which the compiler leaves to functions of libraries, count as one for each number.
    """
    return sum(map(_operations, jaxpr.eqns))


def _operations(eqn: Any) -> float:
    if eqn.primitive.name == "while":
        return math.inf
    inner = sum(operations(jaxprs.opened(one)) for one in jaxprs.inside(eqn))
    if inner:
        return inner * eqn.params.get("length", 1)
    if eqn.primitive.name == "dot_general" and any(one.aval.ndim < 2 for one in eqn.invars):
        return products(eqn)
    return max(one.aval.size for one in (*eqn.outvars, *eqn.invars))


def has_loop(eqn: Any) -> bool:
    """Return whether an equation is a loop, or holds one."""
    return eqn.primitive.name in _LOOPS or any(has_loop(one) for inner in jaxprs.inside(eqn) for one in jaxprs.opened(inner).eqns)


def _floats(eqn: Any) -> set[str]:
    found = {variable.aval.dtype.name for variable in eqn.outvars if variable.aval.dtype.kind == "f"}
    return found.union(*(_floats(one) for inner in jaxprs.inside(eqn) for one in jaxprs.opened(inner).eqns))


def variables(atoms: Any) -> list[Any]:
    """Return the variables among variables and literals."""
    return [atom for atom in atoms if not jaxprs.is_literal(atom)]


def is_usable(aval: Any) -> bool:
    """Return whether an array of this shape and dtype can be used by a native function."""
    return getattr(aval, "dtype", None) in _KINDS and aval.size > 0


def is_empty(aval: Any) -> bool:
    """Return whether an array of this shape has no numbers, and is of a dtype that native functions can use."""
    return getattr(aval, "dtype", None) in _KINDS and aval.size == 0


def is_small(variable: Any) -> bool:
    """Return whether a native function can compute an array like this one."""
    aval = variable.aval
    return getattr(aval, "dtype", None) in _KINDS and aval.size * aval.dtype.itemsize <= LARGE


def _pieces(equations: list[Any], *, cut: bool) -> list[list[Any]]:
    length = LONG if cut else max(len(equations), 1)
    return [equations[first : first + length] for first in range(0, len(equations), length)]


def _part(equations: list[Any], native: bool, index: int, cut: list[tuple[list[Any], bool]], jaxpr: Any) -> Part:
    made = dict.fromkeys(variable for eqn in equations for variable in eqn.outvars if not is_empty(variable.aval))
    own = dict.fromkeys(variable for eqn in equations for variable in variables(eqn.invars) if not is_empty(variable.aval))
    inputs = [variable for variable in own if variable not in made]
    others = (eqn for k, (part, _) in enumerate(cut) if k != index for eqn in part)
    used = {variable for eqn in others for variable in variables(eqn.invars)} | set(variables(jaxpr.outvars))
    return Part(equations, native, inputs, [variable for variable in made if variable in used])
