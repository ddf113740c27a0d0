"""The English of docstrings and messages: first sentences, their length, and turns of phrase that have to be read twice."""

import ast
import re
from pathlib import Path

import pytest

import jaxgd

FILES = sorted(Path(jaxgd.__path__[0]).rglob("*.py"))
NOUN = r"(The|A|An|What|Those|Of|Whether|How|Where|Which|Some|So|All)\b"  # how an imperative does not begin
BANNED = r"\b(so many|in the place of|of one's own|has come to|(of|by) (NumPy|JAX|Python|tqdm|matplotlib|Optax)'s)\b"


def docstrings(tree: ast.Module) -> list[tuple[str, str, bool]]:
    """The name, the docstring on one line, and whether it is that of a function, of all that a file defines."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and (text := ast.get_docstring(node)):
            decorators = " ".join(map(ast.unparse, getattr(node, "decorator_list", [])))
            is_function = isinstance(node, ast.FunctionDef) and "property" not in decorators
            found.append((getattr(node, "name", "the file"), " ".join(text.split()), is_function))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_docstrings_and_messages_read_well(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for name, text, is_function in docstrings(tree):
        first = re.split(r"(?<=[.:?!])\s", text)[0]
        assert len(first.split()) <= 20 or name == "the file", (name, first)
        assert not re.match(r"(What|Where|Which|Those|Of)\b", first), (name, first)
        assert not (is_function and re.match(NOUN, first)), (name, first)
        assert not re.search(BANNED, text), (name, re.search(BANNED, text))
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise):
            texts = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            assert not re.search(BANNED, " ".join(texts)), texts
