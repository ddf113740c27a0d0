"""A regression and a global minimum, in a few lines each."""

import jax.numpy as jnp
import numpy as np

import jaxgd


def main() -> None:
    """Fit a line to six points, all at once and in minibatches, then find the deepest of a quartic's two valleys."""
    x = np.array([5, 15, 25, 35, 45, 55])
    y = np.array([5, 20, 14, 32, 22, 38])

    def cost(line, data):
        x, y = data
        return jnp.mean((line["offset"] + line["slope"] * x - y) ** 2) / 2

    start = {"offset": 0.5, "slope": 0.5}
    print("A line through six points, all rows in every step:")
    print(jaxgd.minimize(cost, start, (x, y)), end="\n\n")

    print("The same in shuffled minibatches of three, the last half of the run averaged:")
    descent = jaxgd.GradientDescent(learning_rate=0.0004)
    print(jaxgd.fit(cost, start, (x, y), batch_size=3, n_epochs=100_000, key=0, method=descent, average=0.5), end="\n\n")

    def quartic(v):
        return v**4 - 5 * v**2 - 3 * v

    print("The deepest point of v**4 - 5 v**2 - 3 v, from random starts:")
    result = jaxgd.minimize(quartic, jaxgd.normal(scale=2.0), key=0, n_starts=8)
    print("  minima found:", sorted({round(float(end), 3) for end in result.starts.params}))
    print(result)


if __name__ == "__main__":
    main()
