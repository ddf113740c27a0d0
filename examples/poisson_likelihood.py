"""A peak on a background, counted in bins: the likelihood of the counts, the size of the peak, and how sure it is.

The counts n are Poisson's, so the cost is -log L = sum(mu - n log mu) + constant; bins with few or no counts are as good as the
others. The profile likelihood, the lowest cost for each size of the peak, shows whether plus or minus a standard error is fair.

For your own histogram: `counts, edges = np.histogram(values, bins=60)`; change `per_bin` to your signal and background. Keep the
expectation positive by `bounds`.
"""

import argparse
from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jax.scipy.special import xlogy

import jaxgd

PICTURE = Path(__file__).parent / "pictures" / "poisson_likelihood.png"
WIDTH = 1.0  # GeV, of a bin
LOW, HIGH = 100.0, 160.0  # GeV


def background(p, energy):
    """Counts of the background in a bin at an energy in GeV: an exponential."""
    scale = p["decay"] * (jnp.exp(-LOW / p["decay"]) - jnp.exp(-HIGH / p["decay"]))
    return p["n_background"] * WIDTH * jnp.exp(-energy / p["decay"]) / scale


def per_bin(p, energy):
    """Counts expected in a bin: those of the background and those of a Gaussian peak."""
    pull = (energy - p["energy"]) / p["resolution"]
    peak = WIDTH * jnp.exp(-(pull**2) / 2) / (p["resolution"] * jnp.sqrt(2 * jnp.pi))
    return background(p, energy) + p["n_peak"] * peak


def minus_log_likelihood(p, data):
    """The cost. Its constant makes it zero where mu = n, so that twice the cost is a chi-square of the fit."""
    energy, counts = data
    mu = per_bin(p, energy)
    return jnp.sum(mu - counts * jnp.log(mu) + xlogy(counts, counts) - counts)


def main(arguments: list[str] | None = None) -> None:
    """Fit the counts, print the peak with its error and its significance, and draw the fit and the profile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="23 points of the profile rather than 45")
    parser.add_argument("--output", type=Path, default=PICTURE, help="where the picture is to be")
    options = parser.parse_args(arguments)

    energy = np.arange(LOW, HIGH, WIDTH) + WIDTH / 2
    truth = {"decay": 30.0, "energy": 125.0, "n_background": 3000.0, "n_peak": 120.0, "resolution": 1.8}
    data = energy, np.random.default_rng(5).poisson(per_bin(truth, energy)).astype(float)

    start = {"decay": 20.0, "energy": 126.0, "n_background": float(np.sum(data[1])), "n_peak": 50.0, "resolution": 2.0}
    lower = {"decay": 1.0, "energy": 110.0, "n_background": 1.0, "n_peak": 0.0, "resolution": 0.5}
    upper = {"decay": 1e3, "energy": 150.0, "n_background": 1e6, "n_peak": 1e5, "resolution": 10.0}
    box = lower, upper
    result = jaxgd.minimize(minus_log_likelihood, start, data, bounds=box, dtype="float64")
    found = jaxgd.covariance(minus_log_likelihood, result.params, data, bounds=box, dtype="float64")
    print(result.summary(found))

    held = {name: name == "n_peak" for name in start}
    sizes = np.linspace(0, 220, 23 if options.quick else 45)
    starts = [result.params | {"n_peak": size} for size in sizes]
    ends = [jaxgd.minimize(minus_log_likelihood, one, data, fixed=held, bounds=box, dtype="float64") for one in starts]
    rises = np.array([end.cost for end in ends]) - result.cost  # the first call compiles, the others take milliseconds

    best, error = result.params["n_peak"], found.standard_errors["n_peak"]
    low = np.interp(-0.5, -rises[sizes < best], sizes[sizes < best])
    high = np.interp(0.5, rises[sizes > best], sizes[sizes > best])
    print(f"Counts in the peak: {best:.0f} ± {error:.0f}; by the profile +{high - best:.0f} -{best - low:.0f}")
    print(f"Without a peak -log L is higher by {rises[0]:.1f}: {np.sqrt(2 * rises[0]):.1f} standard deviations at this energy")

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4), width_ratios=[5, 3], layout="constrained")
    left.plot(energy, background(result.params, energy), "--", label="background")
    jaxgd.plot.fit(per_bin, result, (*data, np.sqrt(data[1])), ax=left, covariance=found)
    left.set(title="a peak on a background", xlabel="energy (GeV)", ylabel=f"counts in {WIDTH:g} GeV", ylim=(0, None))
    right.plot(sizes, rises, label="profile")
    right.plot(sizes, (sizes - best) ** 2 / (2 * error**2), "--", label="parabola")
    right.axhline(0.5, color="0.6", linewidth=0.8)
    right.set(title="how sure the peak is", xlabel="counts in the peak", ylabel="rise of -log L", ylim=(0, 8))
    right.legend(loc="upper center")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=110)
    print(f"Picture of the counts with the fit, and the profile: {options.output}")


if __name__ == "__main__":
    main()
