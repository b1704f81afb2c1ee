"""The loss of models of `transformers` that nobody here wrote, against their own."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn

from harness.causal_lm import compare, models
from harness.causal_lm.compare import Shape, draw_tokens, loss_and_gradients, standard_loss
from harness.causal_lm.models import MODELS
from tests.tables import slow
from tests.torch_impl.odd_causal_lms import (
    tiny,
)
from torch_impl import causal_lm_loss, linear_cross_entropy

SMALL = Shape(2, 24, 300)


# Of `transformers` and PyTorch themselves, under warnings as errors.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

of_the_harness = pytest.mark.cpu_only("harness.causal_lm has its models and tokens on the CPU")


@pytest.fixture
def tokens():
    return tuple(each.to(torch.get_default_device()) for each in draw_tokens(SMALL))


def build(name, *sizes, **settings):
    return models.build(name, *sizes, **settings).to(torch.get_default_device())


@of_the_harness
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_loss_and_every_gradient_are_within_the_rule(name, dtype):
    record = compare.compare(name, SMALL, dtype)
    assert not record["beyond_the_rule"]
    assert record["loss_error"]["standard"] < 1e-2  # what it is held to is a loss


# One head of its own, and one that is tied and capped.
FEW = ("Llama", "Gemma 2")


@of_the_harness
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FEW else slow) for name in MODELS]
)
def test_no_logits_are_allocated(name):
    shape = Shape(1, 512, 32768)
    own, ours = (compare.step_memory(of, name, shape) for of in compare.LOSSES.values())
    assert own["largest_bytes"] == shape.logits_bytes  # the probe sees them where they are
    assert ours["largest_bytes"] <= shape.logits_bytes / 4  # nor a copy of them in 16 bits
    assert ours["peak_bytes"] < own["peak_bytes"] / 2


@of_the_harness
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
    token_weight = torch.rand(
        input_ids.shape, generator=torch.Generator(torch.get_default_device()).manual_seed(0)
    )
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
        bos_token_id=0, eos_token_id=0, initializer_range=0.5,
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
    with torch.autocast(torch.get_default_device().type, torch.bfloat16):
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
        pytest.param(
            {"labels": torch.full((2, 24), 300)}, ValueError, r"labels: expected values in \[0, 30",
            marks=pytest.mark.cpu_only("on a GPU, where nobody looks, its loss is NaN"),
        ),
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
