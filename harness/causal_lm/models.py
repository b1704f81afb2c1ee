"""Small, randomly initialised causal language models of `transformers`; nothing is downloaded."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import transformers

_SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
_WIDE_HEADS = {"head_dim": 16}
_GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
_UNTIED, _TIED = {"tie_word_embeddings": False}, {"tie_word_embeddings": True}


class Model(NamedTuple):
    """A family of `transformers` by the name of its config, and what this one is built with."""

    config: str
    settings: dict[str, Any]


MODELS = {
    "Llama": Model("LlamaConfig", _SIZES | _UNTIED),
    "tied Llama": Model("LlamaConfig", _SIZES | _TIED),
    "Gemma 2": Model("Gemma2Config", _SIZES | _WIDE_HEADS),
    "Qwen 3": Model("Qwen3Config", _SIZES | _WIDE_HEADS),
    "GPT-2": Model("GPT2Config", _GPT2 | {"attn_pdrop": 0.0}),
    "Mistral": Model("MistralConfig", _SIZES),
    "Cohere": Model("CohereConfig", _SIZES),
    "Granite": Model("GraniteConfig", _SIZES | {"logits_scaling": 8.0}),
}
"""GPT-2, Gemma 2 and Cohere are tied by default; none drops out, or no two calls were alike."""


def build(name: str, vocab_size: int, *, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """The model with weights from a fixed seed: the same ones, rounded, in every dtype.

    They are drawn large enough for logits that differ by ten and more: between small ones no
    scale and no softcap would be missed.
    """
    model = MODELS[name]
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 0)
    config = getattr(transformers, model.config)(
        vocab_size=vocab_size, initializer_range=0.3, **special, **model.settings
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(dtype)
