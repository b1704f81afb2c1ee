"""A model's own loss and ours: errors against float64, and what a step allocates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backends.torch_backend import to_numpy
from harness.causal_lm.models import build
from harness.memory.allocator_events import allocations, profiled
from loss_spec.reference import fair_error, relative_error
from torch_impl import causal_lm_loss
from torch_impl.causal_lm_head import head_of

LossOf = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Shape(NamedTuple):
    batch_size: int
    seq_len: int
    vocab_size: int

    @property
    def logits_bytes(self) -> int:
        """Of the float32 logits of all tokens."""
        return 4 * self.batch_size * self.seq_len * self.vocab_size


def standard_loss(model: Any, input_ids: Tensor, labels: Tensor) -> Tensor:
    """The model's own."""
    return model(input_ids=input_ids, labels=labels, use_cache=False).loss


LOSSES: dict[str, LossOf] = {"standard": standard_loss, "chunked": causal_lm_loss}


def describe_head(name: str) -> str:
    """How the model gets from hidden states to logits, in a few words."""
    model, tokens = build(name, 16), torch.ones((1, 2), dtype=torch.long)
    head = head_of(model, tokens)
    embedding: Any = model.get_input_embeddings
    tied = head.weight is embedding().weight
    return ", ".join(
        [
            "tied" if tied else "untied",
            *([f"scale {head.logit_scale:g}"] if head.logit_scale != 1 else []),
            *([f"softcap {head.logit_softcap:g}"] if head.logit_softcap is not None else []),
        ]
    )


def draw_tokens(shape: Shape) -> tuple[Tensor, Tensor]:
    """Token ids and labels [batch, length]; the labels of a quarter do not count."""
    generator = np.random.default_rng(0)
    input_ids = generator.integers(1, shape.vocab_size, (shape.batch_size, shape.seq_len))
    labels = np.where(generator.random(input_ids.shape) < 0.25, -100, input_ids)
    return torch.from_numpy(input_ids), torch.from_numpy(labels)


def token_losses(model: nn.Module, input_ids: Tensor, labels: Tensor) -> Tensor:
    """From the logits of the model; those of a float64 model stay in float64."""
    logits = model(input_ids=input_ids, use_cache=False).logits[:, :-1].flatten(0, 1)
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(wide, labels[:, 1:].flatten(), reduction="none")


def exact_loss(model: nn.Module, input_ids: Tensor, labels: Tensor) -> Tensor:
    """Of a float64 model: its own loss would round the logits to float32."""
    return token_losses(model, input_ids, labels).sum() / (labels[:, 1:] != -100).sum()


def loss_and_gradients(loss_of: LossOf, model: nn.Module, *tokens: Tensor) -> dict[str, Tensor]:
    """By name: "loss", then that of every parameter; one that is tied stands there once."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    loss = loss_of(model, *tokens)
    gradients = torch.autograd.grad(loss, parameters)
    return dict(zip(("loss", *names), (loss.detach(), *gradients), strict=True))


def compare(name: str, shape: Shape, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """The record of one model: both losses' errors, and whether ours are within the rule."""
    tokens = draw_tokens(shape)
    model = build(name, shape.vocab_size, dtype=dtype)
    wide = build(name, shape.vocab_size, dtype=dtype).double()
    exact = loss_and_gradients(exact_loss, wide, *tokens)
    found = {each: _errors(of, model, tokens, exact) for each, of in LOSSES.items()}
    fair = found["standard"] | {"loss": _fair_loss_error(model, wide, tokens)}
    figure = {each: dtype if each != "loss" else torch.float32 for each in exact}
    return {
        "loss_error": {each: of["loss"] for each, of in found.items()},
        "worst_gradient_error": {
            each: max(error for what, error in of.items() if what != "loss")
            for each, of in found.items()
        },
        "beyond_the_rule": [
            each
            for each, error in found["chunked"].items()
            if not error <= fair_error(fair[each], str(figure[each]).removeprefix("torch."))
        ],
    }


def _errors(
    loss_of: LossOf, model: nn.Module, tokens: tuple[Tensor, Tensor], exact: dict[str, Tensor]
) -> dict[str, float]:
    """Relative L2 errors of the loss and the gradients."""
    found = loss_and_gradients(loss_of, model, *tokens)
    return {
        each: relative_error(to_numpy(found[each]), to_numpy(value))
        for each, value in exact.items()
    }


@torch.no_grad()
def _fair_loss_error(model: nn.Module, wide: nn.Module, tokens: tuple[Tensor, Tensor]) -> float:
    """The standard's relative error in the mean, were its tokens' errors independent.

    Their sum may cancel by luck, which no other loss can be held to.
    """
    own, exact = token_losses(model, *tokens).double(), token_losses(wide, *tokens)
    return float((own - exact).norm() / exact.sum())


def step_memory(loss_of: LossOf, name: str, shape: Shape) -> dict[str, int]:
    """What a float32 step allocates beyond the model: at the worst moment, and at once."""
    model, tokens = build(name, shape.vocab_size), draw_tokens(shape)
    loss_of(model, *tokens)  # the first call tries the model
    _, events = profiled(lambda: loss_and_gradients(loss_of, model, *tokens), with_stack=False)
    sizes = [event["args"]["Bytes"] for event in allocations(events, "cpu")]
    return {"peak_bytes": int(np.cumsum(sizes).max()), "largest_bytes": max(sizes)}
