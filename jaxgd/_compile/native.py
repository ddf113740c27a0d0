"""Programs whose small parts are native functions.

XLA's compiler for CPUs makes a kernel of every few operations. Each takes 5 ms to compile and 50 ns and more to call, and the
rounding of its numbers depends on what the compiler finds beside it. For loops of few bytes the compiler has another way: all that
is in them becomes one native function. A call that is marked for it takes the same way. So a function is cut into `parts`, those of
small arithmetic are marked calls, and the rest stays as it is: large arrays, sorting, linear algebra, callbacks. A loop that only
reads from large arrays, or writes small pieces into them, is small arithmetic too.

The compiler aborts where it finds late that a marked call does not need a parameter. Therefore every output depends on all
parameters, through a number that is always zero, which only the last stage of the compiler finds out.

A native part has the same bits in every program, as far as rounding goes. The compiler is kept from two things that change them:

- A product and the sum that takes it may be fused, with one rounding instead of two, where the compiler finds both side by side.
  Therefore a negative zero, which the compiler does not know, is added to every product: fused or not, the product is rounded.
- A sum or a product over an axis may be taken in another order. Therefore a sum is written with subtractions, whose order the
  compiler keeps, and a product as a loop.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from jaxgd._compile import jaxprs, rebuilding
from jaxgd._compile.indexing import COMBINED, gathered, scattered
from jaxgd._compile.parts import LARGE, ROUNDED, Part, has_loop, is_empty, is_native, is_parallel, is_small, is_usable, parts
from jaxgd._shards import is_spread
from jaxgd._trees import in_64_bits, is_staged

_MARK = {"xla_cpu_small_call": "true", "inlineable": "false"}  # the compiler's own names
QUICKLY = {"xla_backend_optimization_level": 0}  # the compiler's own name


def is_possible(leaves: Iterable[Any] = ()) -> bool:
    """Return whether a program of these arrays runs on one CPU, so that it may have native functions."""
    return jax.default_backend() == "cpu" and (jax.device_count() == 1 or not any(map(is_spread, leaves)))


def in_parts(function: Callable[..., Any], note: Callable[[Any], None] = lambda jaxpr: None) -> Callable[..., Any]:
    """Return a function to be compiled that does the same, its small parts in marked calls.

    `note` is shown its jaxpr when it is traced.
    """

    def applied(*arguments: Any) -> Any:
        at_once = jax.config.jax_disable_jit and not is_staged()  # type: ignore[attr-defined]
        if at_once:  # a mark on what is called at once would be on all that is in it
            return function(*arguments)
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        note(closed.jaxpr)
        if closed.effects:
            return function(*arguments)
        leaves = jax.tree.leaves(arguments)
        outputs = _opened(closed, _negative_zeros(leaves))(*leaves)
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    applied.__name__ = getattr(function, "__name__", "run")
    return applied


def is_whole(jaxpr: Any) -> bool:
    """Return whether all of a jaxpr can be a part of one native function."""
    return not jaxpr.effects and all(is_native(eqn, looped=True) for eqn in jaxpr.eqns)


def has_native_loops(jaxpr: Any) -> bool:
    """Return whether all loops of a jaxpr can be parts of native functions."""
    return not jaxpr.effects and all(is_native(eqn, looped=True) for eqn in jaxpr.eqns if has_loop(eqn))


class _Values:
    """The values of variables."""

    def __init__(self, variables: Iterable[Any], values: Iterable[Any]) -> None:
        self.known = dict(zip(variables, values, strict=True))

    def read(self, atoms: Iterable[Any]) -> list[Any]:
        return [self._value(one) for one in atoms]

    def _value(self, atom: Any) -> Any:
        if is_empty(atom.aval):
            return np.zeros(atom.aval.shape, atom.aval.dtype)
        return np.asarray(atom.val, atom.aval.dtype) if jaxprs.is_literal(atom) else self.known[atom]

    def write(self, variables: Iterable[Any], values: Iterable[Any]) -> None:
        self.known.update(zip(variables, values, strict=True))


def _opened(inner: Any, zeros: dict[str, jax.Array]) -> Callable[..., list[Any]]:
    """Return a jaxpr as a function whose native parts are marked calls."""
    opened = functools.partial(_opened, zeros=zeros)

    def function(*arguments: Any) -> list[Any]:
        jaxpr = jaxprs.opened(inner)
        values = _Values([*jaxpr.constvars, *jaxpr.invars], [*jaxprs.constants_of(inner), *arguments])
        for part in parts(jaxpr):
            if part.is_native and _is_worth_a_call(part):
                values.write(part.outputs, _marked(part, zeros, values.read(part.inputs)))
                continue
            for eqn in part.equations:
                operands = values.read(eqn.invars)
                rebuilt = rebuilding.rebuilt(eqn, operands, _threaded(eqn, opened) if is_parallel(eqn) else opened)
                values.write(eqn.outvars, rebuilding.bind(eqn, operands, jaxpr.debug_info) if rebuilt is None else rebuilt)
        return values.read(jaxpr.outvars)

    return function


def _threaded(eqn: Any, opened: Callable[[Any], Callable[..., Any]]) -> Callable[[Any], Callable[..., Any]]:
    """Return `opened` for the functions of a loop whose large arrays several threads are to compute.

    A newer compiler makes a native function of every loop, however large its arrays are, and such a function has one thread. It
    leaves out the loops with an operation that it can't write there, such as sorting. So the answer of the condition is sorted.
    """

    def function_of(inner: Any) -> Callable[..., Any]:
        function = opened(inner)
        if inner is not eqn.params["cond_jaxpr"]:
            return function
        return lambda *arguments: [_sorted(one) for one in function(*arguments)]

    return function_of


def _sorted(answer: jax.Array) -> jax.Array:
    """Return a truth value as it is, the first of two sorted numbers of which the other is larger."""
    return lax.sort(jnp.stack([answer.astype(jnp.int32), jnp.int32(2)]))[0] == 1


def _is_worth_a_call(part: Part) -> bool:
    first, *others = part.equations
    return bool(others) or has_loop(first) or first.primitive.name in ROUNDED


def _marked(part: Part, zeros: dict[str, jax.Array], operands: list[Any]) -> list[Any]:
    """Apply a part in a marked call."""

    @set_xla_metadata(**dict.fromkeys(_MARK))  # what is inside is not marked
    def function(zeros: dict[str, jax.Array], *arguments: Any) -> list[Any]:
        values = _Values(part.inputs, arguments)
        _write(part.equations, values, _Zeros(zeros))
        root = lax.sqrt(_mixed([*zeros.values(), *arguments]))
        none = lax.lt(root, np.float32(-1))  # always false, but the compiler can't tell
        return _tied(values.read(part.outputs), none)

    call = jax.jit(function)
    needed = {name: zero for name, zero in zeros.items() if name in part.floats}
    inputs = lax.optimization_barrier((needed, *operands))  # constants would find their way into the function
    with set_xla_metadata(**_MARK):
        return call(*inputs)


def _mixed(arguments: Iterable[Any]) -> jax.Array:
    """Return a number that depends on all arguments, of which nothing else is known: it may be NaN."""
    totals: dict[Any, jax.Array] = {}
    for argument in arguments:
        first = lax.squeeze(_first(argument), range(argument.ndim)) if argument.ndim else argument
        kind = np.dtype("float32") if first.dtype.kind == "b" else first.dtype
        first = lax.convert_element_type(first, kind)
        totals[kind] = lax.add(totals[kind], first) if kind in totals else first
    return functools.reduce(lax.add, (lax.convert_element_type(one, np.float32) for one in totals.values()), jnp.float32(0))


def _first(array: jax.Array) -> jax.Array:
    """Return the first number of an array, as an array of one number."""
    return lax.slice(array, (0,) * array.ndim, (1,) * array.ndim)


def _tied(outputs: list[jax.Array], none: jax.Array) -> list[jax.Array]:
    """Return arrays as they are, combined with bits that are never set, since `none` is false."""
    bits: dict[Any, jax.Array] = {}

    def unset(shape: tuple[int, ...], kind: Any) -> jax.Array:
        if (shape, kind) not in bits:
            bits[shape, kind] = lax.broadcast(unset((), kind), shape) if shape else lax.convert_element_type(none, kind)
        return bits[shape, kind]

    def tied(output: jax.Array) -> jax.Array:
        if output.nbytes > LARGE:  # a function that takes several threads can't be native: the first number alone
            return lax.dynamic_update_slice(output, tied(_first(output)), (0,) * output.ndim)
        kind = output.dtype if output.dtype.kind != "f" else np.dtype(f"uint{8 * output.dtype.itemsize}")
        combined = lax.bitwise_xor(lax.bitcast_convert_type(output, kind), unset(output.shape, kind))
        return lax.bitcast_convert_type(combined, output.dtype)

    return list(map(tied, outputs))


class _Zeros:
    """Negative zeros that the compiler does not know, by the names of their types.

    Arrays of them are shared within one body of a loop, or outside of all.
    """

    def __init__(self, single: dict[str, jax.Array]) -> None:
        self.single = single
        self.arrays: dict[Any, jax.Array] = {}

    def inside(self) -> "_Zeros":
        """Return the same numbers for another body."""
        return _Zeros(self.single)

    def rounded(self, value: jax.Array) -> jax.Array:
        """Return a product, rounded by itself."""
        name, shape = value.dtype.name, value.shape
        if name not in self.single:
            return value
        if (name, shape) not in self.arrays:
            self.arrays[name, shape] = lax.broadcast(self.single[name], shape) if shape else self.single[name]
        return lax.add(value, self.arrays[name, shape])


def _negative_zeros(arguments: list[Any]) -> dict[str, jax.Array]:
    """Return a negative zero of each type of floating-point numbers, made of the arguments, so that no compiler knows it."""
    total = _mixed(jnp.asarray(argument) for argument in arguments if is_usable(argument))
    number = lax.bitcast_convert_type(total, np.uint32)
    none = (number * (number + 1)) & 1  # of two neighbours one is even
    zeros = {}
    for zero in map(np.dtype, ("float32", "float64") if in_64_bits() else ("float32",)):
        whole = np.dtype(f"uint{8 * zero.itemsize}")
        sign = np.asarray(-0.0, zero).view(whole)
        zeros[zero.name] = lax.bitcast_convert_type(sign | none.astype(whole), zero)
    return zeros


def _write(equations: list[Any], values: _Values, zeros: _Zeros) -> None:
    """Apply equations for a native function: products of matrices are sums of products.

    Calls are left out, their equations are applied. A marked call within another one goes wrong: loops around it may never end.
    """
    opened = functools.partial(_plain, zeros=zeros)
    for eqn in equations:
        if all(is_empty(variable.aval) for variable in eqn.outvars):
            continue
        operands = values.read(eqn.invars)
        if eqn.primitive.name == "concatenate":
            found = [lax.concatenate([one for one in operands if one.size], eqn.params["dimension"])]
        elif eqn.primitive.name == "dot_general":
            found = [_product(eqn, operands[0], operands[1], zeros)]
        elif eqn.primitive.name in COMBINED:
            found = [scattered(eqn, *operands)]
        elif eqn.primitive.name == "gather" and not is_small(eqn.invars[0]):
            found = [gathered(eqn, *operands)]
        elif eqn.primitive.name == "reduce_sum":
            found = [_sum(operands[0], eqn.params["axes"])]
        elif eqn.primitive.name == "reduce_prod":
            found = [_multiplied(operands[0], eqn.params["axes"], zeros)]
        else:
            found = rebuilding.rebuilt(eqn, operands, opened)
        if found is None:
            found = eqn.primitive.bind(*operands, **eqn.params)
            found = found if eqn.primitive.multiple_results else [found]
            if eqn.primitive.name in ROUNDED:
                found = list(map(zeros.rounded, found))
        values.write(eqn.outvars, found)


def _plain(inner: Any, zeros: _Zeros) -> Callable[..., list[Any]]:
    """Return a jaxpr as a function, written for a native one."""

    def function(*arguments: Any) -> list[Any]:
        jaxpr = jaxprs.opened(inner)
        values = _Values([*jaxpr.constvars, *jaxpr.invars], [*jaxprs.constants_of(inner), *arguments])
        _write(jaxpr.eqns, values, zeros.inside())
        return values.read(jaxpr.outvars)

    return function


def _product(eqn: Any, left: jax.Array, right: jax.Array, zeros: _Zeros) -> jax.Array:
    """Return a product of matrices as a sum of products: axes of batches first, then those of each, then those summed over."""
    (summed_left, summed_right), (batch_left, batch_right) = eqn.params["dimension_numbers"]
    own_left, own_right = (
        [axis for axis in range(matrix.ndim) if axis not in (*summed, *batch)]
        for matrix, summed, batch in ((left, summed_left, batch_left), (right, summed_right, batch_right))
    )
    left = lax.transpose(left, (*batch_left, *own_left, *summed_left))
    right = lax.transpose(right, (*batch_right, *own_right, *summed_right))
    n_batch, dtype = len(batch_left), eqn.outvars[0].aval.dtype
    left = lax.expand_dims(left, range(n_batch + len(own_left), n_batch + len(own_left) + len(own_right)))
    right = lax.expand_dims(right, range(n_batch, n_batch + len(own_left)))
    products = zeros.rounded(lax.mul(lax.convert_element_type(left, dtype), lax.convert_element_type(right, dtype)))
    return _sum(products, range(products.ndim - len(summed_left), products.ndim))


def _sum(terms: jax.Array, axes: Iterable[int]) -> jax.Array:
    """Return the sums over some axes, in the order of the terms: a sum of its own the compiler takes in any order that it likes."""
    return lax.reduce(terms, np.zeros((), terms.dtype), _plus, tuple(axes))


def _plus(total: jax.Array, one: jax.Array) -> jax.Array:
    return lax.neg(lax.sub(lax.neg(total), one))


def _multiplied(factors: jax.Array, axes: Iterable[int], zeros: _Zeros) -> jax.Array:
    """Return the products over some axes, one factor after the other."""
    for axis in sorted(axes, reverse=True):
        first = jnp.ones([size for k, size in enumerate(factors.shape) if k != axis], factors.dtype)
        factor = functools.partial(lax.dynamic_index_in_dim, factors, axis=axis, keepdims=False)

        def turn(k: Any, found: jax.Array, factor: Callable[[Any], jax.Array] = factor) -> jax.Array:
            return zeros.inside().rounded(lax.mul(found, factor(k)))

        factors = lax.fori_loop(0, factors.shape[axis], turn, first)
    return factors
