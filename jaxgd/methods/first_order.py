"""First-order rules: gradient descent with momentum, Adagrad, Adadelta, RMSProp, Adam.

A rule says what happens to one array: what it remembers (`init_leaf`) and how a gradient becomes an update (`update_leaf`). The
base class maps it over the pytree and gives it the convention of Optax, `init(params)` and `update(gradient, state, params)` ->
`(updates, state)`, where updates are to be added. In the recurrences g is the gradient, x the parameter, r the learning rate, and
all operations are elementwise. Arrays of 16 bits are remembered, and their updates computed, in 32.
"""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._checks import check
from jaxgd._deprecated import renamed
from jaxgd._trees import is_number, is_traced, pytree, static, with_fields
from jaxgd.methods.rule import FirstOrderMethod
from jaxgd.schedules import has_one_rate

__getattr__ = renamed(__name__, {"Rule": "FirstOrderMethod"})

_SMALLEST = 0.01  # the size of a parameter, for steps that are relative to it, is no smaller


def _may_count(number: Any) -> bool:
    """Return whether a number is not known to be zero."""
    return number is not None and (is_traced(number) or bool(np.any(np.asarray(number) != 0)))


def _lasting(momentum: Any) -> jax.Array:
    """Return the part of the sum of all updates that one of them makes, where the gradient stays the same."""
    return jnp.where(momentum < 1, 1 - momentum, 1)


@pytree
class GradientDescent(FirstOrderMethod):
    """Gradient descent, classical, stochastic, with momentum or with Nesterov's.

        u <- momentum * u - r * g;    x <- x + u
        with nesterov:                x <- x + momentum * u - r * g

    Args:
        learning_rate: r > 0: a number, an array per variable (a pytree like the parameters), or a schedule step -> rate. "auto"
            has `fit` find a constant one as `Automatic` does, and "auto" as the first number of a schedule that number.
        momentum: in [0, 1]; the fraction of the last update that is added to the next. The learning rate stands inside the sum,
            as in Keras, which differs from r * (sum of gradients) only where the rate changes.
        nesterov: look ahead along the last update.

    B. T. Polyak, Some methods of speeding up the convergence of iteration methods, USSR Comput. Math. Math. Phys. 4 (1964).
    I. Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013 (Nesterov's form).

    >>> import jaxgd
    >>> result = jaxgd.minimize(lambda v: v**2, 10.0, method=jaxgd.GradientDescent(0.2), max_steps=50)
    >>> abs(float(result.params)) < 1e-3
    True
    """

    rates: ClassVar[tuple[float, float]] = (-7.5, 1.0)
    learning_rate: Any = 0.1
    momentum: Any = 0.0
    nesterov: bool = static(default=False)

    def check_hyperparameters(self, name: str) -> None:
        check.fraction(f"{name}: momentum", self.momentum, closed=True)
        check.flag(f"{name}: nesterov", self.nesterov)

    def bind(self, steps_per_epoch: int) -> "FirstOrderMethod":
        """Return the same rule as `FirstOrderMethod.bind` has it; without momentum nothing is remembered of the last update."""
        bound = super().bind(steps_per_epoch)
        return with_fields(bound, momentum=None) if isinstance(self.momentum, float | int) and self.momentum == 0 else bound

    def init_leaf(self, leaf: jax.Array) -> jax.Array | None:
        return None if self.momentum is None else jnp.zeros_like(leaf)

    def update_leaf(self, gradient: jax.Array, memory: Any, params: jax.Array, count: Any) -> tuple[jax.Array, Any]:
        if self.momentum is None:
            return -self.learning_rate * gradient, memory
        update = self.momentum * memory - self.learning_rate * gradient
        ahead = self.momentum * update - self.learning_rate * gradient if self.nesterov else update
        return ahead, update

    @property
    def takes_penalty(self) -> str:
        return "any" if is_number(self.learning_rate) or has_one_rate(self.learning_rate) else "separable"

    def step_leaf(self, before: Any, memory: Any, params: jax.Array, count: Any) -> jax.Array:
        return self.learning_rate if self.momentum is None else self.learning_rate / _lasting(self.momentum)


