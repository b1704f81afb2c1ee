"""What the commands load: a framework in no parent, and a plotting library only to draw.

What a module must not load is what would be slow, or would take memory and threads from a worker.
"""

from __future__ import annotations

import json
import subprocess
import sys

from tests.harness.conftest import ROOT

FRAMEWORKS = ("jax", "jaxlib", "torch", "jax_impl", "torch_impl")
SLOW_TO_LOAD = ("matplotlib", "jinja2")
PYPLOT = ("matplotlib.pyplot",)  # has global state

# In this order: what comes later may load more.
MUST_NOT_LOAD = {
    "harness.run": (*FRAMEWORKS, *SLOW_TO_LOAD),
    "harness.tune": (*FRAMEWORKS, *SLOW_TO_LOAD),
    "harness.check": (*FRAMEWORKS, *SLOW_TO_LOAD),
    "harness.compare.__main__": (*FRAMEWORKS, *SLOW_TO_LOAD),
    "harness.conformance.__main__": (*FRAMEWORKS, *SLOW_TO_LOAD),
    "harness.causal_lm.__main__": (*FRAMEWORKS, *SLOW_TO_LOAD),
    "harness.report": (*FRAMEWORKS, *SLOW_TO_LOAD),
    "harness.report.__main__": (*FRAMEWORKS, *SLOW_TO_LOAD),
    "harness.report.tables": (*FRAMEWORKS, *SLOW_TO_LOAD),
    "harness.report.tune": (*FRAMEWORKS, *SLOW_TO_LOAD),
    "harness.report.html": (*FRAMEWORKS, *PYPLOT),
    "harness.report.summary": (*FRAMEWORKS, *PYPLOT),
    "harness.report.plots": (*FRAMEWORKS, *PYPLOT),
    "harness.report.anatomy_peak_plot": (*FRAMEWORKS, *PYPLOT),
    "harness.report.anatomy_timeline_plot": (*FRAMEWORKS, *PYPLOT),
    "harness.report.frontier_plot": (*FRAMEWORKS, *PYPLOT),
}

PROGRAM = """
import importlib, json, sys
must_not_load = json.loads(sys.argv[1])
for module, names in must_not_load.items():
    importlib.import_module(module)
    if loaded := sorted(set(names) & set(sys.modules)):
        sys.exit(f"{module} loads {', '.join(loaded)}")
"""


def test_imports() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(MUST_NOT_LOAD)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stderr.strip()) == (0, "")
