"""Causal language models that do what no config tells, or are none; and what is said of each."""

from __future__ import annotations

import torch
import transformers
from torch import nn
from torch.nn import functional as F


class Scaled(transformers.LlamaForCausalLM):
    """Does to its logits what no config tells."""

    def forward(self, *args, labels=None, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = output.logits * 1.01
        output.loss = F.cross_entropy(output.logits[0, :-1], labels[0, 1:])
        return output


def tiny(kind, **settings):
    sizes = {
        "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 50,
        "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, **settings,
    }  # fmt: skip
    config = getattr(transformers, f"{kind}Config")
    return getattr(transformers, f"{kind}ForCausalLM")(config(**sizes))


def unlike_llama(head):
    model = tiny("Llama")
    model.lm_head = head
    return model


def narrowed():
    """Its head sees half of the hidden state."""
    model = unlike_llama(nn.Linear(16, 50))
    model.lm_head.register_forward_pre_hook(lambda module, args: (args[0][..., :16],))
    return model


def with_hook():
    model = tiny("Llama")
    model.lm_head.register_forward_hook(lambda module, args, logits: logits + 1)
    return model


def with_gathered_head():
    """As DeepSpeed leaves it between two forwards."""
    model = tiny("Llama")
    model.lm_head.weight.data = torch.empty(0)
    return model


def without_loss():
    model = tiny("Llama")
    forward = model.forward
    model.forward = lambda labels, **inputs: forward(**inputs)
    return model


def that_raises():
    model = tiny("Llama")
    model.forward = lambda input_ids: None
    return model


class Dropped(transformers.LlamaForCausalLM):
    """Drops out before its head, which its base model does not show."""

    def __init__(self, config):
        super().__init__(config)
        self.lm_head.register_forward_pre_hook(
            lambda module, args: (F.dropout(args[0], 0.5, self.training),)
        )


class Unshifted(transformers.LlamaForCausalLM):
    def forward(self, *args, labels=None, **kwargs):
        output = super().forward(*args, **kwargs)
        output.loss = F.cross_entropy(output.logits.flatten(0, 1), labels.flatten())
        return output


def with_sharded_head():
    """As FSDP leaves it: its forward gathers the weight, which others must not read."""
    model = tiny("Llama")
    model.lm_head.weight.full_tensor = lambda: None
    return model


class Adapted(nn.Module):
    """What PEFT's outermost module looks like: its base model is the whole model."""

    def __init__(self):
        super().__init__()
        self.base_model = tiny("Llama")
        self.config = self.base_model.config
        self.get_output_embeddings = self.base_model.get_output_embeddings

    def forward(self, **inputs):
        return self.base_model(**inputs)


class Wrapper(nn.Module):
    """What DistributedDataParallel looks like."""

    def __init__(self):
        super().__init__()
        self.module = tiny("Llama")


def bert(**settings):
    config = transformers.BertConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        vocab_size=50, is_decoder=True, **settings,
    )  # fmt: skip
    return transformers.BertLMHeadModel(config)


def encoder_decoder():
    model = tiny("Llama")
    model.config.is_encoder_decoder = True
    return model


def headless():
    return tiny("Llama").model


class OtherLinear(nn.Linear):
    """As a quantised or an adapted layer is one: its weight is not all that it does."""

    def forward(self, hidden):
        return super().forward(hidden)


REFUSED = {
    "a linear layer of another kind": (
        lambda: unlike_llama(OtherLinear(32, 50)), "torch.nn.Linear, got .* with .*OtherLinear"
    ),
    "a factor in no config": (
        lambda: Scaled(tiny("Llama").config), "logits that are a linear map.*Scaled"
    ),
    "a hook on the head": (with_hook, "logits that are a linear map"),
    "a layer before the head": (bert, "logits that are a linear map.*BertLMHeadModel"),
    "two linear maps": (
        lambda: unlike_llama(nn.Sequential(nn.Linear(32, 8), nn.Linear(8, 50))),
        "torch.nn.Linear, got LlamaForCausalLM with torch.nn.modules.container.Sequential",
    ),
    "another width": (narrowed, "as wide as the output layer's input .16."),
    "the loss of a router": (
        lambda: tiny("Mixtral", num_local_experts=2, output_router_logits=True),
        "a term such as a router's",
    ),
    "labels not shifted": (
        lambda: transformers.BartForCausalLM(transformers.BartConfig(
            d_model=32, decoder_layers=1, decoder_ffn_dim=32, decoder_attention_heads=2,
            vocab_size=50, is_decoder=True, is_encoder_decoder=False,
        )),
        "does not shift the labels",
    ),
    "an encoder": (encoder_decoder, "decoder alone"),
    "no head": (headless, "base_model"),
    "a sharded head": (with_sharded_head, "a sharded one"),
    "a head that is gathered when it is used": (with_gathered_head, "a sharded one"),
    "no loss": (without_loss, "a loss of its own"),
    "a forward of its own": (that_raises, "which raises TypeError"),
    "labels not shifted, of a model with relative positions": (
        lambda: Unshifted(tiny("Llama").config), "does not shift the labels"
    ),
    "an adapter's wrapper": (Adapted, "get_base_model"),
}  # fmt: skip
