"""Costs of all kinds, and changes in what they look at."""

import dataclasses
import functools
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxgd

LARGE = 10_000  # numbers of an array that is known by itself
rate = 2.0


class Scaled:
    """A cost that is a method, and one that is an object."""

    shift: ClassVar[float] = 0.0
    unused: ClassVar[float] = 0.0

    def __init__(self, factor: Any) -> None:
        self.factor = factor
        self.result: Any = None

    def __call__(self, v: Any) -> Any:
        return self.helped(v) + self.shift

    def cost(self, v: Any) -> Any:
        return self.helped(v) + self.shift

    def helped(self, v: Any) -> Any:
        return self.factor * v

    def fit(self) -> Any:
        self.result = jaxgd.minimize(self.cost, 1.0)
        return open(__file__), np.random.normal()


class Tripled(Scaled):
    """A class that has a method of its own."""

    def helped(self, v: Any) -> Any:
        return 3 * super().helped(v)


class Slotted:
    """An object without a dictionary."""

    __slots__ = ("factor", "other")

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def cost(self, v: Any) -> Any:
        return getattr(self, "other", self.factor) * v


class Derived:
    """An object whose attributes follow from others."""

    def __init__(self, factor: float) -> None:
        self._factor = factor

    @property
    def factor(self) -> float:
        return self._factor + rate

    @functools.cached_property
    def doubled(self) -> float:
        return 2 * self._factor

    @staticmethod
    def plus(a: Any, b: Any) -> Any:
        return a + b

    @classmethod
    def of(cls) -> Any:
        return cls(5.0)

    def cost(self, v: Any) -> Any:
        return self.plus(self.factor, self.of().doubled) * v

    def of_cached(self, v: Any) -> Any:
        return self.doubled * v


class Equal(Scaled):
    """An object that says of all others that they are the same."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


@dataclasses.dataclass
class Data:
    """A dataclass."""

    factor: Any
    others: Any = dataclasses.field(default_factory=list)

    def cost(self, v: Any) -> Any:
        return self.factor * v + sum(self.others)


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A frozen dataclass."""

    factor: Any

    def cost(self, v: Any) -> Any:
        return self.factor["a"] * v


class Pair(NamedTuple):
    """A NamedTuple with a method."""

    factor: Any
    other: Any

    def cost(self, v: Any) -> Any:
        return self.factor[0] * v


class Module(eqx.Module):
    """A module of Equinox."""

    factor: Any

    def __call__(self, v: Any) -> Any:
        return self.factor[0] * v


class Mapped:
    """An object that is taken apart by two stars."""

    number = 2.0

    def keys(self) -> list[str]:
        return ["factor"]

    def __getitem__(self, name: str) -> float:
        return self.number


class Node:
    """An object that knows itself."""

    def __init__(self, factor: float) -> None:
        self.factor, self.own, self.next = factor, self, [self]

    def cost(self, v: Any) -> Any:
        return self.next[0].own.factor * v


def put(holder: Any, name: str, new: Any) -> Callable[[], None]:
    return lambda: setattr(holder, name, new)


def item(holder: Any, name: Any, new: Any) -> Callable[[], None]:
    return lambda: holder.__setitem__(name, new)


def of_large(array: Any) -> Callable[..., Any]:
    return lambda v: jnp.asarray(array)[0].astype(v.dtype) * v


def line(v: Any) -> Any:
    return rate * v


