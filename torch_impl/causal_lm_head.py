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

    def operand(self, hidden: Tensor) -> Tensor:
        """hidden where the weight is, and in its dtype: some models keep theirs in float32."""
        return hidden.to(self.weight.device, self.weight.dtype)


_tried: weakref.WeakKeyDictionary[nn.Module, set[tuple[Any, ...]]] = weakref.WeakKeyDictionary()
"""In which states each model was tried, of those that decide what it does."""


def head_of(model: nn.Module, input_ids: Tensor) -> Head:
    """The head of `model`, tried on two tokens of `input_ids` if it was not before.

    Raises `TypeError` for what is no causal language model of `transformers`, and `ValueError`
    for one whose logits are not the map that a `Head` stands for, or whose loss is not the
    mean cross-entropy of the next token; both name the model.
    """
    layer = _output_layer(model)
    scale, softcap = _logit_map(model)
    head = Head(layer.weight, layer.bias, scale, softcap)
    adds_router_loss = getattr(_text_config(model), "output_router_logits", False)
    state = type(layer), scale, softcap, model.training, adds_router_loss
    is_new = state not in _tried.get(model, ())
    # Never in a graph, where it would be traced for the one time. Here and no decorator, since
    # this loads the compiler, as transformers have done and who imports us need not.
    if is_new and torch.compiler.disable(_try)(model, head, input_ids):
        _tried.setdefault(model, set()).add(state)
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
    # FSDP leaves a DTensor, and DeepSpeed nothing, where the forward would gather the weight.
    if hasattr(layer.weight, "full_tensor") or layer.weight.ndim != 2 or not layer.weight.numel():
        raise ValueError(
            f"model: expected an output weight [V, D] that is whole, got {name} with a sharded "
            "one; keep the head out of the sharding, or gather it around the call"
        )
    return layer


def _text_config(model: Any) -> Any:
    """Of the language model, where there are others beside it."""
    return model.config.get_text_config()


def _logit_map(model: Any) -> tuple[float, float | None]:
    """Scale and softcap, by the names that the configs of `transformers` have for them."""
    config = _text_config(model)

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
    pair = _two_tokens(input_ids, getattr(_text_config(model), "pad_token_id", None))
    if pair is None:
        return False
    labels = pair.clone()  # that differ, or a loss of labels that are not shifted might be equal
    labels[0, 1] = (pair[0, 0] + 1) % len(head.weight) if pair[0, 0] == pair[0, 1] else pair[0, 1]
    own, hidden = _run(model, pair, labels)
    name = type(model).__name__
    if hidden.shape[-1] != head.weight.shape[1]:
        raise ValueError(
            f"model: expected last hidden states as wide as the output layer's input "
            f"({head.weight.shape[1]}), got {name} with {hidden.shape[-1]}; {_INSTEAD}"
        )
    if not own.logits.any():
        return False
    # The same operators in the same order: all that may differ is one rounding, or what
    # kernels with atomic sums do.
    logits = F.linear(head.operand(hidden), head.weight, head.bias).to(own.logits.dtype)
    logits = logits * head.logit_scale
    if head.logit_softcap is not None:
        logits = head.logit_softcap * torch.tanh(logits / head.logit_softcap)
    difference = _difference(own.logits, logits)
    if not difference <= max(torch.finfo(own.logits.dtype).eps / 2, 1e-5):
        raise ValueError(
            f"model: expected logits that are a linear map of the last hidden states (here with "
            f"logit_scale={head.logit_scale}, logit_softcap={head.logit_softcap}), got {name}, "
            f"whose logits differ from it by {difference:.1e} of their norm; {_INSTEAD}"
        )
    loss = F.cross_entropy(own.logits[0, :1].double(), labels[0, 1:].to(own.logits.device))
    if not abs(own.loss.double() - loss) <= 1e-5 * (1 + loss.abs()):
        raise ValueError(
            f"model: expected a loss that is the mean cross-entropy of the next token "
            f"({loss:.6f} for two tokens), got {name} with {own.loss:.6f}: it does not shift the "
            f"labels, or adds a term such as a router's; {_INSTEAD}"
        )
    return True


def _two_tokens(input_ids: Tensor, padding: int | None) -> Tensor | None:
    """The first and the last that are no padding, `[1, 2]`; None where there are none."""
    tokens = input_ids.flatten() if padding is None else input_ids[input_ids != padding]
    return tokens[[0, -1]][None] if len(tokens) else None


def _run(model: Any, input_ids: Tensor, labels: Tensor) -> tuple[Any, Tensor]:
    """The model's own output, logits and loss in it, and the last hidden states of its body.

    Not compiled: a body that is would be compiled for this length, and then once more.
    """
    name, inputs = type(model).__name__, {"input_ids": input_ids, "use_cache": False}
    with torch.compiler.set_stance("force_eager"):
        try:
            with _same_random_numbers(model):
                own = model(**inputs, labels=labels, return_dict=True)
            with _same_random_numbers(model):
                body = model.base_model(**inputs, return_dict=True)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise ValueError(
                f"model: expected a loss of two tokens, {input_ids.tolist()}, got {name}, which "
                f"raises {type(error).__name__}: {error}"
            ) from error
    if getattr(body, "last_hidden_state", None) is None:
        raise ValueError(
            f"model: expected a base_model that gives last_hidden_state, got {name} with "
            f"{type(body).__name__}; for a PEFT model, pass model.get_base_model()"
        )
    if getattr(own, "logits", None) is None or getattr(own, "loss", None) is None:
        raise ValueError(f"model: expected logits and a loss of its own, got {name}; {_INSTEAD}")
    return own, body.last_hidden_state


def _difference(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        return float("inf")
    found, expected = found.double(), expected.double()
    return float((found - expected.to(found.device)).norm() / found.norm())


@contextlib.contextmanager
def _same_random_numbers(model: nn.Module) -> Iterator[None]:
    """Dropout draws the same in each of these, and the caller's generators do not move."""
    devices = list({each.device for each in model.parameters() if each.device.type != "cpu"})
    kind = devices[0].type if devices else "cuda"
    with torch.random.fork_rng(devices=devices, device_type=kind):
        yield
