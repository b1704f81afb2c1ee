"""A deliberate mistake: one place of one file, changed as somebody might change it by accident."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Breakage(NamedTuple):
    """`old`, which occurs once in the file at `path`, becomes `new`.

    `name` says what is broken. `caught_by` is the test file that should fail, or one test in it
    as `file::test`; it runs first.
    """

    name: str
    path: str
    old: str
    new: str
    caught_by: str

    @property
    def package(self) -> str:
        return self.path.partition("/")[0]


def broken_text(breakage: Breakage, text: str) -> str:
    """The text of the file with the mistake in it.

    Raises `ValueError` naming the breakage where the text does not have the place to change
    exactly once, or is no longer Python afterwards: code that cannot run proves nothing.
    """
    count = text.count(breakage.old)
    if count != 1:
        raise ValueError(f"{breakage.name}: expected `old` once in {breakage.path}, got {count}")
    changed = text.replace(breakage.old, breakage.new)
    try:
        compile(changed, breakage.path, "exec")
    except SyntaxError as error:
        raise ValueError(f"{breakage.name}: {breakage.path} does not compile: {error}") from error
    if changed == text:
        raise ValueError(f"{breakage.name}: `new` is the same as `old`")
    return changed


def table_errors(
    breakages: Sequence[Breakage], root: Path, test_folders: dict[str, tuple[str, ...]]
) -> list[str]:
    """What is wrong with the entries, a line each: they must follow changes of the code."""
    errors = []
    names = [breakage.name for breakage in breakages]
    for breakage in breakages:
        if names.count(breakage.name) > 1:
            errors.append(f"{breakage.name}: expected a name that no other entry has")
        folders = test_folders.get(breakage.package, ())
        if not any(Path(breakage.caught_by).is_relative_to(folder) for folder in folders):
            errors.append(
                f"{breakage.name}: expected `caught_by` in {' or '.join(folders)}, "
                f"got {breakage.caught_by}"
            )
        if not _exists(root, breakage.caught_by):
            errors.append(f"{breakage.name}: there is no {breakage.caught_by}")
        try:
            broken_text(breakage, (root / breakage.path).read_text())
        except (OSError, ValueError) as error:
            errors.append(str(error))
    return errors


def _exists(root: Path, caught_by: str) -> bool:
    file, _, test = caught_by.partition("::")
    if not (root / file).is_file():
        return False
    return not test or f"def {test}(" in (root / file).read_text()
