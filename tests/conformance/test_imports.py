"""Who imports whom, seen in a fresh process with every module of the package loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

FORBIDDEN = {
    "loss_spec": {"jax", "torch", "jax_impl", "torch_impl", "harness"},
    "jax_impl": {"torch", "torch_impl", "harness"},
    "torch_impl": {"jax", "jax_impl", "harness"},
}

LOAD_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, sys.argv[1] + "."):
    importlib.import_module(module.name)
print(*{name.partition(".")[0] for name in sys.modules})
"""


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports(package, pytestconfig):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LOAD_ALL, package],
        cwd=pytestconfig.rootpath,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert package in loaded
    assert not loaded & FORBIDDEN[package]
