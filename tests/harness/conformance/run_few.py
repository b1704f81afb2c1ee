"""Runs the conformance command with few cases: python -m tests.harness.conformance.run_few FLAGS"""

from __future__ import annotations

import sys

from harness.conformance import __main__ as command
from harness.conformance import matrix
from harness.conformance.cases import CASES

FEW = {name: CASES[name] for name in ("float32, mean", "bias", "label V", "return_aux")}

if __name__ == "__main__":
    command.CASES = matrix.CASES = FEW
    sys.exit(command.main(sys.argv[1:]))
