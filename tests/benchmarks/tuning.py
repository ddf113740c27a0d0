"""How near a method that is given no learning rate comes to the best of a grid, in minibatches.

`python -m tests.benchmarks.tuning [problem ...] [--quick]`. The oracle of a problem is the best end of a grid of methods, learning
rates and schedules, with the same order of rows. The gap of an end is the part of the way from the start's cost to the best known
cost that is left; r is the ratio of a candidate's gap to the oracle's, with 1e-4 added to both.
"""

import argparse
import functools
import importlib.util
import json
import math
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean, median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxgd
from tests.benchmarks.tuning_problems import HALVES, Problem
from tests.benchmarks.tuning_tables import PROBLEMS

FLOOR = 1e-4  # added to the gaps: what is nearer to the best than this is as good as the best
LOST = 10.0  # the gap that a run which diverged counts with in a ratio, and the most that any does
SCHEDULES = ("constant", "cosine", "inverse time")
FAMILIES = ("GradientDescent", "momentum 0.9", "Adam")
QUICK = ("linear_standardised", "logistic_standardised", "tiny_houses")
QUICK_CANDIDATES = ("default", "Adam(0.01)", "dog", "prodigy", "schedule-free adamw")
QUICK_STEPS = 200


@jaxgd.pytree
class Shape(jaxgd.schedules.Schedule):
    """The schedule of that number in SCHEDULES: a leaf, so that one program runs them all."""

    initial: Any
    duration: Any
    number: Any

    def rate(self, time: jax.Array) -> jax.Array:
        cosine = jaxgd.schedules.Cosine(self.initial, self.duration)
        inverse = jaxgd.schedules.InverseTime(self.initial * self.duration / 10, self.duration / 10)
        rates = [self.initial, cosine.rate(time), inverse.rate(time)]
        return jnp.select([self.number == number for number in range(3)], rates)


def rates(family: str, quick: bool) -> list[float]:
    """The learning rates of a family's grid, half a decade apart; quickly two decades."""
    exponents = np.arange(-9 if family == "Adam" else -14, 3)[:: 4 if quick else 1] / 2
    return [float(f"{rate:.6g}") for rate in 10.0**exponents]


def grid(quick: bool) -> list[tuple[str, float, str]]:
    """All (family, rate, schedule) of the oracle."""
    return [(family, rate, shape) for family in FAMILIES for shape in SCHEDULES for rate in rates(family, quick)]


def fitted(problem: Problem, seed: Any, method: Any, data: Any = None) -> jaxgd.Result:
    """A run of the problem with a method; None names none."""
    options: dict[str, Any] = {"batch_size": problem.batch_size, "n_epochs": problem.n_epochs, "key": seed}
    return jaxgd.fit(problem.cost, problem.start, problem.data if data is None else data, method=method, **options)


class Oracle:
    """The grid's ends for a problem: two programs, one for descent with and without momentum and one for Adam."""

    def __init__(self, problem: Problem, quick: bool) -> None:
        self.problem = problem
        self.grid = grid(quick)
        self.descents = jax.jit(functools.partial(self._run, lambda rate, momentum: jaxgd.GradientDescent(rate, momentum)))
        self.adams = jax.jit(functools.partial(self._run, lambda rate, _: jaxgd.Adam(rate)))

    def _run(self, method: Callable[[Any, Any], Any], data: Any, key: Any, points: Any) -> tuple[Any, Any]:
        """The costs and the params at the ends of all runs; the cost of a run that diverged is infinite."""
        duration = jnp.float32(self.problem.n_steps)

        def one(rate: Any, number: Any, momentum: Any) -> tuple[Any, Any]:
            result = fitted(self.problem, key, method(Shape(rate, duration, number), momentum), data)
            lost = (result.code == jaxgd.Status.DIVERGED.code) | ~jnp.isfinite(result.cost)
            return jnp.where(lost, jnp.inf, result.cost), result.params

        return jax.vmap(one)(*points)

    def ends(self, seed: int) -> tuple[list[float], Any]:
        """The costs in the order of the grid, and the params of the best."""
        costs, best, params = [], math.inf, self.problem.start
        for program, families in ((self.descents, FAMILIES[:2]), (self.adams, FAMILIES[2:])):
            chosen = [entry for entry in self.grid if entry[0] in families]
            points = (
                np.array([rate for _, rate, _ in chosen], np.float32),
                np.array([SCHEDULES.index(shape) for _, _, shape in chosen], np.int32),
                np.array([0.9 if family == "momentum 0.9" else 0.0 for family, _, _ in chosen], np.float32),
            )
            found, points_reached = jax.device_get(program(self.problem.data, jax.random.key(seed), points))
            costs += [float(cost) for cost in found]
            if min(costs) < best:
                best, winner = min(costs), int(np.argmin(found))
                params = jax.tree.map(lambda leaf, row=winner: leaf[row], points_reached)
        return costs, params


