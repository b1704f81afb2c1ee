"""XLA's compiler for an H100, which needs none: what it makes of a program, and no time.

It comes with the packages jax-cuda12-pjrt and jax-cuda12-plugin (or 13), without any other of
CUDA's. Matmuls are those that it takes untuned: tuning would run them.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import jax
import jaxlib
from jax.experimental import topologies

PLUGINS = ("jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13")

# What the compiler asks a device for, as an H100 with 80 GB answers.
_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  device_memory_size: 84929347584
  clock_rate_ghz: 1.98
  cuda_compute_capability { major: 9 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 }
runtime_version { major: 12 minor: 9 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""

_OF_A_FUSION = re.compile(r"\s*%(fused|[\w.-]*_computation)")
_SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
# An instruction that has a buffer of its own: views and parameters have that of another.
_MADE = re.compile(r"^ *(?:ROOT )?%[\w.-]+ = (?P<shape>[^(]*?|\(.*?\)) (?P<operation>[\w-]+)\(")
_VIEWS = ("parameter", "get-tuple-element", "tuple", "bitcast", "while", "constant")


def is_here() -> bool:
    """Whether the compiler is installed: `.ci/gpu_compiler` does that."""
    return any(_is_installed(plugin) for plugin in PLUGINS)


@contextmanager
def traced_for_a_gpu() -> Iterator[None]:
    """Our losses ask JAX what they are traced for; what was traced for the CPU is forgotten."""
    jax.clear_caches()
    with mock.patch.object(jax, "default_backend", return_value="gpu"):
        yield
    jax.clear_caches()


def compile_for_h100(function: Any, *arrays: Any) -> Any:
    """The compiled program; arrays are `jax.ShapeDtypeStruct`s, or trees of them.

    Inside `traced_for_a_gpu`.
    """
    sharding = jax.sharding.SingleDeviceSharding(_topology().devices[0])
    there = jax.tree.map(
        lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding), arrays
    )
    return jax.jit(function).lower(*there).compile(compiler_options={"xla_gpu_autotune_level": "0"})


def buffers(compiled: Any) -> list[tuple[str, tuple[int, ...]]]:
    """Dtype and shape of what each instruction outside of fusions makes."""
    found = []
    for computation in compiled.as_text().split("\n\n"):
        if _OF_A_FUSION.match(computation):
            continue  # it keeps what it makes in registers
        for line in computation.splitlines():
            made = _MADE.match(line)
            if made is not None and made["operation"] not in _VIEWS:
                found += [
                    (dtype, tuple(int(size) for size in sizes.split(",") if size))
                    for dtype, sizes in _SHAPE.findall(made["shape"])
                ]
    return found


@functools.cache
def _topology() -> Any:
    return topologies.get_topology_desc(platform="cuda", target_config=_H100, topology="1x1x1")


def _is_installed(plugin: str) -> bool:
    try:
        return importlib.util.find_spec(plugin) is not None
    except ModuleNotFoundError:  # there are no plugins at all
        return False


def assigned_bytes(target: Any, shape: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Workspace and gradients of loss and gradients of a target at a `harness.cases.Shape`."""
    tokens = shape.batch_size, shape.seq_len

    def step(hidden: Any, weight: Any, labels: Any) -> Any:
        loss = functools.partial(target, labels=labels, **options)
        return jax.value_and_grad(loss, argnums=(0, 1))(hidden, weight)

    compiled = compile_for_h100(
        step,
        jax.ShapeDtypeStruct((*tokens, shape.hidden_dim), shape.dtype),
        jax.ShapeDtypeStruct((shape.vocab_size, shape.hidden_dim), shape.dtype),
        jax.ShapeDtypeStruct(tokens, "int32"),
    )
    sizes = compiled.memory_analysis()
    made = sizes.temp_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return {
        "workspace_bytes": made - shape.gradients_bytes,
        "gradients_bytes": shape.gradients_bytes,
        "compiler": {"jax": jax.__version__, "jaxlib": jaxlib.__version__},
    }