@pytree
class Adagrad(FirstOrderMethod):
    """Adagrad: a rate for each parameter that falls with the squares of all its gradients.

        s <- s + g**2;    x <- x - r * g / sqrt(s + epsilon)

    Args:
        learning_rate: r > 0, as in `GradientDescent`.
        initial_accumulator: the first s, >= 0.
        epsilon: >= 0, inside the root. Both defaults, and the place of epsilon, are those of Keras and Optax; the paper has the
            first s at zero and epsilon outside, which makes the first steps as large as r whatever the gradient. Where s is zero
            the update is zero.

    J. Duchi, E. Hazan, Y. Singer, Adaptive subgradient methods, J. Mach. Learn. Res. 12 (2011).

    >>> import jaxgd
    >>> result = jaxgd.minimize(lambda v: (v - 3.0) ** 2, 0.0, method=jaxgd.Adagrad(1.0), max_steps=200)
    >>> round(float(result.params), 4)
    3.0
    """

    learning_rate: Any = 0.1
    initial_accumulator: Any = 0.1
    epsilon: Any = 1e-7

    def check_hyperparameters(self, name: str) -> None:
        check.at_least_zero(f"{name}: initial_accumulator", self.initial_accumulator)
        check.at_least_zero(f"{name}: epsilon", self.epsilon)

    def init_leaf(self, leaf: jax.Array) -> jax.Array:
        return jnp.full_like(leaf, self.initial_accumulator)

    def update_leaf(self, gradient: jax.Array, memory: Any, params: jax.Array, count: Any) -> tuple[jax.Array, Any]:
        squares = memory + gradient**2
        return -self.step_leaf(memory, squares, params, count) * gradient, squares

    def step_leaf(self, before: Any, memory: Any, params: jax.Array, count: Any) -> jax.Array:
        return self.learning_rate / jnp.sqrt(jnp.where(memory > 0, memory + self.epsilon, 1))


class _Deltas(NamedTuple):
    gradients: Any
    updates: Any


@pytree
class Adadelta(FirstOrderMethod):
    """Adadelta: steps in the units of the parameters, from running means of squared gradients and squared updates.

        s <- rho * s + (1 - rho) * g**2;    u = g * sqrt(d + epsilon) / sqrt(s + epsilon)
        d <- rho * d + (1 - rho) * u**2;    x <- x - r * u

    Args:
        learning_rate: r > 0, as in `GradientDescent`; the paper has 1, the default.
        rho: the decay of the means, in [0, 1); the default is the paper's (Optax has 0.9).
        epsilon: > 0, inside both roots, as in the paper; it sets the size of the first steps.

    M. D. Zeiler, ADADELTA: an adaptive learning rate method, arXiv:1212.5701 (2012).

    >>> import jaxgd
    >>> result = jaxgd.minimize(lambda v: (v - 3.0) ** 2, 0.0, method=jaxgd.Adadelta(), max_steps=2000)
    >>> round(float(result.params), 2)
    3.0
    """

    learning_rate: Any = 1.0
    rho: Any = 0.95
    epsilon: Any = 1e-6

    def check_hyperparameters(self, name: str) -> None:
        check.fraction(f"{name}: rho", self.rho, closed=False)
        check.positive(f"{name}: epsilon", self.epsilon)

    def init_leaf(self, leaf: jax.Array) -> _Deltas:
        return _Deltas(jnp.zeros_like(leaf), jnp.zeros_like(leaf))

    def update_leaf(self, gradient: jax.Array, memory: Any, params: jax.Array, count: Any) -> tuple[jax.Array, Any]:
        squares = self.rho * memory.gradients + (1 - self.rho) * gradient**2
        update = gradient * jnp.sqrt(memory.updates + self.epsilon) / jnp.sqrt(squares + self.epsilon)
        deltas = self.rho * memory.updates + (1 - self.rho) * update**2
        return -self.learning_rate * update, _Deltas(squares, deltas)

    def step_leaf(self, before: Any, memory: Any, params: jax.Array, count: Any) -> jax.Array:
        return self.learning_rate * jnp.sqrt(before.updates + self.epsilon) / jnp.sqrt(memory.gradients + self.epsilon)


