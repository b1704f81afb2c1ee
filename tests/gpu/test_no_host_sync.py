"""Between its launch and its end the loss never makes the host wait for the GPU.

PyTorch raises where an operator would; in JAX a program that decides by a number has it
copied to the host.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tests.gpu import jax_steps
from tests.gpu.own_process import in_own_process
from tests.gpu.torch_steps import make_arrays, make_step
from tests.gpu_profiles.device_profile import copies_to_host, kernels

SHAPE = NUM_TOKENS, HIDDEN_DIM, VOCAB_SIZE = 1000, 256, 5000
CHUNKS = {"vocab_chunk": 999, "token_chunk": 300}  # several, and a rest
STRATEGIES = ("two_pass", "one_pass")
EVERYTHING = {
    "label_smoothing": 0.1,
    "logit_scale": 0.5,
    "logit_softcap": 30.0,
    "z_loss": 1e-3,
    "class_weight": np.linspace(0.5, 2, VOCAB_SIZE, dtype=np.float32),
    "token_weight": np.linspace(0, 2, NUM_TOKENS, dtype=np.float32),
    "return_aux": True,
}
CALLS = {
    "plan": {},
    **{strategy: {"strategy": strategy, **CHUNKS} for strategy in STRATEGIES},
    **{f"{each}, all": {"strategy": each, **CHUNKS, **EVERYTHING} for each in STRATEGIES},
    "none": {"reduction": "none", **CHUNKS},
}
every_call = pytest.mark.parametrize("options", CALLS.values(), ids=CALLS)
every_dtype = pytest.mark.parametrize("dtype", ["bfloat16", "float32"])


@contextlib.contextmanager
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.synchronize()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_waiting_would_be_seen_in_torch():
    array = torch.ones(3, device="cuda")
    with waiting_is_an_error(), pytest.raises(RuntimeError, match="synchroniz"):
        array.sum().item()


@every_dtype
@every_call
def test_torch(options, dtype):
    options = {
        name: torch.tensor(value, device="cuda") if isinstance(value, np.ndarray) else value
        for name, value in options.items()
    }
    arrays = make_arrays(*SHAPE, getattr(torch, dtype))
    arrays["bias"] = arrays["weight"].detach()[:, 0].clone().requires_grad_()
    step = make_step(arrays, **options)
    for _ in range(2):  # what the libraries do once, they have done
        step()
    with waiting_is_an_error():
        step()


def test_torch_with_a_label_that_is_no_class():
    """Nobody looks at it: its loss is NaN."""
    arrays = make_arrays(*SHAPE, torch.bfloat16)
    arrays["labels"][3] = VOCAB_SIZE
    step = make_step(arrays, reduction="none")
    step()
    with waiting_is_an_error():
        losses, *_ = step()
    assert losses.isnan().nonzero().tolist() == [[3]]


def test_waiting_would_be_seen_in_jax():
    assert copies_to_host(in_own_process(jax_steps.profiled_copy))


@every_dtype
@every_call
def test_jax(options, dtype):
    events, _ = in_own_process(jax_steps.profiled, SHAPE, dtype, options)
    assert kernels(events)
    assert not copies_to_host(events)
