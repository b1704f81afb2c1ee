"""What a training loop does with a loss beside one forward and one backward."""

from __future__ import annotations

import subprocess
import sys
from itertools import product

import pytest
import torch
from torch import nn

from loss_spec.reference import relative_error
from tests.torch_impl.allocations import record_allocations
from tests.torch_impl.matmuls import count_flops
from torch_impl import linear_cross_entropy, standard_linear_cross_entropy

NUM_TOKENS, HIDDEN_DIM, VOCAB_SIZE = 12, 8, 50
ONE_MATMUL = 2 * NUM_TOKENS * HIDDEN_DIM * VOCAB_SIZE
CHUNKS = {"vocab_chunk": 20, "token_chunk": 5}
INPUTS = ("hidden", "weight", "bias")
RETAINED = {"none": {}, "all": {"label_smoothing": 0.1, "logit_softcap": 3.0, "z_loss": 0.1}}

# A few hundred roundings of float64, as in test_chunk_sizes.py.
ROUNDING = 1e-13


@pytest.fixture(params=["two_pass", "one_pass"])
def arrays(request):
    """And the strategy, which goes the same way as they do."""
    generator = torch.Generator(torch.get_default_device()).manual_seed(0)
    labels = torch.randint(VOCAB_SIZE, (NUM_TOKENS,), generator=generator)
    labels[::5] = -100

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return {
        "hidden": draw(NUM_TOKENS, HIDDEN_DIM),
        "weight": draw(VOCAB_SIZE, HIDDEN_DIM),
        "bias": draw(VOCAB_SIZE),
        "labels": labels,
        "class_weight": draw(VOCAB_SIZE).exp(),
        "token_weight": draw(NUM_TOKENS).exp(),
        "strategy": request.param,
    }


def call(arrays, **options):
    return linear_cross_entropy(**arrays, **CHUNKS, **options)


def train(arrays, names=INPUTS):
    """The same arrays, of which these are leaves that want a gradient."""
    return {
        name: array.detach().clone().requires_grad_(name in names) if name in INPUTS else array
        for name, array in arrays.items()
    }


@pytest.mark.parametrize("options", RETAINED.values(), ids=RETAINED)
@pytest.mark.parametrize("narrow", [None, torch.bfloat16], ids=str)
def test_a_retained_graph_runs_backward_again(arrays, options, narrow):
    """Three times, each onto what is there: `.grad` is the first gradient that was handed out."""
    if narrow is not None:
        arrays |= {name: arrays[name].to(narrow) for name in INPUTS}
    once, more = train(arrays), train(arrays)
    call(once, **options).backward()
    loss = call(more, **options)
    loss.backward(retain_graph=True)
    for name in INPUTS:
        assert torch.equal(more[name].grad, once[name].grad)
    for backwards, is_last in ((2, False), (3, True)):
        loss.backward(retain_graph=not is_last)
        for name in INPUTS:
            found, expected = more[name].grad.double(), backwards * once[name].grad.double()
            limit = ROUNDING if narrow is None else 4 * torch.finfo(narrow).eps
            assert relative_error(found.cpu().numpy(), expected.cpu().numpy()) < limit, name
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_a_gradient_that_was_handed_out_is_the_callers(arrays, dtype):
    """No later backward changes it, and what is done to it changes no later backward."""
    arrays |= {name: arrays[name].to(dtype) for name in INPUTS}
    inputs = train(arrays)
    loss, leaves = call(inputs), [inputs[name] for name in INPUTS]

    def gradients(cotangent):
        cotangent = torch.tensor(cotangent, dtype=loss.dtype)
        return torch.autograd.grad(loss, leaves, cotangent, retain_graph=True)

    first = gradients(1.0)
    copies = [gradient.clone() for gradient in first]
    other, again = gradients(-3.0), gradients(1.0)
    for gradient, copy in zip(first, copies, strict=True):
        assert torch.equal(gradient, copy)
        gradient.fill_(torch.nan)
    last = gradients(1.0)
    room = 4 * torch.finfo(dtype).eps
    for copy, scaled, *same in zip(copies, other, again, last, strict=True):
        for found, factor in ((scaled, -3.0), *((gradient, 1.0) for gradient in same)):
            expected = factor * copy.double()
            assert relative_error(found.double().cpu().numpy(), expected.cpu().numpy()) < room


def test_the_gradient_of_one_weight_from_two_losses(arrays):
    """Both add to one `.grad`, which is the first one's sum."""
    both, each = train(arrays), train(arrays)
    losses = call(both), call(both, label_smoothing=0.5)
    for loss in losses:
        loss.backward(retain_graph=True)
    losses[0].backward()
    expected = []
    for options in ({}, {"label_smoothing": 0.5}):
        inputs = train(arrays)
        call(inputs, **options).backward()
        expected.append(inputs["weight"].grad)
    found, total = both["weight"].grad, 2 * expected[0] + expected[1]
    assert relative_error(found.cpu().numpy(), total.cpu().numpy()) < ROUNDING
    assert each["weight"].grad is None


@pytest.mark.parametrize("micro_batch", [1, 5, NUM_TOKENS])
@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_gradients_accumulate_over_micro_batches(arrays, reduction, micro_batch):
    whole, parts = train(arrays), train(arrays)
    call(whole, reduction=reduction).sum().backward()
    for start in range(0, NUM_TOKENS, micro_batch):
        rows = slice(start, start + micro_batch)
        of_tokens = ("hidden", "labels", "token_weight")
        part = {n: array[rows] if n in of_tokens else array for n, array in parts.items()}
        call(part, reduction=reduction).sum().backward()
    for name in INPUTS:
        found, expected = parts[name].grad.cpu().numpy(), whole[name].grad.cpu().numpy()
        assert relative_error(found, expected) < ROUNDING, name


