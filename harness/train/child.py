"""`python -m harness.train.child FRAMEWORK FILE FLAGS...`: trains, then measures one more step.

Runs the example of the framework with the flags, and writes the memory of a training step
into the file. The process ends with whoever started it.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from harness.durable import write_whole
from harness.json_lines import line_of
from harness.orphan import die_with_parent
from harness.train.step_memory import MEASURES

EXAMPLES = {"torch": "examples.train_torch", "jax": "examples.train_flax"}


def main() -> None:
    die_with_parent()
    _, framework, memory_file, *flags = sys.argv
    example = importlib.import_module(EXAMPLES[framework])
    sys.argv[0] = str(example.__file__)  # whom a usage message names
    memory = MEASURES[framework](*example.main(flags))
    write_whole(Path(memory_file), line_of(memory.to_json()))


if __name__ == "__main__":
    main()
