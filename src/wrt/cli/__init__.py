"""The command line: `wrt demo`, `wrt jacobian`, `wrt gradient`, `wrt explain`, `wrt export`, `wrt check`."""

from __future__ import annotations

import importlib.util
import sys


def main() -> None:
    """Run the command that `sys.argv` holds."""
    missing = [name for name in ("typer", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"The command line needs {' and '.join(missing)}: pip install 'wrt[cli]'")
    from wrt.cli.app import app

    app()
