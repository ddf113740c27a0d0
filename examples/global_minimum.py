"""The deepest of many valleys: two hundred random starts in one program, and where each of them ended.

Rastrigin's function has a valley at every pair of integers, and one of them is the deepest. Each start finds the valley that it is
in; so many starts find the deepest, if it is not too narrow. No number of starts proves that there is none deeper.

For your own function: write it in the place of `rastrigin`, and let `start` draw points where the minimum may be. Parameters may be
any pytree, such as `{"mass": ..., "width": ...}`.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxgd

PICTURE = Path(__file__).parent / "pictures" / "global_minimum.png"
EDGE = 5.12


def rastrigin(v):
    """A bowl with a wave on it: 0 at the origin, and a valley near every point of integers."""
    return 10 * v.size + jnp.sum(v**2 - 10 * jnp.cos(2 * jnp.pi * v))


def start(key):
    """Anywhere in the square."""
    return jax.random.uniform(key, (2,), minval=-EDGE, maxval=EDGE)


def main(arguments: list[str] | None = None) -> None:
    """Search from many starts, print the valleys found, and draw where they are and how deep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="50 starts rather than 200")
    parser.add_argument("--output", type=Path, default=PICTURE, help="what to call the picture")
    options = parser.parse_args(arguments)

    result = jaxgd.minimize(rastrigin, start, key=0, n_starts=50 if options.quick else 200, bounds=(-EDGE, EDGE))
    print(result)
    ends = np.asarray(result.starts.params)
    valleys, counts = np.unique(np.round(result.starts.cost, 2), return_counts=True)
    print(f"{len(valleys)} different depths; the deepest:")
    for depth, count in list(zip(valleys, counts, strict=True))[:4]:
        print(f"  cost {abs(depth):.2f}: {count} starts")

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
    side = np.linspace(-EDGE, EDGE, 201)
    heights = jax.vmap(jax.vmap(rastrigin))(jnp.stack(jnp.meshgrid(side, side), axis=-1))
    left.contourf(side, side, heights, levels=12, cmap="Blues_r", vmin=-40)
    left.plot(*ends.T, "o", color="black", markersize=3, label="ends")
    left.plot(*result.params, "*", color="#E69F00", markeredgecolor="black", markersize=15, label="best")
    left.set(title="where the runs ended", xlabel="v[0]", ylabel="v[1]", aspect="equal")
    left.legend(loc="upper right")
    jaxgd.plot.starts(result, ax=right)
    right.set_title("and how deep")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=110)
    print(f"Picture of the ends, and how deep they are: {options.output}")


if __name__ == "__main__":
    main()
