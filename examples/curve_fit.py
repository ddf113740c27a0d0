"""Fit a physical model and say how well it is known: a pendulum that comes to rest, its angle read four times a second.

    angle(t) = offset + amplitude * exp(-t / damping_time) * sin(2 pi t / period + phase)

For your own data: change `angle` to your model, the keys of `start` to its parameters, with values read off your plot, and `t`,
`y`, `sigma` to your columns, such as `t, y = np.loadtxt("data.txt", unpack=True)`. Without known errors of y leave `sigma` and
`scale` out: the scatter of the residuals takes their place.
"""

import argparse
from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxgd

PICTURE = Path(__file__).parent / "pictures" / "curve_fit.png"
TRUTH = {"amplitude": 12.0, "damping_time": 9.0, "offset": 0.4, "period": 2.1, "phase": 0.0}


def angle(p, t):
    """The model: the angle in degrees at the times t in seconds."""
    swing = jnp.sin(2 * jnp.pi * t / p["period"] + p["phase"])
    return p["offset"] + p["amplitude"] * jnp.exp(-t / p["damping_time"]) * swing


def residuals(p, data):
    """The distances from the model, in standard deviations of the readings."""
    t, y, sigma = data
    return (y - angle(p, t)) / sigma


def chi_square(p, data):
    """The cost: the sum of the squared residuals."""
    return jnp.sum(residuals(p, data) ** 2)


def readings(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times in s, angles in degrees, and the standard deviation of each reading, here made up."""
    rng = np.random.default_rng(2)
    t = np.arange(count) / 4
    sigma = np.full(count, 1.2)
    return t, np.asarray(angle(TRUTH, t)) + sigma * rng.standard_normal(count), sigma


def main(arguments: list[str] | None = None) -> None:
    """Fit the pendulum, print its parameters with their standard errors, and draw the band around the curve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="30 readings rather than 50")
    parser.add_argument("--output", type=Path, default=PICTURE, help="where the picture goes")
    options = parser.parse_args(arguments)

    data = readings(30 if options.quick else 50)
    start = {"amplitude": 10.0, "damping_time": 5.0, "offset": 0.0, "period": 2.0, "phase": 0.0}
    positive = {"amplitude": 0.0, "damping_time": 0.1, "offset": None, "period": 0.1, "phase": None}

    result = jaxgd.minimize(chi_square, start, data, bounds=(positive, None), dtype="float64")
    # The scale 0.5 says that the residuals are in units of errors that are known.
    found = jaxgd.covariance(None, result.params, data, residuals=residuals, scale=0.5, dtype="float64")
    print(result.summary(found))
    freedom = len(data[0]) - len(start)
    print(f"Chi-square: {result.cost:.1f} for {freedom} degrees of freedom")
    for name, true in TRUTH.items():
        away = (result.params[name] - true) / found.standard_errors[name]
        print(f"  {name:12}  {away:+.1f} standard errors from the truth, {true}")

    print("\nIf the clock starts as the pendulum passes the middle, the phase is 0: held there, it leaves the period better known.")
    held = {name: name == "phase" for name in start}
    second = jaxgd.minimize(chi_square, start, data, fixed=held, bounds=(positive, None), dtype="float64")
    print(second.summary(jaxgd.covariance(None, second.params, data, residuals=residuals, scale=0.5, fixed=held, dtype="float64")))

    figure = plt.figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplot_mosaic([["fit", "correlation"], ["residuals", "correlation"]], width_ratios=[5, 3], height_ratios=[3, 1])
    jaxgd.plot.fit(angle, result, data, ax=axes["fit"], covariance=found, sigma=2)
    axes["fit"].set(xlabel="", ylabel="angle (degrees)", title="a damped pendulum", ylim=(-13, 21))
    axes["residuals"].plot(data[0], residuals(result.params, data), "k.")
    axes["residuals"].axhline(0, linewidth=0.8)
    axes["residuals"].set(xlabel="time (s)", ylabel="residual / error", ylim=(-3.5, 3.5))
    jaxgd.plot.correlation(found, ax=axes["correlation"])
    axes["correlation"].set_title("correlations")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=110)
    print(f"Picture of the fit with its band, the residuals and the correlations: {options.output}")


if __name__ == "__main__":
    main()
