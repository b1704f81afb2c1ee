"""Profiles of both frameworks in the same words: real ones of a CPU, made-up ones of a GPU."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.gpu_profiles.device_profile import (
    Event,
    copies_to_host,
    kernels,
    profile_jax,
    profile_torch,
    torch_events,
    xla_events,
)


def test_profile_of_jax():
    """Instructions of a step, in the order in which they ran."""
    import jax
    import jax.numpy as jnp

    array = jnp.ones((256, 256))
    compiled = jax.jit(lambda array: jnp.sin(jnp.sort(array @ array))).lower(array).compile()
    jax.block_until_ready(compiled(array))
    events = profile_jax(lambda: jax.block_until_ready(compiled(array)))
    (sort,) = [each for each in events if each.name.startswith("sort")]
    assert sort.place.startswith("/host:CPU ")
    assert 0 < sort.duration_s < 10
    assert 0 <= sort.start_s < 10
    assert not kernels(events) + copies_to_host(events)


def test_profile_of_torch():
    import torch

    matrix = torch.ones(64, 64)
    events = profile_torch(lambda: (matrix @ matrix).sin())
    (product,) = [each for each in events if each.name == "aten::mm"]
    (sine,) = [each for each in events if each.name == "aten::sin"]
    assert product.place.startswith("/host:CPU ")
    assert product.duration_s > 0
    assert 0 <= product.start_s < product.start_s + product.duration_s <= sine.start_s < 10
    assert not kernels(events) + copies_to_host(events)


def of_xla(name, start_ns=0.0, duration_ns=0.0):
    return SimpleNamespace(name=name, start_ns=start_ns, duration_ns=duration_ns, stats=[])


def profile(**planes):
    """Names of planes to names of lines to events."""
    return SimpleNamespace(
        planes=[
            SimpleNamespace(
                name=plane,
                lines=[SimpleNamespace(name=line, events=events) for line, events in lines.items()],
            )
            for plane, lines in planes.items()
        ]
    )


COPY = "MemcpyD2H", "MemcpyH2D", "MemcpyD2D", "Memset"
XLA_GPU = profile(
    **{
        "/device:GPU:0": {
            "Stream #7(Compute,MemcpyD2H,Memset)": [
                of_xla("gemm_fusion_dot_3", 2_000_000, 500_000),
                *map(of_xla, COPY),
            ],
            "Stream #13": [of_xla("loop_add_fusion")],
            # What some tools add, and CUPTI itself.
            "XLA Ops": [of_xla("gemm_fusion_dot.3")],
            "CUPTI overhead": [of_xla("Overhead")],
        },
        "/host:CUPTI": {"123": [of_xla("cuMemcpyDtoHAsync_v2")]},
    }
)


def of_torch(category, name, ts=2000.0, dur=0.0):
    args = {"device": 0, "stream": 7} if category.startswith(("kernel", "gpu")) else {}
    return {"ph": "X", "cat": category, "name": name, "ts": ts, "dur": dur, "tid": 7, "args": args}


TORCH_GPU = {
    "traceEvents": [
        {"ph": "M", "name": "process_name", "pid": 0, "args": {"name": "python"}},
        of_torch("cpu_op", "aten::addmm", 1000.0, 90.0),
        of_torch("cuda_runtime", "cudaMemcpyAsync", 1002.0),
        of_torch("kernel", "nvjet_sm90_tss_256x128_64x4", 1010.0, 500.0),
        of_torch("gpu_memcpy", "Memcpy DtoH (Device -> Pageable)"),
        of_torch("gpu_memcpy", "Memcpy HtoD (Pageable -> Device)"),
        of_torch("gpu_memset", "Memset (Device)"),
        of_torch("kernel", "void at::native::elementwise_kernel<128, 2>(int)"),
    ]
}


def test_gpu_in_a_profile_of_xla():
    events = list(xla_events(XLA_GPU))
    assert events[0] == Event("/device:GPU:0 Stream #7", "gemm_fusion_dot_3", 0.002, 0.0005)
    assert [each.name for each in kernels(events)] == ["gemm_fusion_dot_3", "loop_add_fusion"]
    assert [each.name for each in copies_to_host(events)] == ["MemcpyD2H"]


def test_gpu_in_a_profile_of_torch():
    events = list(torch_events(TORCH_GPU))
    place, name, *times = events[2]
    assert (place, name) == ("/device:GPU:0 Stream #7", "nvjet_sm90_tss_256x128_64x4")
    assert times == pytest.approx([1e-5, 5e-4])
    assert [each.name.split("<")[0] for each in kernels(events)] == [
        "nvjet_sm90_tss_256x128_64x4",
        "void at::native::elementwise_kernel",
    ]
    assert [each.name for each in copies_to_host(events)] == ["Memcpy DtoH (Device -> Pageable)"]
