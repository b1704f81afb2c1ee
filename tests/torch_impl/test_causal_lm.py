"""The loss of models of `transformers` that nobody here wrote, against their own."""

from __future__ import annotations

import math
import types

import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional as F

from harness.causal_lm import compare
from harness.causal_lm.compare import Shape, draw_tokens, loss_and_gradients, standard_loss
from harness.causal_lm.models import MODELS, build
from torch_impl import causal_lm_loss, linear_cross_entropy
from torch_impl.causal_lm_head import head_of

SMALL = Shape(2, 24, 300)
# Of `transformers` and PyTorch themselves, under warnings as errors.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def tokens():
    return draw_tokens(SMALL)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_loss_and_every_gradient_are_within_the_rule(name, dtype):
    record = compare.compare(name, SMALL, dtype)
    assert not record["beyond_the_rule"]
    assert record["loss_error"]["standard"] < 1e-2  # what it is held to is a loss


@pytest.mark.parametrize("name", MODELS)
def test_no_logits_are_allocated(name):
    shape = Shape(1, 512, 32768)
    own, ours = (compare.step_memory(of, name, shape) for of in compare.LOSSES.values())
    assert own["largest_bytes"] == shape.logits_bytes  # the probe sees them where they are
    assert ours["largest_bytes"] <= shape.logits_bytes / 4  # nor a copy of them in 16 bits
    assert ours["peak_bytes"] < own["peak_bytes"] / 2


def test_the_table_has_every_kind_of_head():
    heads = [compare.describe_head(name) for name in MODELS]
    assert compare.describe_head("tied Llama") == "tied"
    assert {"tied", "untied", "tied, softcap 30", "tied, scale 0.0625"} <= set(heads)


def test_padded_batch_as_a_dataset_gives_it(tokens):
    """Right-padded, with a mask, and with positions of its own."""
    model = build("Llama", SMALL.vocab_size)
    input_ids, labels = tokens
    mask = torch.ones_like(input_ids)
    mask[1, 15:], labels[1, 15:] = 0, -100
    positions = torch.arange(SMALL.seq_len).expand_as(input_ids) + 7
    batch = {"input_ids": input_ids, "labels": labels, "attention_mask": mask}
    for given in (batch, batch | {"position_ids": positions}):
        torch.testing.assert_close(causal_lm_loss(model, **given), model(**given).loss)


def test_positions_and_mask_reach_the_model(tokens):
    input_ids, labels = tokens
    model = build("Llama", SMALL.vocab_size)
    plain = causal_lm_loss(model, input_ids, labels)
    mask = torch.ones_like(input_ids)
    mask[:, :10] = 0
    spread = torch.arange(SMALL.seq_len).expand_as(input_ids) * 3
    assert not torch.isclose(causal_lm_loss(model, input_ids, labels, attention_mask=mask), plain)
    assert not torch.isclose(causal_lm_loss(model, input_ids, labels, position_ids=spread), plain)


def test_options_are_those_of_the_loss(tokens):
    """What is there for each token stands where it is predicted; weights move with labels."""
    input_ids, labels = tokens
    model = build("Llama", SMALL.vocab_size)
    token_weight = torch.rand(input_ids.shape, generator=torch.Generator().manual_seed(0))
    options = {"label_smoothing": 0.1, "z_loss": 1e-2, "reduction": "none", "return_aux": True}
    losses, aux = causal_lm_loss(model, input_ids, labels, token_weight=token_weight, **options)
    with torch.no_grad():
        hidden = model.base_model(input_ids).last_hidden_state
        expected, _ = linear_cross_entropy(
            hidden[:, :-1].contiguous(),
            model.lm_head.weight,
            labels[:, 1:],
            token_weight=token_weight[:, 1:],
            **options,
        )
    torch.testing.assert_close(losses[:, :-1], expected)
    assert not losses[:, -1].any()
    assert aux.num_tokens == (labels[:, 1:] != -100).sum()


def test_an_ignore_index_of_its_own(tokens):
    input_ids, labels = tokens
    model = build("Llama", SMALL.vocab_size)
    expected = causal_lm_loss(model, input_ids, labels)
    labels = labels.masked_fill(labels == -100, -1)
    torch.testing.assert_close(causal_lm_loss(model, input_ids, labels, ignore_index=-1), expected)


