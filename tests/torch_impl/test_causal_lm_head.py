"""Which models are believed: what is tried, when, and what is refused."""

from __future__ import annotations

import math
import types

import pytest
import torch
import transformers
from torch import nn

from tests.torch_impl.odd_causal_lms import (
    REFUSED,
    Dropped,
    Scaled,
    Wrapper,
    tiny,
)
from torch_impl import causal_lm_loss
from torch_impl.causal_lm_head import head_of

# Of `transformers` and PyTorch themselves, under warnings as errors.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


# Both tokens that are tried are the same in the second.
BATCHES = {"of eight tokens": [1, 2, 3, 4, 5, 6, 7, 8], "of one token twice": [5, 6, 5]}


@pytest.mark.parametrize("input_ids", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("make", REFUSED)
def test_a_model_that_is_not_understood(make, input_ids):
    build_model, words = REFUSED[make]
    input_ids = torch.tensor([input_ids])
    with pytest.raises(ValueError, match=f"(?s)^model: expected .*{words}"):
        causal_lm_loss(build_model(), input_ids, input_ids)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("settings", [{}, {"final_logit_softcapping": 30.0}], ids=str)
def test_a_factor_or_cap_in_no_config_is_seen_in_16_bits(settings, dtype):
    """By a rounding that the model did not make: no more is allowed."""
    torch.manual_seed(0)
    config = tiny("Llama", initializer_range=0.5, **settings).config
    kind = transformers.LlamaForCausalLM if settings else Scaled
    input_ids = torch.arange(1, 9)[None]
    with pytest.raises(ValueError, match="logits that are a linear map"):
        causal_lm_loss(kind(config).to(dtype), input_ids, input_ids)


def test_logits_that_are_all_0_tell_nothing():
    model, input_ids = tiny("Llama"), torch.arange(1, 9)[None]
    model.model.norm.weight.data.zero_()
    assert causal_lm_loss(model, input_ids, input_ids).item() == pytest.approx(math.log(50))


def test_what_is_asked_of_a_router_later():
    model, input_ids = tiny("Mixtral", num_local_experts=2), torch.arange(1, 9)[None]
    causal_lm_loss(model, input_ids, input_ids)
    model.config.output_router_logits = True
    with pytest.raises(ValueError, match="a term such as a router's"):
        causal_lm_loss(model, input_ids, input_ids)


def test_dropout_before_the_head_shows_in_training():
    model, input_ids = Dropped(tiny("Llama").config).eval(), torch.arange(1, 9)[None]
    expected = model(input_ids=input_ids, labels=input_ids).loss
    torch.testing.assert_close(causal_lm_loss(model, input_ids, input_ids), expected)
    with pytest.raises(ValueError, match="logits that are a linear map"):
        causal_lm_loss(model.train(), input_ids, input_ids)


@pytest.mark.parametrize("model", [Wrapper, lambda: nn.Linear(3, 3)])
def test_what_is_no_model_of_transformers(model):
    input_ids = torch.arange(1, 9)[None]
    with pytest.raises(TypeError, match=r"^model: expected a causal language model"):
        causal_lm_loss(model(), input_ids, input_ids)


def test_a_head_that_changes_is_tried_again():
    model, input_ids = tiny("Llama"), torch.arange(1, 9)[None]
    causal_lm_loss(model, input_ids, input_ids)
    model.config.final_logit_softcapping = 0.1  # Llama's forward knows nothing of it
    with pytest.raises(ValueError, match=r"logit_softcap=0\.1"):
        causal_lm_loss(model, input_ids, input_ids)


def test_a_batch_that_tells_nothing_is_not_believed():
    """Of padding alone all logits are 0, whatever the head makes of them: it is tried again."""
    model = tiny("Llama")
    model.model.embed_tokens.weight.data[0] = 0
    assert not causal_lm_loss(model, *[torch.zeros((1, 4), dtype=torch.long)] * 2).isnan()
    model.config.final_logit_softcapping = 0.1
    input_ids = torch.tensor([[0, 0, 3, 7]])
    with pytest.raises(ValueError, match=r"logit_softcap=0\.1"):
        causal_lm_loss(model, input_ids, input_ids)


def test_a_head_is_tried_once(monkeypatch):
    model, input_ids = tiny("Llama"), torch.arange(1, 9)[None]
    causal_lm_loss(model, input_ids, input_ids)
    monkeypatch.setattr(model, "forward", None)
    causal_lm_loss(model, input_ids, input_ids)


@pytest.mark.parametrize(
    ("settings", "scale", "softcap"),
    [
        ({"logit_scale": 0.5}, 0.5, None),
        ({"logits_scaling": 4.0}, 0.25, None),
        ({"lm_head_multiplier": 3.0, "logits_soft_cap": 7.0}, 3.0, 7.0),
        ({"output_logit_soft_cap": 30}, 1.0, 30.0),
        ({"logit_scale": None, "final_logit_softcapping": None}, 1.0, None),
    ],
)
def test_names_of_scale_and_softcap(settings, scale, softcap, monkeypatch):
    model = tiny("Llama")
    monkeypatch.setattr(
        "torch_impl.causal_lm_head._try", lambda *arguments: None
    )  # Llama does not do these
    model.config = types.SimpleNamespace(
        is_encoder_decoder=False, get_text_config=lambda: types.SimpleNamespace(**settings)
    )
    head = head_of(model, torch.ones((1, 2), dtype=torch.long))
    assert (head.logit_scale, head.logit_softcap) == (scale, softcap)
