"""Writes that are done in full or not at all, whatever the disk or a kill does to them."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


def write_whole(path: Path, content: bytes) -> None:
    """Puts a file in place by its name: a kill leaves all of it or nothing."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb", buffering=0) as file:
            _write(file, content)
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise


def append_line(path: Path, line: bytes) -> None:
    """Adds the line, through to the disk; raises `OSError` and takes it back if it does not fit."""
    with path.open("ab+", buffering=0) as file:
        size = file.tell()
        try:
            _write(file, line if _ends_a_line(file) else b"\n" + line)
        except OSError:
            with suppress(OSError):
                file.truncate(size)
            raise


def write_elsewhere(name: str, content: bytes) -> Path | None:
    """A new file in the temporary directory, None where that takes none either."""
    try:
        handle, path = tempfile.mkstemp(prefix=f"{name}-", suffix=".jsonl")
    except OSError:
        return None
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            _write(file, content)
    except OSError:
        with suppress(OSError):
            os.unlink(path)
        return None
    return Path(path)


def _ends_a_line(file: BinaryIO) -> bool:
    """Whether what comes next stands on a line of its own: a kill may have cut the last short."""
    if file.tell() == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _write(file: BinaryIO, content: bytes) -> None:
    # Unbuffered, so that no rest waits for the file to be closed; a full disk takes a part first.
    while content:
        content = content[file.write(content) :]
    os.fsync(file.fileno())
