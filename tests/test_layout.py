"""The shape of the package: imports point one way, files stay short, `import wrt` is quick and imports no framework."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "wrt"
FILES = sorted(p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py"))

GROUND = {"errors", "files", "progress", "rules", "select", "trees", "types"}
KERNEL = GROUND | {"engines", "derive"}
MAY_IMPORT = {
    "errors": set(),
    "files": {"errors"},
    "trees": {"errors"},
    "types": {"errors"},
    "select": {"errors"},
    "rules": {"errors"},
    "progress": {"errors"},
    "engines": GROUND,
    "derive": GROUND | {"engines", "results"},
    "models": KERNEL,
    "methods": KERNEL | {"results"},
    "maximize": KERNEL | {"results"},
    "analysis": KERNEL | {"results", "slices", "summary"},
    "results": {"errors", "trees"},
    "slices": {"errors"},
    "summary": {"errors", "plots"},  # it draws itself, when asked
    "plots": {"errors", "results", "slices", "summary"},
    "testing": KERNEL | {"", "methods"},
    "io": GROUND | {"models"},
    "__main__": {"cli"},
    "cli": {"", "demo", "errors", "io", "plots", "progress"},
    "demo": {"", "errors", "io", "plots", "progress"},
}
FRAMEWORKS = {"equinox", "flax", "jax", "keras", "tensorflow", "torch"}
ENGINE_NAMES = {"jax", "torch", "tensorflow"}
MEET_FRAMEWORKS = {"engines", "models", "testing", "cli", "demo"}
SLOW = {*FRAMEWORKS, "PIL", "matplotlib", "onnx", "onnxruntime", "rich", "scipy", "sklearn", "typer"}
KERNEL_FILE = "derive/compress.py"
TIMES = 3.5  # what importing NumPy takes, which wrt needs: 0.3 s or so


def part_of(file: str) -> str:
    """`"engines"` for `"engines/jax.py"`, `"errors"` for `"errors.py"`, `""` for the façade."""
    first = file.split("/")[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imported(tree: ast.AST) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            parts = [f"wrt.{a.name}" for a in node.names if node.module == "wrt" and a.name in MAY_IMPORT]
            names += parts or [node.module]
    return names


def wrong_imports(file: str, source: str) -> list[str]:
    """What `file` imports against the rules."""
    part = part_of(file)
    wrong = []
    for name in imported(ast.parse(source)):
        root, _, rest = name.partition(".")
        if root == "wrt":
            target = rest.split(".")[0]
            wrong += [name] if target != part and part != "" and target not in MAY_IMPORT[part] else []
        elif root in FRAMEWORKS and part not in MEET_FRAMEWORKS:
            wrong.append(name)
    return wrong


def engines_told_apart(file: str, source: str) -> list[int]:
    """Lines outside the engines that compare something with an engine's name."""
    if part_of(file) in MEET_FRAMEWORKS:
        return []
    compares = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Compare)]
    return [
        node.lineno
        for node in compares
        if any(isinstance(c, ast.Constant) and c.value in ENGINE_NAMES for c in ast.walk(node))
    ]


def primitive_calls(file: str, source: str) -> list[int]:
    """Lines of `derive/` that call `push` or `pull` outside the kernel."""
    if part_of(file) in {"engines", "testing"} or file == KERNEL_FILE:
        return []
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [c.lineno for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr in {"push", "pull"}]


RULES = {
    "imports": wrong_imports,
    "engines told apart": engines_told_apart,
    "push and pull outside the kernel": primitive_calls,
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("file", map(str, FILES))
def test_rules(rule, file):
    assert RULES[rule](file, (PACKAGE / file).read_text()) == []


@pytest.mark.parametrize(
    ("rule", "file", "source", "found"),
    [
        ("imports", "derive/new.py", "import jax.numpy as jnp", ["jax.numpy"]),
        ("imports", "derive/new.py", "def f():\n    from torch import nn", ["torch"]),
        ("imports", "engines/new.py", "from wrt.derive.run import run", ["wrt.derive.run"]),
        ("imports", "models/new.py", "from wrt import methods", ["wrt.methods"]),
        ("imports", "cli.py", "from wrt.engines import registry", ["wrt.engines"]),
        ("imports", "derive/new.py", "import wrt", ["wrt"]),
        ("imports", "derive/new.py", "from wrt.engines.base import Engine", []),
        ("engines told apart", "derive/new.py", "if engine.name == 'jax':\n    pass", [1]),
        ("engines told apart", "derive/new.py", "ok = name in ('torch', 'mine')", [1]),
        ("engines told apart", "derive/new.py", "name = 'jax'", []),
        ("push and pull outside the kernel", "derive/new.py", "engine.pull(f, x)", [1]),
        ("push and pull outside the kernel", KERNEL_FILE, "engine.pull(f, x)", []),
    ],
)
def test_the_rules_find_what_they_forbid(rule, file, source, found):
    assert RULES[rule](file, source) == found


def test_the_kernel_calls_both_primitives():
    calls = ast.walk(ast.parse((PACKAGE / KERNEL_FILE).read_text()))
    assert {c.attr for c in calls if isinstance(c, ast.Attribute)} >= {"push", "pull"}


def test_every_part_has_a_rule():
    assert {part_of(str(file)) for file in FILES} - {""} <= set(MAY_IMPORT)


@pytest.mark.parametrize("file", map(str, FILES))
def test_length(file):
    limit = 250 if part_of(file) == "engines" else 400
    assert len((PACKAGE / file).read_text().splitlines()) <= limit


def test_the_facade_holds_no_logic():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    rest = [node for node in tree.body[1:] if not isinstance(node, (ast.ImportFrom, ast.Assign))]
    assert ast.get_docstring(tree)
    lazy, late = rest  # what needs Keras: for type checkers, and when it is asked for
    assert isinstance(lazy, ast.If)
    assert lazy.test.id == "TYPE_CHECKING"
    assert isinstance(late, ast.FunctionDef)
    assert late.name == "__getattr__"


def test_import_imports_no_framework():
    script = f"import sys, wrt; print(*sorted({SLOW!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_import_is_quick(tmp_path):
    codes = ("pass", "import numpy", "import wrt")
    for code in codes:  # compile what is imported, as the first start does
        seconds(code, tmp_path)
    bare, numpy, loaded = (min(seconds(code, tmp_path) for _ in range(7)) for code in codes)
    assert numpy < loaded
    assert loaded - bare < TIMES * (numpy - bare)


def seconds(code: str, folder: Path) -> float:
    """Processor time of a fresh interpreter: other work on the machine does not count, nor does compiling Python."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder), "PYTHONDONTWRITEBYTECODE": ""}
    before = os.times()
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system
