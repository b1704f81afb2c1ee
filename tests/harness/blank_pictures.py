"""Pictures of one pixel, for tests that are not about pictures: drawing takes most of a report."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63f8ffff3f0005fe02fe0def46b80000000049454e44ae426082"
)


def draw_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Figure, "savefig", _save_pixel)


def _save_pixel(figure: Figure, path: Path, **_: object) -> None:
    Path(path).write_bytes(_PIXEL)