class _RootMean(NamedTuple):
    squares: Any
    mean: Any
    update: Any


@pytree
class RMSProp(FirstOrderMethod):
    """RMSProp: gradients divided by the root of a running mean of their squares.

        s <- decay * s + (1 - decay) * g**2
        u <- momentum * u - r * g / sqrt(s + epsilon);    x <- x + u
        with centered: m <- decay * m + (1 - decay) * g, and s - m**2 instead of s under the root

    Args:
        learning_rate: r > 0, as in `GradientDescent`.
        decay: of the running means, in [0, 1). They start at zero and are not corrected for it.
        epsilon: > 0, inside the root, as in Optax and Keras (PyTorch has it outside).
        momentum: in [0, 1].
        centered: divide by the standard deviation.

    T. Tieleman, G. Hinton, Lecture 6.5: rmsprop, Neural Networks for Machine Learning (2012).

    >>> import jaxgd
    >>> decaying = jaxgd.RMSProp(jaxgd.schedules.Cosine(0.1, duration=300))
    >>> result = jaxgd.minimize(lambda v: (v - 3.0) ** 2, 0.0, method=decaying, max_steps=300)
    >>> round(float(result.params), 4)
    3.0
    """

    learning_rate: Any = 0.001
    decay: Any = 0.9
    epsilon: Any = 1e-8
    momentum: Any = 0.0
    centered: bool = static(default=False)

    def check_hyperparameters(self, name: str) -> None:
        check.fraction(f"{name}: decay", self.decay, closed=False)
        check.positive(f"{name}: epsilon", self.epsilon)
        check.fraction(f"{name}: momentum", self.momentum, closed=True)
        check.flag(f"{name}: centered", self.centered)

    def init_leaf(self, leaf: jax.Array) -> _RootMean:
        return _RootMean(jnp.zeros_like(leaf), jnp.zeros_like(leaf) if self.centered else None, jnp.zeros_like(leaf))

    def update_leaf(self, gradient: jax.Array, memory: Any, params: jax.Array, count: Any) -> tuple[jax.Array, Any]:
        squares = self.decay * memory.squares + (1 - self.decay) * gradient**2
        mean, spread = None, squares
        if self.centered:
            mean = self.decay * memory.mean + (1 - self.decay) * gradient
            spread = squares - mean**2
        update = self.momentum * memory.update - self.learning_rate * gradient / jnp.sqrt(spread + self.epsilon)
        return update, _RootMean(squares, mean, update)

    def step_leaf(self, before: Any, memory: Any, params: jax.Array, count: Any) -> jax.Array:
        spread = memory.squares - memory.mean**2 if self.centered else memory.squares
        return self.learning_rate / jnp.sqrt(spread + self.epsilon) / _lasting(self.momentum)


class _Moments(NamedTuple):
    first: Any
    second: Any
    largest: Any


