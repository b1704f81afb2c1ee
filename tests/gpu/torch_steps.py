"""A step of the PyTorch loss on the GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.gpu_profiles.device_profile import Event, profile_torch
from torch_impl import linear_cross_entropy


def make_arrays(
    num_tokens: int, hidden_dim: int, vocab_size: int, dtype: torch.dtype
) -> dict[str, Tensor]:
    """hidden, weight and labels; a seventh of the tokens is ignored."""
    generator = torch.Generator("cuda").manual_seed(0)
    # Logits of ordinary size.
    scale = hidden_dim**-0.25

    def draw(*shape: int) -> Tensor:
        numbers = torch.randn(shape, generator=generator, device="cuda")
        return (scale * numbers).to(dtype).requires_grad_()

    labels = torch.randint(vocab_size, (num_tokens,), generator=generator, device="cuda")
    labels[::7] = -100
    return {
        "hidden": draw(num_tokens, hidden_dim),
        "weight": draw(vocab_size, hidden_dim),
        "labels": labels,
    }


def make_step(arrays: dict[str, Tensor], **options: Any) -> Callable[[], tuple[Tensor, ...]]:
    """The loss, what comes with it, and the gradients of all arrays that want one."""
    inputs = [array for array in arrays.values() if array.requires_grad]

    def step() -> tuple[Tensor, ...]:
        result = linear_cross_entropy(**arrays, **options)
        loss, aux = result if options.get("return_aux") else (result, ())
        cotangent = torch.ones_like(loss)
        return loss.detach(), *aux, *torch.autograd.grad(loss, inputs, cotangent)

    return step


def profiled(shape: tuple[int, int, int], dtype: str, options: dict[str, Any]) -> list[Event]:
    """The events of a step that has run before."""
    step = make_step(make_arrays(*shape, getattr(torch, dtype)), **options)
    for _ in range(2):
        step()
    torch.cuda.synchronize()
    return profile_torch(step)
