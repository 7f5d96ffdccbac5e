"""torch programs: reading their files."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from wrt.errors import EngineNotInstalledError, FileError


def read(path: Path, trust: bool) -> Any:
    """The module in a `.pt2` file of `torch.export`; only a trusted one, for loading it unpickles.

    Raises:
        FileError: not trusted, not such a file, or exported for one number of samples only.
        EngineNotInstalledError: torch is missing.
    """
    if not trust:
        raise FileError(
            f"{path}: loading a .pt2 file unpickles, which can run any code; if you trust where it comes from, "
            "pass trust=True (on the command line --trust)"
        )
    if importlib.util.find_spec("torch") is None:
        raise EngineNotInstalledError("reading a .pt2 file needs torch, which is missing: pip install 'wrt[torch]'")
    import torch

    try:
        program = torch.export.load(path)
    except Exception as error:  # torch raises whatever it meets
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise FileError(f"{path}: torch.export cannot read it, it may be cut off or damaged ({reason})") from error
    _check_batch(path, program)
    return program.module()


def _check_batch(path: Path, program: Any) -> None:
    inputs = set(program.graph_signature.user_inputs)
    values = [node.meta.get("val") for node in program.graph.nodes if node.name in inputs]
    fixed = {v.shape[0] for v in values if getattr(v, "ndim", 0) and isinstance(v.shape[0], int)}
    if fixed:
        raise FileError(
            f"{path}: exported for {min(fixed)} sample(s) at a time; export it for any number, with "
            "torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim('n')},)) and two samples or more"
        )
