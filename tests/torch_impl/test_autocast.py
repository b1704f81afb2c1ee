"""Under autocast the matmuls' operands are rounded, tile by tile; nothing else is."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch

from loss_spec.inputs import make_inputs
from loss_spec.reference import fair_error, reference_linear_cross_entropy, relative_error
from tests.torch_impl.allocations import record_allocations
from torch_impl import linear_cross_entropy, standard_linear_cross_entropy

NUM_TOKENS, HIDDEN_DIM, VOCAB_SIZE = 30, 24, 101
CHUNKS = {"vocab_chunk": 20, "token_chunk": 7}
CLASS_WEIGHT = np.linspace(0.5, 2, VOCAB_SIZE, dtype=np.float32)
TOKEN_WEIGHT = np.linspace(0, 2, NUM_TOKENS, dtype=np.float32)
OPTIONS = {
    "mean": {},
    **{reduction: {"reduction": reduction} for reduction in ("sum", "none")},
    "scale and softcap": {"logit_scale": 1.5, "logit_softcap": 3.0},
    "z_loss": {"z_loss": 0.01},
    # The one option that has a matrix product of its own, of logits and class_weight.
    "smoothing": {"label_smoothing": 0.1, "class_weight": CLASS_WEIGHT},
}
OPTIONS["all"] = {
    **{name: value for options in OPTIONS.values() for name, value in options.items()},
    "reduction": "mean",
    "token_weight": TOKEN_WEIGHT,
}
every_dtype = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
every_strategy = pytest.mark.parametrize("strategy", ["two_pass", "one_pass"])
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def autocast(dtype, **settings):
    return torch.autocast(torch.get_default_device().type, dtype, **settings)


def make_arrays():
    hidden, weight, labels = make_inputs(
        seed=0,
        num_tokens=NUM_TOKENS,
        hidden_dim=HIDDEN_DIM,
        vocab_size=VOCAB_SIZE,
        dtype="float32",
        ignored_fraction=0.2,
    )
    # In eighths, which every dtype holds: whether a bias is rounded must not matter.
    bias = (np.arange(VOCAB_SIZE) % 17 / 8 - 1).astype(hidden.dtype)
    return hidden, weight, labels, bias


def make_tensors(hidden=torch.float32, weight=torch.float32, bias=torch.float32):
    arrays = make_arrays()
    wanted = hidden, weight, torch.int64, bias
    tensors = [torch.tensor(array).to(to) for array, to in zip(arrays, wanted, strict=True)]
    return [tensor.requires_grad_(tensor.is_floating_point()) for tensor in tensors]


def call(function, tensors, options):
    hidden, weight, labels, bias = tensors
    for name in options.keys() & {"class_weight", "token_weight"}:
        options = options | {name: torch.tensor(options[name])}
    return function(hidden, weight, labels, bias=bias, **options)


def gradients(loss, tensors):
    hidden, weight, _, bias = tensors
    cotangent = torch.linspace(-1, 2, loss.numel()).reshape(loss.shape)
    return torch.autograd.grad(loss, (hidden, weight, bias), cotangent)


@every_strategy
@every_option
@every_dtype
def test_error_is_that_of_the_standard_loss(dtype, options, strategy):
    *arrays, bias = make_arrays()
    cotangent = np.linspace(-1, 2, NUM_TOKENS) if options.get("reduction") == "none" else -1.0
    given = {"bias": bias, "cotangent": cotangent, **options}
    expected = reference_linear_cross_entropy(*arrays, **given)

    def errors(function, **chunks):
        tensors = make_tensors()
        with autocast(dtype):
            loss = call(function, tensors, options | chunks)
        results = loss.detach(), *gradients(loss, tensors)
        return {
            f"{name}_error": relative_error(value.cpu().numpy(), reference)
            for name, value, reference in zip(expected._fields[:4], results, expected, strict=False)
        }

    standard = errors(standard_linear_cross_entropy)
    for name, error in errors(linear_cross_entropy, strategy=strategy, **CHUNKS).items():
        limit = fair_error(standard[name], np.float32)
        assert error <= limit, f"{name} {error:.3g} > {limit:.3g}"


@every_strategy
@every_option
@every_dtype
def test_as_if_the_operands_were_rounded_before(dtype, options, strategy):
    """To the bit: the same tiles go into the same matmuls, and sums are float32 in both."""
    options = options | {"strategy": strategy}
    tensors, rounded = make_tensors(), make_tensors(dtype, dtype, dtype)
    with autocast(dtype):
        loss = call(linear_cross_entropy, tensors, options | CHUNKS)
    expected = call(linear_cross_entropy, rounded, options | CHUNKS)
    assert torch.equal(loss, expected)
    for got, value in zip(gradients(loss, tensors), gradients(expected, rounded), strict=True):
        assert got.dtype == torch.float32  # not rounded, as those of 16-bit inputs are
        assert torch.equal(got.to(dtype), value)


@every_strategy
@every_option
@every_dtype
def test_backward_inside_and_outside(dtype, options, strategy):
    results, options = [], options | {"strategy": strategy}
    for context in (autocast(dtype), contextlib.nullcontext()):
        tensors = make_tensors()
        with autocast(dtype):
            loss = call(linear_cross_entropy, tensors, options | CHUNKS)
        with context:
            results.append(gradients(loss, tensors))
    for inside, outside in zip(*results, strict=True):
        assert torch.equal(inside, outside)


@every_strategy
@every_option
@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16], ids=str)
def test_to_float32_from_narrow_inputs(narrow, options, strategy):
    """Wider operands than inputs: the gradients are float32 sums, rounded once."""
    options = options | {"strategy": strategy}
    tensors = make_tensors(narrow, narrow, narrow)
    wide = [t.detach().float().requires_grad_() if t.is_floating_point() else t for t in tensors]
    with autocast(torch.bfloat16):
        # As on CUDA; `torch.autocast("cpu")` itself takes no float32.
        torch.set_autocast_dtype(torch.get_default_device().type, torch.float32)
        loss = call(linear_cross_entropy, tensors, options | CHUNKS)
    expected = call(linear_cross_entropy, wide, options | CHUNKS)
    assert torch.equal(loss, expected)
    for got, value in zip(gradients(loss, tensors), gradients(expected, wide), strict=True):
        assert torch.equal(got, value.to(narrow))


MIXED = {
    "a body's activations": (torch.bfloat16, torch.float32, torch.float32),
    "a narrow head": (torch.float32, torch.bfloat16, torch.float32),
    "three dtypes": (torch.float16, torch.bfloat16, torch.float32),
    "a narrow bias": (torch.float32, torch.float32, torch.float16),
}


@every_strategy
@pytest.mark.parametrize("dtypes", MIXED.values(), ids=MIXED)
@every_dtype
def test_inputs_may_differ_in_dtype(dtype, dtypes, strategy):
    """Each gradient has the dtype of its input; the loss is float32."""
    tensors = make_tensors(*dtypes)
    with autocast(dtype):
        loss = call(linear_cross_entropy, tensors, CHUNKS | {"strategy": strategy})
    found = gradients(loss, tensors)
    assert loss.dtype == torch.float32
    assert tuple(gradient.dtype for gradient in found) == dtypes

    same = [t if t.dtype == torch.int64 else t.detach().to(dtype) for t in tensors]
    wide_tile = {"vocab_chunk": VOCAB_SIZE} if strategy == "one_pass" else {}
    expected = call(linear_cross_entropy, same, CHUNKS | wide_tile)
    torch.testing.assert_close(loss, expected, rtol=0 if strategy == "two_pass" else 1e-6, atol=0)


@every_option
@every_dtype
def test_float64_stays(dtype, options):
    tensors = make_tensors(*[torch.float64] * 3)
    expected = call(linear_cross_entropy, tensors, options | CHUNKS)
    with autocast(dtype):
        loss = call(linear_cross_entropy, tensors, options | CHUNKS)
    assert loss.dtype == torch.float64
    assert torch.equal(loss, expected)


WIDE, SINGLE, HALF = torch.float64, torch.float32, torch.bfloat16
REFUSED = {
    "wide weight": (True, "weight", (SINGLE, WIDE, SINGLE)),
    "wide hidden": (True, "weight", (WIDE, SINGLE, SINGLE)),
    "wide bias": (True, "bias", (SINGLE, SINGLE, WIDE)),
    "no autocast, weight": (False, "weight", (HALF, SINGLE, SINGLE)),
    "no autocast, bias": (False, "bias", (HALF, HALF, SINGLE)),
}


@pytest.mark.parametrize("function", [linear_cross_entropy, standard_linear_cross_entropy])
@pytest.mark.parametrize(("enabled", "name", "dtypes"), REFUSED.values(), ids=REFUSED)
def test_dtypes_that_do_not_go_together(enabled, name, dtypes, function):
    """With autocast switched off inside of autocast, too."""
    refusal = pytest.raises(TypeError, match=rf"^{name}: expected dtype .*that of hidden.*, got")
    with autocast(torch.bfloat16), autocast(torch.bfloat16, enabled=enabled), refusal:
        call(function, make_tensors(*dtypes), {})


@pytest.mark.cpu_only("it reads the events of the CPU's allocator")
@every_dtype
@pytest.mark.parametrize("argument", ["weight", "hidden"])
def test_no_copy_of_a_whole_input(argument, dtype, tmp_path):
    """Frozen, so that no gradient is as large; the standard loss makes the copy."""
    rows = {"hidden": 64, "weight": 64, argument: 4097}
    inputs = {name: torch.ones(length, 256) for name, length in rows.items()}
    labels = torch.zeros(rows["hidden"], dtype=torch.int64)
    trained = inputs["weight" if argument == "hidden" else "hidden"].requires_grad_()

    def peak(function, **chunks):
        def step():
            with autocast(dtype):
                loss = function(**inputs, labels=labels, **chunks)
            return loss, *torch.autograd.grad(loss, trained)

        return record_allocations(step, tmp_path).peak

    copy = inputs[argument].nbytes // 2
    assert peak(standard_linear_cross_entropy) >= copy  # it would have been seen
    chunks = {"vocab_chunk": 64, "token_chunk": 64, "strategy": "two_pass"}
    assert peak(linear_cross_entropy, **chunks) < copy / 2