def least(problem: Problem, points: Iterable[Any]) -> float:
    """The least cost that `jaxgd.minimize` finds on all rows from these points, in 64 bits."""
    results = [jaxgd.minimize(problem.cost, point, problem.data, dtype="float64", max_steps=1000) for point in points]
    return min(float(result.best.cost) for result in results)


def beginning(problem: Problem) -> tuple[float, float]:
    """The cost over all rows at the start and the length of its gradient there, which tell a problem from an earlier form of it."""
    cost, gradient = jax.jit(jax.value_and_grad(problem.cost))(problem.start, problem.data)
    return float(cost), math.sqrt(sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(gradient)))


class Ends:
    """The oracles' ends that are known already, in a file that grows; those of a problem that has changed are found anew."""

    def __init__(self, path: Path, quick: bool) -> None:
        self.path, self.quick = path, quick
        self.known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def of(self, problem: Problem, seeds: int) -> dict[str, Any]:
        """The oracle of a problem: its start's cost, the least cost found, and for each seed the grid's costs."""
        start_cost, slope = beginning(problem)
        name = f"{problem.name}{', quick' if self.quick else ''}"
        entry = self.known.get(name, {})
        about = {"n_steps": problem.n_steps, "start_cost": start_cost, "start_slope": slope}
        if not all(math.isclose(entry.get(key, math.nan), value, rel_tol=1e-4) for key, value in about.items()):
            entry = {**about, "least": math.inf, "seconds": {}, "ends": {}}
        oracle = Oracle(problem, self.quick)
        for seed in (str(number) for number in range(seeds) if str(number) not in entry["ends"]):
            began = time.perf_counter()
            entry["ends"][seed], params = oracle.ends(int(seed))
            entry["seconds"][seed] = time.perf_counter() - began
            points = [params] if entry["least"] < math.inf else [problem.start, params]
            entry["least"] = min([entry["least"], least(problem, points), *entry["ends"][seed]])
            print(f"{problem.name}, seed {seed}: a grid of {len(oracle.grid)} runs, {entry['seconds'][seed]:.1f} s", flush=True)
            self.known[name] = entry
            self.path.write_text(json.dumps(self.known, indent=1))
        return entry


def end_cost(problem: Problem, result: jaxgd.Result) -> float:
    """The cost over all rows at the end of a run, infinite where it diverged."""
    return math.inf if result.status is jaxgd.Status.DIVERGED else float(result.cost)


def with_method(make: Callable[[Problem], Any]) -> Callable[[Problem, int], float]:
    """A candidate that takes every step by one method, made once for a problem so that other seeds compile nothing."""
    made: dict[tuple[str, int], Any] = {}

    def candidate(problem: Problem, seed: int) -> float:
        name = problem.name, problem.n_steps
        if name not in made:
            made[name] = make(problem)
        return end_cost(problem, fitted(problem, seed, made[name]))

    return candidate


def contrib(name: str, **options: Any) -> Any:
    """A transformation of `optax.contrib`."""
    import optax.contrib

    return getattr(optax.contrib, name)(**options)


def prodigy_cosine(problem: Problem) -> Any:
    import optax

    return contrib("prodigy", learning_rate=optax.cosine_decay_schedule(1.0, problem.n_steps))


def mechanic(problem: Problem) -> Any:
    import optax

    return contrib("mechanize", base_optimizer=optax.adam(1.0))


@functools.cache
def _schedule_free(name: str) -> Any:
    return contrib("schedule_free_adamw")


