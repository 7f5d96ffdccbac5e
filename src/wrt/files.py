"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from wrt.errors import FileError


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary file beside `path`, which takes its place at the end; `path` is whole or untouched.

    The temporary file is made at once, so that a folder that cannot be written is found before anything is computed.

    Raises:
        FileError: a folder that is missing or cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise FileError(f"{path}: is a folder; expected the name of a file")
    part = _beside(path)
    try:
        with failures_of(path):
            part.touch()
        yield part
        with failures_of(path):
            _put_in_place(part, path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike[str], mark: str) -> Iterator[Path]:
    """Yields a temporary folder beside `path`, which takes its place at the end.

    A folder that is there already is replaced only where it is empty or holds a file `mark`: one of the same kind.

    Raises:
        FileError: `path` is something else, or its folder is missing or cannot be written.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise FileError(f"{path}: is a file; expected the name of a folder")
    if path.is_dir() and any(path.iterdir()) and not (path / mark).exists():
        raise FileError(f"{path}: is a folder that holds other things; choose another name")
    part, old = _beside(path), _beside(path, ".old")
    try:
        with failures_of(path):
            part.mkdir()
        yield part
        with failures_of(path):
            _exchange(part, path, old)
    finally:
        for rest in (part, old):
            shutil.rmtree(rest, ignore_errors=True)


@contextlib.contextmanager
def joined_folder(path: str | os.PathLike[str], names: Sequence[str], ours: Collection[str] = ()) -> Iterator[Path]:
    """Yields a temporary folder, whose files take their places in the folder `path` at the end; `names` may be there.

    What else is in the folder stays, but for those of `ours`, an earlier run, that are not written again.

    Raises:
        FileError: a file of one of these names is there and not ours; `path` is a file, or its folder is missing or
            cannot be written.
    """
    path = Path(path) if Path(path).name else Path(path).resolve()
    if path.exists() and not path.is_dir():
        raise FileError(f"{path}: is a file; expected the name of a folder")
    for name in names:
        if name not in ours and (path / name).exists():
            raise FileError(f"{path / name}: is there already and of no earlier run; choose another folder")
    part = _beside(path)
    try:
        with failures_of(path):
            part.mkdir()
        yield part
        with failures_of(path):
            path.mkdir(exist_ok=True)
            written = [name for name in names if (part / name).exists()]
            for name in written:
                os.replace(part / name, path / name)
            for name in {*ours} - {*written}:
                (path / name).unlink(missing_ok=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _exchange(part: Path, path: Path, old: Path) -> None:
    if not path.exists():
        part.rename(path)
        return
    path.rename(old)
    try:
        part.rename(path)
    except OSError:
        old.rename(path)
        raise


def _beside(path: Path, ending: str = "") -> Path:
    if not path.parent.is_dir():
        raise FileError(f"{path}: there is no folder {str(path.parent)!r}; make it first")
    return path.with_name(f".{os.getpid()}.{path.name}{ending}")


@contextlib.contextmanager
def failures_of(path: Path) -> Iterator[None]:
    """What goes wrong while `path` is written, as an error that names it."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileError(f"{path}: cannot be written ({reason})") from error


def _put_in_place(part: Path, path: Path) -> None:
    if part.stat().st_size == 0:
        return  # nothing was written
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