def steps() -> dict[str, Callable[[], tuple[Any, list[Any]]]]:
    """Costs by name, each with changes; before and after each of them the cost is what it is when it is called as it is."""

    def of(cost: Any, *changes: Any) -> Any:
        return lambda: (cost, list(changes))

    found: dict[str, Any] = {}
    a = Scaled(2.0)
    found["an attribute, through a method"] = of(a.cost, put(a, "factor", 3.0), put(a, "factor", 2.0))
    b: Any = Scaled(2.0)
    found["an attribute, of an object"] = of(b, put(b, "factor", 3.0), put(b, "factor", 2), put(b, "factor", -2.0))
    c = Scaled(jnp.float32(2))
    found["an array of JAX"] = of(c, put(c, "factor", jnp.float32(3)))
    d = Scaled(np.asarray([2.0, 3.0], np.float32))
    found["an array in place"] = of(lambda v: d.cost(v)[0], item(d.factor, 0, 7.0))
    e = Data(2.0, [1.0, [2.0]])
    found["a nested list"] = of(lambda v: e.factor * v + e.others[1][0], item(e.others[1], 0, 5.0))
    f = Data(2.0, [1.0])
    found["a list"] = of(f.cost, lambda: f.others.append(4.0))
    g = Frozen({"a": 2.0})
    found["a dictionary in a frozen object"] = of(g.cost, item(g.factor, "a", 3.0))
    h: Any = Pair([2.0], None)
    found["a list in a NamedTuple"] = of(h.cost, item(h.factor, 0, 3.0))
    i = Module([2.0])
    found["a list in a module of Equinox"] = of(i, item(i.factor, 0, 3.0))
    j = Slotted(2.0)
    found["slots"] = of(j.cost, put(j, "factor", 3.0), put(j, "other", 5.0), lambda: delattr(j, "other"))
    k = Node(2.0)
    found["a cycle"] = of(k.cost, put(k, "factor", 3.0), put(k, "own", Node(4.0)))
    l = Tripled(2.0)  # noqa: E741
    found["super()"] = of(l.cost, put(l, "factor", 3.0))
    m = type("Patched", (Scaled,), {})
    n = m(2.0)
    method = lambda self, v: 5 * v  # noqa: E731
    found["a method"] = of(n.cost, put(m, "helped", method), put(m, "shift", 1.5), lambda: delattr(m, "helped"))
    o = type("Called", (Scaled,), {})
    found["__call__"] = of(o(2.0), put(o, "__call__", method))
    p = m(2.0)
    found["a method of one object"] = of(p.cost, put(p, "helped", lambda v: 4 * v))
    q = Scaled(2.0)
    found["the class of an object"] = of(q.cost, put(q, "__class__", Tripled))
    r = Derived(2.0)
    found["a property and its global"] = of(
        r.cost, put(r, "_factor", 3.0), item(globals(), "rate", 7.0), item(globals(), "rate", 2.0)
    )
    s = Derived(2.0)
    found["a cached property"] = of(s.of_cached, put(s, "_factor", 3.0), put(s, "doubled", 9.0), lambda: delattr(s, "doubled"))
    found["a static method"] = of(
        r.cost, put(Derived, "plus", staticmethod(lambda a, b: a - b)), put(Derived, "plus", staticmethod(lambda a, b: a + b))
    )
    t = Equal(2.0)
    found["an object equal to all"] = of(lambda v: t(v), put(t, "factor", Equal(3.0).factor))
    u = functools.partial(lambda f, g, v: f.factor * g[0] * v, Scaled(2.0), [1.0])
    found["functools.partial"] = of(u, put(u.args[0], "factor", 3.0), item(u.args[1], 0, 2.0))
    w: Any = functools.wraps(line)(lambda v: w.factor * v)
    w.factor = 2.0
    found["an attribute of a function"] = of(w, put(w, "factor", 3.0))
    x = np.full(LARGE, 2.0, np.float32)
    found["a large array in place"] = of(of_large(x), item(x, 0, 3.0), item(x, 0, 2.0))
    y = np.full((100, 100), 2.0).T
    found["a large array of 64 bits in another order"] = of(lambda v: of_large(y[0])(v), item(y, (0, 0), 3.0))
    z = np.full(2 * LARGE, 2.0, np.float32)[::2]
    found["a large array with gaps"] = of(of_large(z), item(z, 0, 3.0))
    masked: Any = np.ma.masked_array(np.ones(LARGE), np.zeros(LARGE, bool))
    found["a masked array"] = of(lambda v: float(masked.sum()) * v, lambda: masked.mask.__setitem__(0, True))
    few: Any = np.ma.masked_array(np.ones(3), np.zeros(3, bool))
    found["a small masked array"] = of(lambda v: float(few.sum()) * v, lambda: few.mask.__setitem__(0, True))
    cells = np.array([2.0, [3.0]], object)
    found["an array of objects"] = of(lambda v: cells[1][0] * v, item(cells[1], 0, 4.0))
    records = np.zeros(LARGE, [("a", "f4"), ("b", "f4")])
    found["an array of records"] = of(lambda v: float(records["b"][0]) * v, lambda: records["b"].__setitem__(0, 4.0))
    aa = Scaled(of_large(np.ones(LARGE)))
    found["an array deep inside"] = of(lambda v: aa.factor(v), put(aa, "factor", of_large(np.full(LARGE, 3.0))))
    bb = Node(2.0)
    found["a name made of parts"] = of(lambda v: getattr(bb, "fact" + "".join(["o", "r"])) * v, put(bb, "factor", 3.0))
    cc = Node(2.0)
    found["a dictionary of an object"] = of(lambda v: cc.__dict__["factor"] * v, put(cc, "factor", 3.0))
    local = threading.local()
    local.factor = 2.0
    found["a thread's own"] = of(lambda v: local.factor * v, put(local, "factor", 3.0))
    dd = Scaled(2.0)
    weak = weakref.ref(dd)
    found["a weak reference"] = of(lambda v: weak().factor * v, put(dd, "factor", 3.0))  # type: ignore[union-attr]
    space = types.SimpleNamespace(factor=2.0)
    found["a namespace"] = of(lambda v: space.factor * v, put(space, "factor", 3.0))
    ee = Scaled({1, 2})
    found["a set"] = of(lambda v: sum(ee.factor) * v, lambda: ee.factor.add(3))
    ff: Any = jax.jit(Scaled(2.0).cost)
    found["jax.jit of a method"] = of(lambda v: ff.__wrapped__(v), put(ff.__wrapped__.__self__, "factor", 3.0))
    matched = Data(2.0)

    def matching(v: Any) -> Any:
        match matched:
            case Data(number):
                return number * v

    found["a class pattern"] = of(matching, put(matched, "factor", 3.0))
    mapping = Mapped()
    found["two stars"] = of(lambda v: dict(**mapping)["factor"] * v, put(mapping, "number", 3.0))
    shown = Node(2.0)
    found["a format"] = of(lambda v: float("{0.factor}".format(shown)) * v, put(shown, "factor", 3.0))  # noqa: UP030, UP032
    found["a global"] = of(line, item(globals(), "rate", 3.0), item(globals(), "rate", 2.0))
    return found
