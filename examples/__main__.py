"""Run the examples, all of them or those named, one after the other, and write their pictures: `python examples [NAME ...]`.

Without options the pictures in `examples/pictures` are drawn anew. A large one is kept in 256
colours, a quarter of the bytes.
"""

import argparse
import runpy
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
from PIL import Image

FOLDER = Path(__file__).parent
WITHOUT_A_PICTURE = "quickstart", "several_processes"  # they take no options for one
LARGE = 140_000  # bytes
NAMES = (
    *WITHOUT_A_PICTURE,
    "gradient_descent",
    "classification",
    "regression",
    "digits",
    "curve_fit",
    "poisson_likelihood",
    "profile_likelihood",
    "logistic_large",
    "neural_network",
    "batch_norm",
    "global_minimum",
    "many_fits",
    "penalty",
    "sparse_logistic",
    "portfolio",
)


def shrink(picture: Path) -> None:
    """Reduce a large picture to 256 colours."""
    if picture.stat().st_size < LARGE:
        return
    with Image.open(picture) as image:
        reduced = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    reduced.save(picture, optimize=True)


def main(arguments: list[str] | None = None) -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python examples", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="small sizes, a few seconds each")
    parser.add_argument("--output", type=Path, default=FOLDER / "pictures", help="the folder for the pictures")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown:
        parser.error(f"no example is called {', '.join(unknown)}; there are {', '.join(NAMES)}")

    matplotlib.use("Agg")  # pictures go to files, and need no screen
    for name in options.names or NAMES:
        print(f"== {name}", flush=True)
        run = runpy.run_path(str(FOLDER / f"{name}.py"))["main"]
        if name in WITHOUT_A_PICTURE:
            run()
            continue
        run(["--quick"] * options.quick + ["--output", str(options.output / f"{name}.png")])
        plt.close("all")
        for picture in options.output.glob(f"{name}*.png"):
            shrink(picture)


if __name__ == "__main__":
    main()
