"""The guides run: every python block, and every piece of code in the columns "here" of their tables, in the order of the page.

The pages are those of `examples/` and the guide for contributors. The README is run by `test_docs`.
"""

import doctest
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

import jaxgd

ROOT = Path(__file__).parent.parent
FILES = [*sorted(ROOT.glob("examples/*.md")), ROOT / ".github" / "CONTRIBUTING.md"]
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in FILES}
HEAD = "| there | here |\n|---|---|\n"


def parts(name: str) -> Iterator[tuple[str, str]]:
    """What is run as one: a page or, of a page with tables of calls, each section after what stands before the first."""
    before, *sections = re.split(r"^## ", PAGES[name], flags=re.MULTILINE)
    if HEAD not in PAGES[name]:
        yield name, PAGES[name]
        return
    for section in sections:
        yield f"{name}-{section.splitlines()[0].lower().replace(' ', '_')}", before + section


PARTS = dict(part for name in PAGES for part in parts(name))


@pytest.fixture(autouse=True)
def standard_promotion() -> Iterator[None]:
    """What is shown to users runs under JAX's own rules."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def rows(table: str) -> Iterator[tuple[str, str]]:
    """The two cells of each row of a table that maps calls of others to calls of jaxgd."""
    if table.startswith(HEAD):
        for row in table.removeprefix(HEAD).splitlines():
            there, here = row.removeprefix("| ").removesuffix("|").split(" | ")
            yield there, here.strip()


def pieces(text: str) -> Iterator[str]:
    """The code of a text, in its order: whole blocks, and what stands between backticks in the columns "here"."""
    for block, table in re.findall(r"```python\n(.*?)```|^((?:\|[^\n]*\n)+)", text, flags=re.DOTALL | re.MULTILINE):
        if block:
            yield block
        for _, here in rows(table):
            yield from re.findall(r"`([^`]+)`", here)


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_every_piece_of_code_runs(part: str) -> None:
    namespace: dict[str, Any] = {}
    for code in pieces(PARTS[part]):
        try:
            exec(compile(code, part, "exec"), namespace)
        except Exception as error:
            raise AssertionError(f"this code of {part} does not run: {code}") from error


def test_every_row_has_an_answer() -> None:
    tables = re.findall(r"^((?:\|[^\n]*\n)+)", "\n".join(PAGES.values()), flags=re.MULTILINE)
    answers = [row for table in tables for row in rows(table)]
    assert len(answers) > 200
    for there, here in answers:
        assert here or there.startswith("**"), there


def test_the_pages_that_are_to_run_have_code() -> None:
    assert len(list(pieces(PAGES["guide"]))) >= 9
    assert len(list(pieces(PAGES["CONTRIBUTING"]))) >= 4


@pytest.mark.parametrize("page", ["guide", "benchmarks", "tuning", "comparison", "CONTRIBUTING"])
def test_every_status_in_a_table_exists(page: str) -> None:
    table_rows = re.findall(r"^\|.*$", PAGES[page], flags=re.MULTILINE)
    for status in re.findall(r"`([A-Z_]{5,})`", "\n".join(table_rows)):
        known = {*jaxgd.Status.__members__, *jaxgd.IntervalStatus.__members__}
        assert status in known or hasattr(jaxgd, status), status


def test_examples_in_the_docstrings_of_the_recipes_run() -> None:
    namespace: dict[str, Any] = {"__name__": "recipes"}
    for code in pieces(PAGES["CONTRIBUTING"]):
        exec(compile(code, "CONTRIBUTING", "exec"), namespace)
    recipes = [thing for thing in namespace.values() if inspect.isclass(thing) and thing.__module__ == "recipes"]
    assert {recipe.__name__ for recipe in recipes} == {"SmallUpdates", "Lion"}
    for recipe in recipes:
        test = doctest.DocTestParser().get_doctest(recipe.__doc__ or "", namespace, recipe.__name__, None, None)
        assert test.examples and doctest.DocTestRunner().run(test).failed == 0


def test_every_path_that_contributors_are_told_of_exists() -> None:
    paths = re.findall(r"`((?:jaxgd|tests|examples|\.ci|\.github)/[\w/.]*)`", PAGES["CONTRIBUTING"])
    assert len(paths) >= 20
    for path in paths:
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES)
def test_every_name_exists(page: str) -> None:
    for name in re.findall(r"jaxgd\.([A-Za-z_.]+[A-Za-z_])", PAGES[page]):
        target: Any = jaxgd
        for part in name.split("."):
            target = getattr(target, part)
