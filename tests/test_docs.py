"""The README and the docstrings run, the links of all pages lead somewhere; the package is laid out as it says."""

import ast
import dataclasses
import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from typing import Any

import jax
import pytest

import jaxgd

ROOT = Path(__file__).parent.parent
FILES = [ROOT / "README.md", *ROOT.glob("examples/*.md"), *ROOT.glob(".github/*.md")]
PAGES = {str(page.relative_to(ROOT)): page for page in FILES}
TEXTS = {name: page.read_text(encoding="utf-8") for name, page in PAGES.items()}
README = TEXTS["README.md"]
PACKAGES = ["jaxgd", *(module.name for module in pkgutil.walk_packages(jaxgd.__path__, "jaxgd.") if module.ispkg)]
MODULES = ["jaxgd", *(module.name for module in pkgutil.walk_packages(jaxgd.__path__, "jaxgd."))]


@pytest.fixture(autouse=True)
def standard_promotion() -> Any:
    """What is shown to users runs under JAX's own rules."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def test_every_code_block_of_the_readme_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) >= 7
    namespace: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)


def test_every_call_in_the_readmes_tables_names_what_exists() -> None:
    for name in re.findall(r"jaxgd\.([A-Za-z_.]+[A-Za-z_])", README):
        target: Any = jaxgd
        for part in name.split("."):
            target = getattr(target, part)
    rows = re.findall(r"^\|.*$", README, flags=re.MULTILINE)
    for status in re.findall(r"`([A-Z_]{5,})`", "\n".join(rows)):
        assert status in jaxgd.Status.__members__ or hasattr(jaxgd, status)
    assert {status.name for status in jaxgd.Status} - {"RUNNING"} <= set(re.findall(r"`([A-Z_]+)`", README))


def test_the_readme_is_short_and_has_the_commands_of_ci() -> None:
    assert len(README.splitlines()) <= 200
    commands = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    for program in ("examples/quickstart.py", "pytest"):
        assert "".join(commands).count(program) == 1


def anchors(text: str) -> set[str]:
    """What the headings of a page can be linked by."""
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", outside, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", re.sub(r"\]\([^)]*\)", "", title)).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", PAGES)
def test_every_link_between_pages_leads_somewhere(name: str) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]+))?\)", re.sub(r"`[^`\n]+`", "", TEXTS[name])):
        path = (PAGES[name].parent / target).resolve() if target else PAGES[name]
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), (target, anchor)


def test_every_page_is_linked_from_the_readme_and_from_the_index() -> None:
    for start in ("README.md", "examples/README.md"):
        linked = {(PAGES[start].parent / target).resolve() for target in re.findall(r"\]\(([^)#:\s]+\.md)\)", TEXTS[start])}
        for name, page in PAGES.items():
            wanted = name.startswith("examples/") or start == "README.md"
            assert page.resolve() in linked or name == start or not wanted, (start, name)


@pytest.mark.sweep(keep=8)
@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str) -> None:
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for example in doctest.DocTestFinder().find(importlib.import_module(name)):
        runner.run(example, clear_globs=False)  # an equal cost of another docstring may be traced again
    assert runner.summarize(verbose=False).failed == 0


PUBLIC = [
    (f"{module.__name__}.{name}", getattr(module, name))
    for module in (
        *(jaxgd, jaxgd.compat, jaxgd.data, jaxgd.penalties, jaxgd.plot),
        *(jaxgd.schedules, jaxgd.stopping, jaxgd.transforms),
    )
    for name in module.__all__
    if not inspect.ismodule(getattr(module, name))
]
TO_DERIVE_FROM = {"jaxgd.schedules.Schedule", "jaxgd.stopping.StoppingRule"}


@pytest.mark.parametrize("name, thing", PUBLIC, ids=[name for name, _ in PUBLIC])
def test_every_public_name_is_documented_to_the_template(name: str, thing: Any) -> None:
    text = inspect.getdoc(thing) or ""
    assert re.match(r"[^\n]{20,}[.:,]", text) and (">>>" in text or name in TO_DERIVE_FROM)
    if inspect.isfunction(thing) and name != "jaxgd.pytree":
        for section in ("Args:", "Returns:", "Raises:"):
            assert section in text, section
        for parameter in inspect.signature(thing).parameters:
            assert re.search(rf"^    {parameter}: ", text, flags=re.MULTILINE), parameter
    elif inspect.isclass(thing) and dataclasses.is_dataclass(thing):
        for field in dataclasses.fields(thing):
            assert field.name == "steps_per_epoch" or re.search(rf"^    {field.name}: |`([a-z]+\.)?{field.name}\b", text, re.M), (
                field
            )


LAYERS = (
    "_trees _products _text _deprecated _derivatives _shards status",
    "_checks",
    "_compile",
    "bounds squares penalties transforms _frozen schedules starts _sobol data",
    "_marks constraints _persistent",
    "result",
    "stopping methods callbacks average",
    "_objective _run checkpoint",
    "_nonfinite _problem _outcome _tuning _chunked _chosen _constrained _estimators _functions",
    "uncertainty _propagation _minimize _fit _many _least_squares",
    "_diagnosis _check _penalty_path sweep tutorials",
    "_covariances _profiles _bootstrap",
    "compat plot",
)  # the names in jaxgd, from below


def test_data_flow_one_way() -> None:
    """A file imports from its own layer and those below; no file imports one that, directly or not, imports it."""
    layer = {name: k for k, names in enumerate(LAYERS) for name in names.split()}
    imports: dict[str, set[str]] = {}
    for name in MODULES:
        source = Path(inspect.getfile(importlib.import_module(name))).read_text(encoding="utf-8")
        froms = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.module]
        targets = {f"{node.module}.{alias.name}" for node in froms for alias in node.names} | {str(node.module) for node in froms}
        imports[name] = {target for target in targets & set(MODULES) if target not in PACKAGES}
        below = {layer[target.split(".")[1]] for target in imports[name]} if name != "jaxgd" else set()
        assert all(k <= layer[name.split(".")[1]] for k in below), (name, imports[name])
    while imports:
        bottom = {name for name, targets in imports.items() if not targets & imports.keys()}
        assert bottom, f"a circle of imports among {sorted(imports)}"
        imports = {name: targets for name, targets in imports.items() if name not in bottom}


def test_the_top_of_the_tree_holds_what_was_agreed() -> None:
    agreed = {"pyproject.toml", "jaxgd", "tests", "examples", "README.md"}
    built = {"build", "jaxgd.egg-info"}  # what an installation leaves
    assert {path.name for path in ROOT.iterdir() if not path.name.startswith(".")} - built == agreed