def schedule_free(problem: Problem, seed: int) -> float:
    """The candidate whose answer is not its last iterate but the mean that its state holds."""
    import optax.contrib

    result = fitted(problem, seed, _schedule_free(problem.name))
    if result.status is jaxgd.Status.DIVERGED:
        return math.inf
    params = optax.contrib.schedule_free_eval_params(result.state.method, result.params)
    return float(jax.jit(problem.cost)(params, problem.data))


CANDIDATES: dict[str, Callable[[Problem, int], float]] = {
    "default": with_method(lambda _: None),
    "Adam(0.01)": with_method(lambda _: jaxgd.Adam(0.01)),
    "Adam(0.001)": with_method(lambda _: jaxgd.Adam(0.001)),
    "GradientDescent(0.01)": with_method(lambda _: jaxgd.GradientDescent(0.01)),
}
RIVALS: dict[str, Callable[[Problem, int], float]] = {
    "prodigy": with_method(lambda _: contrib("prodigy")),
    "prodigy cosine": with_method(prodigy_cosine),
    "dog": with_method(lambda _: contrib("dog")),
    "dowg": with_method(lambda _: contrib("dowg")),
    "mechanize adam": with_method(mechanic),
    "schedule-free adamw": schedule_free,
}


def judged(oracle: dict[str, Any], ends: dict[str, list[float]], quick: bool) -> dict[str, Any]:
    """What a problem's table shows: the oracle's winner and gap for each seed, and each candidate's gap and ratio."""
    n_seeds = len(next(iter(ends.values()))) if ends else len(oracle["ends"])
    grids = [oracle["ends"][str(seed)] for seed in range(n_seeds)]
    best = min([oracle["least"], *(cost for costs in [*grids, *ends.values()] for cost in costs)])
    start, points = oracle["start_cost"], grid(quick)

    def gap(cost: float) -> float:
        return (cost - best) / (start - best) if math.isfinite(cost) else math.inf

    winners = [int(np.argmin(costs)) for costs in grids]
    aims = [costs[winner] for costs, winner in zip(grids, winners, strict=True)]
    found = {}
    for name, costs in ends.items():
        pairs = list(zip(costs, aims, strict=True))
        near = [cost <= 1.05 * aim if aim > 0 else gap(cost) <= 0.05 for cost, aim in pairs]
        ratios = [(min(gap(cost), LOST) + FLOOR) / (gap(aim) + FLOOR) for cost, aim in pairs]
        found[name] = {"ends": costs, "gaps": [gap(cost) for cost in costs], "ratios": ratios, "near": near}
    return {
        "n_steps": oracle["n_steps"],
        "start_cost": start,
        "best_known": best,
        "oracle_ends": aims,
        "oracle_gaps": [gap(aim) for aim in aims],
        "winners": [points[winner] for winner in winners],
        "candidates": found,
    }


def summary(problems: list[dict[str, Any]], name: str) -> dict[str, float]:
    """A candidate's figures over all runs of these problems."""
    chosen = [problem["candidates"][name] for problem in problems]
    ratios, gaps, near = ([value for one in chosen for value in one[key]] for key in ("ratios", "gaps", "near"))
    return {
        "mean_log10_r": fmean(math.log10(ratio) for ratio in ratios),
        "share_r_2": fmean(ratio <= 2 for ratio in ratios),
        "share_near": fmean(near),
        "median_r": median(ratios),
        "gap_0.9": sum(gap >= 0.9 for gap in gaps),
        "diverged": sum(math.isinf(gap) for gap in gaps),
        "runs": len(ratios),
    }


def middle(gaps: list[float]) -> float:
    """The geometric mean of gaps, which may be zero."""
    return math.exp(fmean(math.log(min(gap, LOST) + FLOOR) for gap in gaps)) - FLOOR


