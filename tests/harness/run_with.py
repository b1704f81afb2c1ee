"""Runs the harness with more variants than it has: python run_with.py '{"name": "target"}' FLAGS

Ends with status 70 if the parent has loaded a framework.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from harness.run import main
from harness.variants import EVERY_VARIANT, Variant


def variant_for_a_test(target: str | dict[str, str]) -> Variant:
    """A target is PyTorch's, unless it is a dict of targets by framework."""
    targets = target if isinstance(target, dict) else {"torch": target}
    return Variant(about="for a test", targets=targets)


def run(variants: dict[str, Any], arguments: list[str]) -> int:
    for name, target in variants.items():
        EVERY_VARIANT[name] = variant_for_a_test(target)
    status = main(arguments)
    return 70 if {"jax", "torch"} & sys.modules.keys() else status


if __name__ == "__main__":
    sys.exit(run(json.loads(sys.argv[1]), sys.argv[2:]))
