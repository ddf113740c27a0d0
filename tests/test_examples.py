"""The examples run in their quick form, print what they should, and draw pictures that can be read; the index has them all."""

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import matplotlib.image
import pytest
from matplotlib.figure import Figure

from tests.pictures import check

FOLDER = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__main__")
PICTURES = sorted((FOLDER / "pictures").iterdir())
WITHOUT_A_PICTURE = runpy.run_path(str(FOLDER / "__main__.py"), run_name="examples")["WITHOUT_A_PICTURE"]
INDEX = (FOLDER / "README.md").read_text(encoding="utf-8")
SLOW = "batch_norm", "several_processes"
SAYS = {
    "quickstart": ["params 1.71394", "minima found: [-1.402, 1.714]"],
    "several_processes": ["10000 rows on 4 devices of 2 processes", "minibatches: [ 1. -2. 0.5]", "Converged"],
    "gradient_descent": [
        "0.2    30 steps  v = 2.210739197",
        "0.8    33 steps  v = -4.775196665",
        "0.005  50 steps  v = 6.050060671",
        "0.1    50 steps  v = 1.285401330",
        "0.2    50 steps  v = -1.42075674",
        "[8.08281277e-12, 9.75207120e-02]",
        "[5.62822349 0.54012867], after 35317 steps",
        "[5.63333333 0.54      ], by jaxgd.minimize",
        "v = -0.00712853, cost 2.0000508",
    ],
    "classification": ["after     20 epochs, 260 steps", "On the wrong side of the line: 2"],
    "regression": [
        "closed form:              [4.21509616 2.77011339]",
        "rate 0.1:           [4.21509616 2.77011339] after 1000 steps: MAX_STEPS",
        "after 898 steps: DIVERGED",
        "SGDRegressor:  [4.",
        "9 learning rates for 20 steps: 0.422",
    ],
    "digits": [
        "cost      2.99882996",
        "0.69 % of the training rows, 1.39 % of the others",
        "0.35 % of the training rows, 1.39 % of the others",
        "momentum 0.9: 51 steps, cost 1.5884866778, errors 0.00 % and 1.39 %",
    ],
    "curve_fit": ["Converged", "25 degrees of freedom", "params['phase']              0 ± 0 (held)"],
    "poisson_likelihood": ["params['n_peak']           108 ± 23", "by the profile +2", "6.2 standard deviations"],
    "profile_likelihood": [
        "params['half'] 4.3 ± 1.4",
        "params['half'] 4.3 -1.1 +1.8",
        "params['half'] 4.3 -1.9 +5.2",
        "The highest rate, by the delta method: 9.2 ± 1.9",
    ],
    "logistic_large": ["90000 rows of 20 columns", "once more: ", "Adam(learning_rate=Cosine("],
    "batch_norm": ["0% dropped: ", "50% dropped: ", "of 899 digits not seen before"],
    "neural_network": ["10 epochs, 340 steps", "Of 450 digits not seen before"],
    "many_fits": ["400 runs: 400 CONVERGED", "standard errors around the truth"],
    "penalty": ["Converged", "penalties chosen: [", "derivatives at the start: ["],
    "sparse_logistic": ["25 runs: 25 CONVERGED", "radius error", "of 189 rows that were not fitted are read rightly"],
    "portfolio": [
        "cost 1.28744321",
        "return: active, multiplier 9.127",
        "stocks: not active, multiplier 0.000",
        "respect to the return: 9.127",
        "a return of 1.2: INFEASIBLE",
        "of 15 returns can be had",
    ],
    "global_minimum": ["best of   50 starts", "cost 0.00: 2 starts"],
}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved, each looked at before."""
    saved: list[Figure] = []
    save: Callable[..., None] = Figure.savefig

    def look(figure: Figure, *arguments: Any, **options: Any) -> None:
        check(figure)
        saved.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", look)
    return saved


def run(name: str, *arguments: str) -> None:
    """Run a script as a user does, under JAX's own rules of promotion."""
    with jax.numpy_dtype_promotion("standard"):
        main = runpy.run_path(str(FOLDER / f"{name}.py"))["main"]
        main(list(arguments)) if arguments else main()


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in SCRIPTS])
def test_examples_run(name: str, tmp_path: Path, drawn: list[Figure], capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "made" / f"{name}.png"
    run(name, *() if name in WITHOUT_A_PICTURE else ("--quick", "--output", str(picture)))
    text = capsys.readouterr().out
    said = " ".join(text.split())
    for words in SAYS[name]:
        assert " ".join(words.split()) in said
    assert len(drawn) == (0 if name in WITHOUT_A_PICTURE else {"gradient_descent": 2}.get(name, 1))
    assert len(drawn) == len(list(tmp_path.glob(f"made/{name}*.png"))) == text.count("Picture")


@pytest.mark.slow
def test_one_command_runs_them_all(tmp_path: Path, drawn: list[Figure], capsys: pytest.CaptureFixture[str]) -> None:
    command = runpy.run_path(str(FOLDER))
    assert sorted(command["NAMES"]) == SCRIPTS
    with jax.numpy_dtype_promotion("standard"):
        command["main"](["quickstart", "classification", "--quick", "--output", str(tmp_path)])
    assert capsys.readouterr().out.count("== ") == 2 and len(drawn) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["classification.png"]
    with pytest.raises(SystemExit):
        command["main"](["regresion"])
    assert "no example is called regresion; there are quickstart, several_processes, gradient_descent" in capsys.readouterr().err


def test_the_index_has_every_script_and_every_picture() -> None:
    assert SCRIPTS == sorted(re.findall(r"^python examples/(\w+)\.py$", INDEX, flags=re.MULTILINE))
    assert [path.name for path in PICTURES] == sorted(re.findall(r"!\[[^]]{20,}\]\(pictures/(\w+\.png)\)", INDEX))
    for target in re.findall(r"\]\(([^)#:]+)\)", INDEX):
        assert (FOLDER / target).exists(), target


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_the_pictures_are_of_the_size_of_a_page(path: Path) -> None:
    height, width, _ = matplotlib.image.imread(path).shape
    assert 800 <= width <= 1000 and 400 <= height <= 700
    assert 10_000 < path.stat().st_size < 150_000


@pytest.mark.slow
def test_the_code_of_the_index_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", INDEX, flags=re.DOTALL)
    assert blocks
    with jax.numpy_dtype_promotion("standard"):
        for block in blocks:
            exec(compile(block, "examples/README.md", "exec"), {})