def show(problems: dict[str, dict[str, Any]], names: list[str]) -> dict[str, Any]:
    """Print a table of the problems and one of the candidates for each half and for all, and return the second's figures."""
    print("\n| problem | steps | oracle's gap | won by |" + "".join(f" {name}: gap, r |" for name in names))
    print("|---" * (4 + len(names)) + "|")
    for name, one in problems.items():
        family, rate, shape = one["winners"][0]
        cells = [name, str(one["n_steps"]), f"{middle(one['oracle_gaps']):.2g}", f"{family}, {rate:.2g}, {shape}"]
        for candidate in names:
            found = one["candidates"][candidate]
            lost = " lost" if math.inf in found["gaps"] else ""
            ratio = math.exp(fmean(map(math.log, found["ratios"])))
            cells.append(f"{middle(found['gaps']):.2g}, {ratio:.3g}{lost}")
        print(f"| {' | '.join(cells)} |")
    figures: dict[str, Any] = {}
    for half in ("all", *HALVES):
        chosen = [one for one in problems.values() if half in ("all", one["half"])]
        if not chosen or not names:
            continue
        print(f"\n| {half}: {len(chosen)} problems | mean log10 r | r <= 2 | within 5 % | median r | gap >= 0.9 | diverged |")
        print("|---" * 7 + "|")
        figures[half] = {name: summary(chosen, name) for name in names}
        for name, row in figures[half].items():
            print(
                f"| {name} | {row['mean_log10_r']:.2f} | {row['share_r_2']:.0%} | {row['share_near']:.0%} | "
                f"{row['median_r']:.3g} | {row['gap_0.9']} | {row['diverged']} |"
            )
    return figures


def options() -> argparse.Namespace:
    """The command line."""
    known = {**CANDIDATES, **RIVALS}
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.tuning", description=__doc__)
    parser.add_argument("problems", nargs="*", metavar="problem", help=f"all by default: {', '.join(PROBLEMS)}")
    parser.add_argument("--quick", action="store_true", help="few problems, rates and steps: that everything runs, not how well")
    parser.add_argument("--seeds", type=int, default=3, help="orders of rows for each problem")
    parser.add_argument("--candidates", help=f"by commas, all by default, '' for the oracle alone: {', '.join(known)}")
    parser.add_argument("--output", type=Path, default=Path(".tuning.json"), help="where to save the figures")
    parser.add_argument("--oracle", type=Path, default=Path(".tuning_oracle.json"), help="where to keep the oracles' ends")
    chosen = parser.parse_args()
    usual = list(QUICK_CANDIDATES if chosen.quick else known)
    chosen.names = usual if chosen.candidates is None else [name for name in chosen.candidates.split(",") if name]
    chosen.problems = chosen.problems or list(QUICK if chosen.quick else PROBLEMS)
    chosen.seeds = 1 if chosen.quick else chosen.seeds
    unknown = (set(chosen.names) - set(known)) | (set(chosen.problems) - set(PROBLEMS))
    if unknown:
        parser.error(f"nothing named {', '.join(sorted(unknown))}; there are {', '.join([*PROBLEMS, *known])}")
    if chosen.seeds < 1:
        parser.error("--seeds: expected 1 or more")
    if importlib.util.find_spec("optax") is None and set(chosen.names) & set(RIVALS):
        print("Optax is not installed: its methods are left out.")
        chosen.names = [name for name in chosen.names if name not in RIVALS]
    return chosen


def main() -> None:
    """Run the candidates on the problems beside their oracles, print the tables, save the figures."""
    chosen = options()
    oracles, problems = Ends(chosen.oracle, chosen.quick), {}
    for name in chosen.problems:
        problem = PROBLEMS[name]()
        problem = problem.cut(QUICK_STEPS) if chosen.quick else problem
        oracle = oracles.of(problem, chosen.seeds)
        ends: dict[str, list[float]] = {}
        seconds: dict[str, float] = {}
        for candidate in chosen.names:
            began = time.perf_counter()
            ends[candidate] = [{**CANDIDATES, **RIVALS}[candidate](problem, seed) for seed in range(chosen.seeds)]
            seconds[candidate] = time.perf_counter() - began
        problems[name] = {"half": problem.half, **judged(oracle, ends, chosen.quick), "seconds": seconds}
        print(f"{name}: {len(ends)} candidates, {sum(seconds.values()):.1f} s", flush=True)
        chosen.output.write_text(json.dumps({"quick": chosen.quick, "problems": problems}, indent=1))
    figures = show(problems, chosen.names)
    chosen.output.write_text(json.dumps({"quick": chosen.quick, "summary": figures, "problems": problems}, indent=1))


if __name__ == "__main__":
    sys.exit(main())
