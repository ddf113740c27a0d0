"""Error bars beyond the parabola: an enzyme whose saturation is hardly seen, its rate measured at eight concentrations.

    rate(c) = slope * c / (1 + c / half)

The readings end before the rate levels off at slope * half, so that `half` may be much larger than the best fit has it, and hardly
smaller. A symmetric standard error can't say that. Profiles of the likelihood can: intervals that reach as far as the data allow,
and contours that bend. Fits of samples drawn from the model scatter as the contours say.

For your own data: change `rate` to your model, the start to its parameters, and `c`, `y` and `SIGMA` to your columns and errors.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxgd

PICTURE = Path(__file__).parent / "pictures" / "profile_likelihood.png"
CONCENTRATION = np.array([0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0])  # millimolar
SIGMA = 0.25  # of a reading
TRUTH = {"half": 5.0, "slope": 2.0}


def rate(p, c):
    """The model: Michaelis's and Menten's law."""
    return p["slope"] * c / (1 + c / p["half"])


def chi_square(p, data):
    """The cost: the sum of the squared distances from the model, in standard deviations of the readings."""
    c, y = data
    return jnp.sum(((rate(p, c) - y) / SIGMA) ** 2)


def sample(p, key):
    """Readings as the model with these parameters would give them."""
    return CONCENTRATION, rate(p, CONCENTRATION) + SIGMA * jax.random.normal(key, CONCENTRATION.shape)


def main(arguments: list[str] | None = None) -> None:
    """Fit the rates, print standard errors and intervals, and draw the fit, a profile and contours."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 samples rather than 1000")
    parser.add_argument("--output", type=Path, default=PICTURE, help="where the picture is to be")
    options = parser.parse_args(arguments)

    y = rate(TRUTH, CONCENTRATION) + SIGMA * np.random.default_rng(11).normal(size=len(CONCENTRATION))
    data = CONCENTRATION, np.asarray(y)
    box = {"bounds": (1e-3, 1e3), "dtype": "float64"}
    result = jaxgd.minimize(chi_square, {"half": 1.0, "slope": 1.0}, data, **box)
    errors = jaxgd.covariance(chi_square, result.params, data, scale=1, **box)
    print(result.summary(errors))
    print(jaxgd.intervals(chi_square, result, data, scale=1, **box))
    print(jaxgd.intervals(chi_square, result, data, scale=1, sigma=2, **box))
    highest = errors.propagate(lambda p: p["slope"] * p["half"])
    print(f"The highest rate, by the delta method: {highest.value:.1f} ± {highest.standard_errors:.1f}")

    profile = jaxgd.profile(chi_square, result, data, "half", values=np.geomspace(1.8, 20, 60), scale=1, **box)
    pair = "slope", "half"
    contours = [jaxgd.contour(chi_square, result, data, pair, scale=1, level=level, **box) for level in (0.68, 0.95)]
    count = 100 if options.quick else 1000
    fits = jaxgd.bootstrap(chi_square, result, data, key=0, n_samples=count, draw=sample, **box)
    low, high = fits.interval()
    print(f"Fits of {count} samples: the middle 68 % have half from {low['half']:.2f} to {high['half']:.2f}")

    figure, axes = plt.subplots(1, 3, figsize=(9, 3.9), layout="constrained")
    jaxgd.plot.fit(rate, result, (*data, np.full(len(y), SIGMA)), ax=axes[0], covariance=errors)
    axes[0].set(title="the fit", xlabel="concentration (mM)", ylabel="rate (µM/s)")
    jaxgd.plot.profile(profile, ax=axes[1])
    axes[1].set(title="a profile", xlabel="half (mM)", ylabel="rise of chi-square")
    axes[2].plot(fits.params["slope"], fits.params["half"], ".", color="0.7", markersize=2, label="fits of samples", zorder=0)
    jaxgd.plot.contour(contours, ellipse=True, ax=axes[2])
    axes[2].set(title="contours", xlabel="slope (µM/s/mM)", ylabel="half (mM)", xlim=(1.3, 3), ylim=(0, 20))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=110)
    print(f"Picture of the fit, a profile and contours: {options.output}")


if __name__ == "__main__":
    main()
