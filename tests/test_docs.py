"""Every Python block of the README and the documentation runs, and so does every example in a docstring."""

import doctest
import inspect
import re
from pathlib import Path
from unittest import mock

import pytest
from conftest import ENGINE

import wrt

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^```python[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ALONE = ["README.md", "docs/index.md"]  # each block as pasted
PAGES = ["docs/start.md"]  # one block after the other
PUBLIC = {name: value for name, value in vars(wrt).items() if name[0] != "_" and not inspect.ismodule(value)}
PUBLIC = {**PUBLIC, "AugNet": wrt.AugNet}  # which comes when it is asked for
del PUBLIC["TYPE_CHECKING"]
FUNCTIONS = [name for name, value in PUBLIC.items() if inspect.isfunction(value)]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(file: str) -> list[str]:
    """The Python blocks of a page, each at its own line so that a traceback points there."""
    text = (ROOT / file).read_text()
    return ["\n" * text.count("\n", 0, m.start(1)) + m.group(1) for m in FENCE.finditer(text)]


@pytest.fixture(autouse=True)
def _as_a_user(tmp_path, monkeypatch):
    """In a folder of one's own; what a page sets is forgotten."""
    monkeypatch.chdir(tmp_path)
    with mock.patch.dict("os.environ"):
        yield


@pytest.mark.parametrize(("file", "number"), [(file, number) for file in ALONE for number in range(len(blocks(file)))])
def test_block(file, number):
    run(file, [blocks(file)[number]])


if ENGINE == "torch":  # on JAX they run when the site is built

    @pytest.mark.parametrize("file", PAGES)
    def test_page(file):
        run(file, blocks(file))


def run(file: str, sources: list[str]) -> None:
    scope = {"__name__": "__main__"}
    assert sources
    for source in sources:
        exec(compile(source, str(ROOT / file), "exec"), scope)


def test_every_page_is_looked_at():
    pages = {str(p.relative_to(ROOT)) for p in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))}
    assert {page for page in pages if blocks(page)} == {*ALONE, *PAGES}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstring_example(name):
    found = doctest.DocTestFinder(recurse=False).find(PUBLIC[name], name, globs={})
    examples = [example for test in found for example in test.examples]
    assert examples, f"wrt.{name} has no example"
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    report: list[str] = []
    for test in found:
        runner.run(test, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


def test_a_wrong_block_fails():
    with pytest.raises(AssertionError):
        run("README.md", ["assert 1 == 2"])


def test_reference_is_complete():
    reference = (ROOT / "docs/reference.md").read_text()
    reference = reference.replace("wrt.maximize.ascend.maximize", "wrt.maximize")  # a package has the name as well
    assert set(re.findall(r"^::: wrt\.(\w+)$", reference, re.MULTILINE)) - {"errors", "rules"} == set(PUBLIC)


def test_every_module_is_described():
    page = (ROOT / "docs/architecture.md").read_text()
    package = ROOT / "src" / "wrt"
    modules = {str(p.relative_to(package)) for p in package.rglob("*.py") if p.name != "__init__.py"}
    assert set(re.findall(r"^\| `([\w/]+\.py)`", page, re.MULTILINE)) == modules | {"__init__.py"}
