"""Fit a cube of spectra, one of each pixel of an image: maps of the parameters, their errors, and how each fit ended.

    counts(wavelength) = background + height * exp(-(wavelength - centre)**2 / (2 * width**2))

For your own data: change `line` to your model and the keys of `start` to its parameters, and `spectra` to your cube, an array of
shape (pixels, channels). A slow fit holds no other one up, so that thousands of them take about as long as their evaluations do.
"""

import argparse
import time
from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxgd

PICTURE = Path(__file__).parent / "pictures" / "many_fits.png"
WAVELENGTHS = np.linspace(-5, 5, 64)


def line(p, wavelengths):
    """The model: an emission line on a flat background."""
    return p["background"] + p["height"] * jnp.exp(-((wavelengths - p["centre"]) ** 2) / (2 * p["width"] ** 2))


def misfit(p, counts, wavelengths):
    """The cost of one spectrum: minus the logarithm of the likelihood of its counts, which are Poisson's."""
    expected = line(p, wavelengths)
    return jnp.sum(expected - counts * jnp.log(expected))


def cube(side: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A turning disc, here made up: its true parameters, and the counts of all pixels; in a corner there is no line at all."""
    random = np.random.default_rng(3)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    radius = np.hypot(x, y)
    truth = {
        "background": np.full_like(x, 4.0),
        "centre": 2 * x / (0.3 + radius),
        "height": np.where(radius < 1.2, 40 * np.exp(-2 * radius), 0.0),
        "width": 0.5 + 0.4 * np.exp(-4 * radius),
    }
    truth = {name: values.ravel() for name, values in truth.items()}
    expected = np.asarray(line({name: values[:, None] for name, values in truth.items()}, WAVELENGTHS))
    return truth, random.poisson(expected).astype(np.float32)


def main(arguments: list[str] | None = None) -> None:
    """Fit all spectra, print how they ended, and draw the maps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="an image of 20 x 20 pixels rather than 100 x 100")
    parser.add_argument("--output", type=Path, default=PICTURE, help="where the picture goes")
    options = parser.parse_args(arguments)

    side = 20 if options.quick else 100
    truth, spectra = cube(side)
    peak = WAVELENGTHS[np.argmax(spectra, axis=1)]  # a start for each spectrum
    start = {
        "background": np.median(spectra, axis=1),
        "centre": peak,
        "height": np.maximum(np.max(spectra, axis=1) - np.median(spectra, axis=1), 1),
        "width": np.full(len(spectra), 0.7),
    }
    bounds = (
        {"background": 0.01, "centre": -5, "height": 0, "width": 0.1},
        {"background": None, "centre": 5, "height": None, "width": 3},
    )

    result = jaxgd.minimize_many(misfit, start, spectra, shared=WAVELENGTHS, bounds=bounds)
    print(result)
    began = time.perf_counter()
    jaxgd.minimize_many(misfit, start, spectra, shared=WAVELENGTHS, bounds=bounds)  # compiles nothing
    seconds = time.perf_counter() - began
    print(f"once more: {seconds:.2f} s, {1e6 * seconds / len(spectra):.0f} microseconds a fit")
    errors = jaxgd.covariance_many(misfit, result.params, spectra, shared=WAVELENGTHS, bounds=bounds)
    seen = result.params["height"] > 5 * errors.standard_errors["height"]
    believed = np.asarray(errors.valid & result.converged & seen)
    print(f"with a line, and errors to be believed: {np.mean(believed):.0%}")
    pulls = ((result.params["centre"] - truth["centre"]) / errors.standard_errors["centre"])[believed]
    print(f"centres: scatter of {np.std(pulls):.2f} standard errors around the truth")

    def image(values: np.ndarray) -> np.ndarray:
        return np.asarray(values).reshape(side, side)

    known = np.where(image(believed), 1.0, np.nan)
    figure = plt.figure(figsize=(9, 5.2), layout="constrained")
    axes = figure.subplot_mosaic([["centre", "width", "status"], ["error", "height", "spectrum"]])
    maps = {
        "centre": ("velocity: centre of the line", image(result.params["centre"]) * known, "RdBu_r"),
        "width": ("width", image(result.params["width"]) * known, "viridis"),
        "height": ("height", image(result.params["height"]) * known, "viridis"),
        "error": ("standard error of the centre", image(errors.standard_errors["centre"]) * known, "magma"),
    }
    for name, (title, values, colours) in maps.items():
        low, high = np.nanpercentile(values, [1, 99])
        picture = axes[name].imshow(values, cmap=colours, origin="lower", vmin=low, vmax=high)
        figure.colorbar(picture, ax=axes[name], shrink=0.85)
        axes[name].set(title=title, xticks=[], yticks=[])
    ends = image(np.select([believed, errors.valid, result.converged], [3, 2, 1]))
    axes["status"].imshow(ends, cmap="Greys_r", origin="lower", vmin=0, vmax=3)
    axes["status"].set(title="white: a line, its errors valid", xticks=[], yticks=[])
    axes["status"].set_xlabel(f"grey: no line seen, {np.mean(ends == 2):.0%}\ndark: errors not valid, {np.mean(ends < 2):.0%}")
    pixel = side * (side // 2) + side // 3
    fine = np.linspace(-5, 5, 400)
    axes["spectrum"].step(WAVELENGTHS, spectra[pixel], where="mid", color="0.6")
    axes["spectrum"].plot(fine, line({name: values[pixel] for name, values in result.params.items()}, fine))
    axes["spectrum"].set(title="one of the spectra", xlabel="wavelength", ylabel="counts")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=110)
    print(f"Picture of the maps: {options.output}")


if __name__ == "__main__":
    main()
