"""`python -m harness.train.child MODULE FLAGS...`: a program that ends with whoever started it."""

from __future__ import annotations

import runpy
import sys

from harness.orphan import die_with_parent


def main() -> None:
    die_with_parent()
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