@pytree
class Adam(FirstOrderMethod):
    """Adam, with the options that made AdamW, AMSGrad and Nadam of it.

        m <- beta1 * m + (1 - beta1) * g;    v <- beta2 * v + (1 - beta2) * g**2
        M = m / (1 - beta1**t);              V = v / (1 - beta2**t)
        x <- x - r * (M / (sqrt(V) + epsilon) + weight_decay * x)
        with relative:                       max(|x|, 0.01) * r instead of r

    Args:
        learning_rate: r > 0, as in `GradientDescent`.
        beta1: the decay of the first moment, in [0, 1).
        beta2: the decay of the second moment, in [0, 1).
        epsilon: > 0, outside the root, as in the paper.
        weight_decay: >= 0, decoupled from the moments and multiplied by the rate (Loshchilov and Hutter; AdamW).
        amsgrad: divide by the largest V so far (Reddi et al.; like Optax of the corrected V, where the paper has v).
        nesterov: M = beta1 * m / (1 - beta1**(t + 1)) + (1 - beta1) * g / (1 - beta1**t) (Dozat; Nadam).
        relative: make steps relative to the sizes of the parameters, for those of very different scales.

    D. P. Kingma, J. Ba, Adam: a method for stochastic optimization, ICLR 2015. I. Loshchilov, F. Hutter, Decoupled weight decay
    regularization, ICLR 2019. S. J. Reddi, S. Kale, S. Kumar, On the convergence of Adam and beyond, ICLR 2018. T. Dozat,
    Incorporating Nesterov momentum into Adam, ICLR 2016 workshop, here with a constant beta1.

    >>> import jaxgd
    >>> result = jaxgd.minimize(lambda v: (v - 3.0)**2, 0.0, method=jaxgd.Adam(0.1), max_steps=1000)
    >>> round(float(result.params), 4)
    3.0
    """

    counts: ClassVar[bool] = True
    learning_rate: Any = 0.001
    beta1: Any = 0.9
    beta2: Any = 0.999
    epsilon: Any = 1e-8
    weight_decay: Any = 0.0
    amsgrad: bool = static(default=False)
    nesterov: bool = static(default=False)
    relative: Any = False

    def check_hyperparameters(self, name: str) -> None:
        check.fraction(f"{name}: beta1", self.beta1, closed=False)
        check.fraction(f"{name}: beta2", self.beta2, closed=False)
        check.positive(f"{name}: epsilon", self.epsilon)
        check.at_least_zero(f"{name}: weight_decay", self.weight_decay)
        check.flag(f"{name}: amsgrad", self.amsgrad)
        check.flag(f"{name}: nesterov", self.nesterov)
        check.switch(f"{name}: relative", self.relative)

    @property
    def needs_params(self) -> bool:
        return _may_count(self.relative) or _may_count(self.weight_decay)

    def bind(self, steps_per_epoch: int) -> "FirstOrderMethod":
        """Return the same rule as `FirstOrderMethod.bind` has it; where steps are never relative nothing is multiplied."""
        bound = super().bind(steps_per_epoch)
        never = isinstance(self.relative, bool | float | int) and not self.relative
        return with_fields(bound, relative=None if never else self.relative)

    def init_leaf(self, leaf: jax.Array) -> _Moments:
        return _Moments(jnp.zeros_like(leaf), jnp.zeros_like(leaf), jnp.zeros_like(leaf) if self.amsgrad else None)

    def update_leaf(self, gradient: jax.Array, memory: Any, params: jax.Array, count: Any) -> tuple[jax.Array, Any]:
        first = self.beta1 * memory.first + (1 - self.beta1) * gradient
        second = self.beta2 * memory.second + (1 - self.beta2) * gradient**2
        mean = first / (1 - self.beta1**count)
        if self.nesterov:
            ahead = self.beta1 * first / (1 - self.beta1 ** (count + 1))
            mean = ahead + (1 - self.beta1) * gradient / (1 - self.beta1**count)
        square = second / (1 - self.beta2**count)
        largest = jnp.maximum(memory.largest, square) if self.amsgrad else None
        root = jnp.sqrt(square if largest is None else largest)
        update = -self._rate_at(params) * (mean / (root + self.epsilon) + self.weight_decay * params)
        return update, _Moments(first, second, largest)

    def step_leaf(self, before: Any, memory: Any, params: jax.Array, count: Any) -> jax.Array:
        square = memory.second / (1 - self.beta2**count) if memory.largest is None else memory.largest
        return self._rate_at(params) / (jnp.sqrt(square) + self.epsilon)

    def _rate_at(self, params: jax.Array) -> jax.Array:
        """Return the learning rate, relative to the sizes of the parameters if steps are."""
        if self.relative is None:
            return self.learning_rate
        return self.learning_rate * jnp.where(self.relative > 0, jnp.maximum(jnp.abs(params), _SMALLEST), 1)
