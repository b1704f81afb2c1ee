"""What holds of the memory of every record."""

from __future__ import annotations

from typing import Any


def check_sums(memory: dict[str, Any]) -> None:
    assert memory["probe"] == memory["readings"][0]["probe"]
    assert memory["peak_bytes"] == memory["inputs_bytes"] + memory["additional_bytes"]
    assert memory["additional_bytes"] == memory["gradients_bytes"] + memory["workspace_bytes"]
    if (xla := memory["xla"]) is not None:
        assert memory["peak_bytes"] == xla["argument"] + xla["output"] + xla["temp"] - xla["alias"]