@pytest.mark.parametrize("return_aux", [False, True])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_evaluation(arrays, mode, return_aux):
    """The same value from the forward alone, and nothing is kept for a backward."""
    arrays = train(arrays)
    expected = call(arrays, return_aux=return_aux)
    kept, results = [], []
    with mode(), torch.autograd.graph.saved_tensors_hooks(kept.append, lambda tensor: tensor):
        flops = count_flops(lambda: results.append(call(arrays, return_aux=return_aux)))
    # On a GPU nobody reads which tokens are ignored.
    is_multiplied = (arrays["labels"] != -100) | (arrays["labels"].device.type != "cpu")
    assert flops == ONE_MATMUL * int(is_multiplied.sum()) / NUM_TOKENS
    loss, expected = (results[0][0], expected[0]) if return_aux else (results[0], expected)
    assert torch.equal(loss, expected.detach())
    assert not loss.requires_grad
    assert not kept


def test_what_is_kept_for_the_backward(arrays):
    """The inputs themselves and a few numbers a token: no copy, no logits.

    One pass keeps its gradients beside them, where these hooks do not look.
    """
    arrays = train(arrays)
    kept = []

    def pack(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        call(arrays)
    given = {
        array.untyped_storage().data_ptr()
        for array in arrays.values()
        if isinstance(array, torch.Tensor)
    }
    own = [tensor for tensor in kept if tensor.untyped_storage().data_ptr() not in given]
    assert arrays["weight"].untyped_storage().data_ptr() in {
        tensor.untyped_storage().data_ptr() for tensor in kept
    }  # it was looked at
    assert all(tensor.numel() <= NUM_TOKENS for tensor in own)


SUBSETS = [
    [name for name, is_in in zip(INPUTS, chosen, strict=True) if is_in]
    for chosen in product([True, False], repeat=3)
    if any(chosen)
]


@pytest.mark.parametrize("names", SUBSETS, ids="-".join)
def test_what_is_frozen_changes_no_other_gradient(arrays, names):
    everything, some = train(arrays), train(arrays, names)
    call(everything, label_smoothing=0.1, logit_softcap=3.0).backward()
    call(some, label_smoothing=0.1, logit_softcap=3.0).backward()
    for name in INPUTS:
        if name in names:
            assert torch.equal(some[name].grad, everything[name].grad)
        else:
            assert some[name].grad is None


@pytest.mark.parametrize("vocab_axis", [0, 1])
def test_tied_to_an_embedding_through_a_body(arrays, vocab_axis):
    """One parameter, at both ends of the model: the sum of both gradients, in one `.grad`."""
    labels = arrays["labels"]
    tokens = labels.clamp_min(0).flip(0)

    def gradient(function, **chunks):
        embedding = nn.Embedding(VOCAB_SIZE, HIDDEN_DIM, _weight=arrays["weight"].clone())
        head = embedding.weight if vocab_axis == 0 else embedding.weight.T
        hidden = torch.tanh(embedding(tokens))
        function(hidden, head, labels, vocab_axis=vocab_axis, **chunks).backward()
        assert embedding.weight.grad.shape == embedding.weight.shape
        return embedding.weight.grad.cpu().numpy()

    expected = gradient(standard_linear_cross_entropy)
    chunks = CHUNKS | {"strategy": arrays["strategy"]}
    assert relative_error(gradient(linear_cross_entropy, **chunks), expected) < ROUNDING


def test_part_of_a_larger_loss(arrays):
    """Scaled, shared by two terms, and beside a term of the same input."""
    alone, outer = train(arrays), train(arrays)
    call(alone).backward()
    loss = call(outer)
    (3 * loss + loss / 4 + outer["hidden"].square().sum()).backward()
    for name in INPUTS:
        expected = 3.25 * alone[name].grad
        expected += 2 * outer["hidden"].detach() if name == "hidden" else 0
        assert relative_error(outer[name].grad.cpu().numpy(), expected.cpu().numpy()) < ROUNDING


def test_a_loss_that_nobody_uses(arrays):
    """Beside its aux, which is a constant: nothing to go backward from."""
    arrays = train(arrays)
    loss, aux = call(arrays, return_aux=True)
    assert loss.requires_grad
    assert not any(rows.requires_grad for rows in aux)
    with pytest.raises(RuntimeError, match="does not require grad"):
        aux.logsumexp.sum().backward()


@pytest.mark.cpu_only("it reads the events of the CPU's allocator")
def test_aux_has_no_buffer_of_the_vocabulary(tmp_path):
    """At its worst moment the whole call holds less than one number for each class."""
    vocab_size = 2**14
    hidden, weight = torch.ones(4, 2, requires_grad=True), torch.ones(vocab_size, 2)
    labels = torch.arange(4)

    def step():
        chunks = {"vocab_chunk": 64, "token_chunk": 4, "strategy": "two_pass"}
        loss, aux = linear_cross_entropy(hidden, weight, labels, return_aux=True, **chunks)
        return loss, *aux, *torch.autograd.grad(loss, hidden)

    assert record_allocations(step, tmp_path).peak < 4 * vocab_size / 10


def test_a_step_does_not_load_the_compiler():
    """It would cost the first step a second, and every process 70 MiB."""
    program = """
import sys, torch, torch_impl
hidden, weight = (torch.ones(shape, requires_grad=True) for shape in ((3, 4), (5, 4)))
torch_impl.linear_cross_entropy(hidden, weight, torch.zeros(3, dtype=torch.int64)).backward()
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
