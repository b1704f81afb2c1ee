"""Who imports whom, seen in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.conformance.runner import device_environment

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

# What the losses do not need, though the tests, the harness or a module beside them may.
OPTIONAL = {"flax", "optax", "orbax", "transformers", "absl", "rich", "matplotlib"}

ALONE = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1:]))  # None: to import it raises ModuleNotFoundError
"""

JAX_ALONE = """
import jax, jax.numpy as jnp
from jax_impl import linear_cross_entropy
hidden, weight, labels = jnp.ones((4, 8)), jnp.zeros((32, 8)), jnp.arange(4)
loss, gradient = jax.value_and_grad(linear_cross_entropy, 1)(hidden, weight, labels)
print(loss, gradient.shape)
"""

TORCH_ALONE = """
import torch
from torch_impl import linear_cross_entropy
hidden, weight = torch.ones(4, 8), torch.zeros(32, 8, requires_grad=True)
loss = linear_cross_entropy(hidden, weight, torch.arange(4))
loss.backward()
print(loss.item(), weight.grad.shape)
"""


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports(package, pytestconfig):
    """Every module of the package loaded."""
    loaded = set(_run(pytestconfig, LOAD_ALL, package).split())
    assert package in loaded
    assert not loaded & FORBIDDEN[package]


@pytest.mark.parametrize(
    ("package", "program"), [("jax_impl", JAX_ALONE), ("torch_impl", TORCH_ALONE)]
)
def test_loss_needs_its_own_framework_alone(package, program, pytestconfig):
    """Where importing anything else fails, as where it is not installed."""
    said = _run(pytestconfig, ALONE + program, *sorted(FORBIDDEN[package] | OPTIONAL))
    assert said.startswith("3.46")  # log 32


def _run(pytestconfig, program, *arguments):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        cwd=pytestconfig.rootpath,
        env=os.environ | device_environment("cpu"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