def test_a_head_with_a_bias(tokens):
    model = build("Llama", SMALL.vocab_size)
    model.lm_head = nn.Linear(model.config.hidden_size, SMALL.vocab_size)
    nn.init.normal_(model.lm_head.bias)
    expected = loss_and_gradients(standard_loss, model, *tokens)
    found = loss_and_gradients(causal_lm_loss, model, *tokens)
    for name in ("loss", "lm_head.bias", "lm_head.weight"):
        torch.testing.assert_close(found[name], expected[name])


def test_no_keys_and_values_are_kept(tokens):
    model, seen = build("Llama", SMALL.vocab_size), []
    model.base_model.register_forward_hook(
        lambda module, args, kwargs, output: seen.append(kwargs["use_cache"]), with_kwargs=True
    )
    causal_lm_loss(model, *tokens)
    assert not any(seen)
    assert len(seen) == 3  # two when it is tried


def test_dropout_draws_what_the_model_would(tokens):
    """The first call tries the model, and leaves the caller's random numbers as they were."""
    config = transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=2, vocab_size=SMALL.vocab_size, resid_pdrop=0.5,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config).train()
    torch.manual_seed(3)
    expected = model(input_ids=tokens[0], labels=tokens[1]).loss
    for _ in range(2):
        torch.manual_seed(3)
        torch.testing.assert_close(causal_lm_loss(model, *tokens), expected)
    assert not torch.isclose(causal_lm_loss(model, *tokens), expected)  # it does drop out


def test_frozen_body_trains_the_head_alone(tokens):
    model = build("Llama", SMALL.vocab_size)
    model.base_model.requires_grad_(False)
    causal_lm_loss(model, *tokens).backward()
    assert [name for name, p in model.named_parameters() if p.grad is not None] == [
        "lm_head.weight"
    ]


def test_under_autocast(tokens):
    """The standard's own error in bfloat16 is the measure, and is not zero."""
    model = build("Gemma 2", SMALL.vocab_size)
    exact = loss_and_gradients(standard_loss, model, *tokens)
    with torch.autocast("cpu", torch.bfloat16):
        own = loss_and_gradients(standard_loss, model, *tokens)
        ours = loss_and_gradients(causal_lm_loss, model, *tokens)
    for name, value in exact.items():
        limit = 2 * (own[name] - value).norm() + 2**-7 * value.norm()
        assert (ours[name] - value).norm() <= limit, name
    assert (own["loss"] - exact["loss"]).abs() > 0


def test_training_with_accumulated_gradients_and_a_compiled_body(tokens):
    """AdamW, two micro-batches a step divided by all their labels, as `Trainer` does."""
    compiled, plain = (build("Llama", SMALL.vocab_size) for _ in range(2))
    compiled.base_model.compile(backend="aot_eager")
    losses = {}
    for model, loss_of in ((compiled, _ours_summed), (plain, _own_summed)):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        losses[model] = []
        for _ in range(3):
            total = torch.zeros(())
            for row in range(2):
                batch = {"input_ids": tokens[0][row : row + 1], "labels": tokens[1][row : row + 1]}
                loss = loss_of(model, batch, (tokens[1][:, 1:] != -100).sum())
                loss.backward()
                total += loss.detach()
            optimizer.step()
            optimizer.zero_grad()
            losses[model].append(float(total))
    assert losses[compiled] == pytest.approx(losses[plain], rel=1e-4)
    assert losses[plain][-1] < losses[plain][0]


def _ours_summed(model, batch, num_items):
    return causal_lm_loss(model, **batch, reduction="sum") / num_items


def _own_summed(model, batch, num_items):
    return model(**batch, num_items_in_batch=num_items).loss


@pytest.fixture
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("fresh_dynamo")
def test_a_compiled_body_is_compiled_once(tokens):
    """For the batch that is trained on, and not for the two tokens that are tried."""
    shapes = []

    def backend(graph, inputs):
        shapes.append([tuple(each.shape) for each in inputs if each.dtype == torch.int64])
        return graph

    model = build("Llama", SMALL.vocab_size)
    model.base_model.compile(backend=backend)
    for _ in range(2):
        causal_lm_loss(model, *tokens)
    assert shapes == [[tokens[0].shape]]


