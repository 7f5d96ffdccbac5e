"""Hooks of MkDocs: every script of examples/ becomes a page, its text and its code."""

from pathlib import Path
from typing import Any

import jupytext
from mkdocs.structure.files import File, Files

EXAMPLES = Path(__file__).parents[1] / "examples"


def on_files(files: Files, config: Any) -> Files:
    """Add `examples/NAME.md` for every `examples/NAME.py`."""
    for path in sorted(EXAMPLES.glob("*.py")):
        files.append(File.generated(config, f"examples/{path.stem}.md", content=page(path)))
    return files


def page(path: Path) -> str:
    """The cells of a script in percent format as Markdown; links into docs/ work from either place."""
    cells = jupytext.read(path, fmt="py:percent").cells
    parts = [cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```" for cell in cells]
    return "\n\n".join(parts).replace("](../docs/", "](../") + "\n"
