"""What a Hugging Face causal language model does with its last hidden states.

Where a model says how its logits are made differs: a scale and a softcap have a name in
every family's config, and a head may do things that no config tells. So what was found is
tried on two tokens before it is believed.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_MULTIPLIERS = ("logit_scale", "lm_head_multiplier")  # Cohere; Falcon-H1
_DIVISORS = ("logits_scaling",)  # Granite
_SOFTCAPS = (  # Gemma 2 and later; RecurrentGemma; xLSTM
    "final_logit_softcapping",
    "logits_soft_cap",
    "output_logit_soft_cap",
)
_INSTEAD = "use the model's own loss, or linear_cross_entropy on what its last linear layer gets"


class Head(NamedTuple):
    """logits = softcap(logit_scale * (hidden @ weight.T + bias))"""

    weight: Tensor
    bias: Tensor | None
    logit_scale: float
    logit_softcap: float | None


_tried: weakref.WeakKeyDictionary[nn.Module, tuple[Any, ...]] = weakref.WeakKeyDictionary()
"""What each model was found to do when it was tried."""


def head_of(model: nn.Module, input_ids: Tensor) -> Head:
    """The head of `model`, tried on two tokens of `input_ids` if it was not before.

    Raises `TypeError` for what is no causal language model of `transformers`, and `ValueError`
    for one whose logits are not the map that a `Head` stands for, or whose loss is not the
    mean cross-entropy of the next token; both name the model.
    """
    layer = _output_layer(model)
    scale, softcap = _logit_map(model)
    head = Head(layer.weight, layer.bias, scale, softcap)
    found = type(layer), scale, softcap
    if _tried.get(model) != found:
        # Not in a graph: it would be traced for the one time. Loads the compiler, so not before.
        tries = torch.compiler.disable(_try) if torch.compiler.is_compiling() else _try
        if tries(model, head, input_ids):
            _tried[model] = found
    return head


def _output_layer(model: Any) -> nn.Linear:
    name = type(model).__name__
    for attribute in ("base_model", "get_output_embeddings", "config"):
        if not hasattr(model, attribute):
            raise TypeError(
                f"model: expected a causal language model of transformers, got {name} without "
                f"{attribute}; where a wrapper holds the model, call causal_lm_loss inside "
                "the forward of the module that is wrapped"
            )
    if model.config.is_encoder_decoder:
        raise ValueError(f"model: expected a decoder alone, got {name} with an encoder; {_INSTEAD}")
    if model.base_model is model:
        raise ValueError(f"model: expected one with a base_model, got {name}; {_INSTEAD}")
    layer = model.get_output_embeddings()
    if not isinstance(layer, nn.Linear) or type(layer).forward is not nn.Linear.forward:
        raise ValueError(
            f"model: expected an output layer that is a torch.nn.Linear, got {name} with "
            f"{type(layer).__module__}.{type(layer).__name__}; {_INSTEAD}"
        )
    if hasattr(layer.weight, "full_tensor"):
        raise ValueError(
            f"model: expected an output weight that is whole, got {name} with a DTensor; "
            "keep the head out of the sharding, or gather it"
        )
    return layer


def _logit_map(model: Any) -> tuple[float, float | None]:
    """Scale and softcap, by the names that the configs of `transformers` have for them."""
    config = model.config.get_text_config()

    def values(names: tuple[str, ...]) -> Iterator[float]:
        for name in names:
            if (value := getattr(config, name, None)) is not None:
                yield float(value)

    scale = 1.0
    for factor in values(_MULTIPLIERS):
        scale *= factor
    for divisor in values(_DIVISORS):
        scale /= divisor
    return scale, next(values(_SOFTCAPS), None)


@torch.no_grad()
def _try(model: Any, head: Head, input_ids: Tensor) -> bool:
    """Compares the model's own logits and loss on two tokens with what is known of them.

    False where that told nothing: nothing but padding, or logits that are all 0.
    """
    name = type(model).__name__
    padding = model.config.get_text_config().pad_token_id
    tokens = input_ids.flatten() if padding is None else input_ids[input_ids != padding]
    if not len(tokens):
        return False
    input_ids = tokens[[0, -1]][None]
    with _same_random_numbers(input_ids.device):
        own = model(input_ids=input_ids, labels=input_ids, use_cache=False)
    with _same_random_numbers(input_ids.device):
        body = model.base_model(input_ids=input_ids, use_cache=False)
    if getattr(body, "last_hidden_state", None) is None or getattr(own, "logits", None) is None:
        raise ValueError(
            f"model: expected a base_model that gives last_hidden_state, got {name} with "
            f"{type(body).__name__}; for a PEFT model, pass model.get_base_model()"
        )
    hidden = body.last_hidden_state
    if hidden.shape[-1] != head.weight.shape[1]:
        raise ValueError(
            f"model: expected last hidden states as wide as the output layer's input "
            f"({head.weight.shape[1]}), got {name} with {hidden.shape[-1]}; {_INSTEAD}"
        )
    logits = F.linear(hidden, head.weight, head.bias) * head.logit_scale
    if head.logit_softcap is not None:
        logits = head.logit_softcap * torch.tanh(logits / head.logit_softcap)
    if not own.logits.any():
        return False
    # The same operators in the same order: all that may differ is the last rounding, or
    # what kernels with atomic sums do.
    tolerance = max(4 * torch.finfo(own.logits.dtype).eps, 1e-5)
    difference = _difference(own.logits, logits)
    if not difference <= tolerance:
        raise ValueError(
            f"model: expected logits that are a linear map of the last hidden states (here with "
            f"logit_scale={head.logit_scale}, logit_softcap={head.logit_softcap}), got {name}, "
            f"whose logits differ from it by {difference:.1e} of their norm; {_INSTEAD}"
        )
    loss = F.cross_entropy(own.logits[0, :1].double(), input_ids[0, 1:].to(own.logits.device))
    if not abs(own.loss.double() - loss) <= 1e-5 * (1 + loss.abs()):
        raise ValueError(
            f"model: expected a loss that is the mean cross-entropy of the next token "
            f"({loss:.6f} for two tokens), got {name} with {own.loss:.6f}: it does not shift the "
            f"labels, or adds a term such as a router's; {_INSTEAD}"
        )
    return True


def _difference(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        return float("inf")
    found, expected = found.double(), expected.double()
    return float((found - expected).norm() / expected.norm().clamp_min(1e-300))


@contextlib.contextmanager
def _same_random_numbers(device: torch.device) -> Iterator[None]:
    """Dropout draws the same in each of these, and the caller's generators do not move."""
    devices = [] if device.type == "cpu" else [device]
    kind = "cuda" if device.type == "cpu" else device.type
    with torch.random.fork_rng(devices=devices, device_type=kind):
        yield