@pytest.mark.usefixtures("fresh_dynamo")
def test_inside_torch_compile(tokens):
    """A model that was tried is one graph; a new one is tried outside of it."""
    model = build("Llama", SMALL.vocab_size)

    def loss(*tokens):
        return causal_lm_loss(model, *tokens)

    expected = standard_loss(model, *tokens)
    broken = torch.compile(loss, backend="aot_eager")(*tokens)
    torch.testing.assert_close(broken, expected)
    whole = torch.compile(loss, backend="aot_eager", fullgraph=True)(*tokens)
    torch.testing.assert_close(whole, expected)


# Bad input: everything that is refused, before the model has run a batch.


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


def test_hidden_states_wider_than_the_head(tokens):
    """As Mamba keeps them, whose forward rounds them for its head."""
    model = build("Llama", SMALL.vocab_size, dtype=torch.bfloat16)
    model.model.norm.float()
    model.lm_head.register_forward_pre_hook(lambda module, args: (args[0].bfloat16(),))
    assert model.base_model(tokens[0]).last_hidden_state.dtype == torch.float32
    expected = standard_loss(model, *tokens)
    torch.testing.assert_close(causal_lm_loss(model, *tokens), expected, rtol=1e-2, atol=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32])
def test_labels_of_other_integers(dtype):
    model, input_ids = tiny("Llama"), torch.arange(1, 9)[None]
    expected = causal_lm_loss(model, input_ids, input_ids)
    assert torch.equal(causal_lm_loss(model, input_ids, input_ids.to(dtype)), expected)


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


def test_options_are_checked_before_the_model_runs(tokens, monkeypatch):
    model = build("Llama", SMALL.vocab_size)
    monkeypatch.setattr(model, "forward", None)
    monkeypatch.setattr(model.base_model, "forward", None)
    for options, words in (
        ({"z_los": 1.0}, "z_los: expected one of ignore_index"),
        ({"ignore_index": "x"}, "ignore_index"),
    ):
        with pytest.raises(TypeError, match=words):
            causal_lm_loss(model, *tokens, **options)


def test_a_head_is_tried_once(monkeypatch):
    model, input_ids = tiny("Llama"), torch.arange(1, 9)[None]
    causal_lm_loss(model, input_ids, input_ids)
    monkeypatch.setattr(model, "forward", None)
    causal_lm_loss(model, input_ids, input_ids)


@pytest.mark.parametrize("name", ["bias", "vocab_axis", "logit_scale", "logit_softcap"])
def test_what_the_model_decides(name, tokens):
    with pytest.raises(TypeError, match=f"^{name}: not an option of this loss: that of the model"):
        causal_lm_loss(build("Llama", SMALL.vocab_size), *tokens, **{name: 1})


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"labels": torch.ones(2, 23, dtype=torch.long)}, ValueError,
         r"labels: expected shape \[2, 24\] .*not shifted.*got \[2, 23\]"),
        ({"labels": [1]}, TypeError, "labels: expected a torch.Tensor, got list"),
        ({"labels": torch.ones(2, 24)}, TypeError, "labels: expected an integer dtype"),
        ({"labels": torch.full((2, 24), 300)}, ValueError, r"labels: expected values in \[0, 300"),
        ({"input_ids": torch.ones(24, dtype=torch.long)}, ValueError,
         r"input_ids: expected shape \[batch, length\], got \[24\]"),
        ({"token_weight": torch.ones(2, 23)}, ValueError, r"token_weight: expected shape \[2, 24"),
        ({"z_los": 1.0}, TypeError, "z_los"),
    ],
)  # fmt: skip
def test_bad_arguments(change, error, words, tokens):
    arguments = dict(zip(("input_ids", "labels"), tokens, strict=True)) | change
    with pytest.raises(error, match=words):
        causal_lm_loss(build("Llama", SMALL.vocab_size), **arguments)


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
