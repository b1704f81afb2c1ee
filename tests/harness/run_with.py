"""Runs the harness with more variants than it has: python run_with.py '{"name": "target"}' FLAGS

A target is PyTorch's, unless it is a dict of targets by framework.

Ends with status 70 if the parent has loaded a framework.
"""

from __future__ import annotations

import json
import os
import resource
import sys

from harness.run import main
from harness.variants import EVERY_VARIANT, Variant

if __name__ == "__main__":
    if limit := int(os.environ.get("HARNESS_TEST_FILE_LIMIT", 0)):
        # Too little for a large float64 gradient; the report must still fit.
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    for name, target in json.loads(sys.argv[1]).items():
        targets = target if isinstance(target, dict) else {"torch": target}
        EVERY_VARIANT[name] = Variant(about="for a test", targets=targets)
    status = main(sys.argv[2:])
    sys.exit(70 if {"jax", "torch"} & sys.modules.keys() else status)
