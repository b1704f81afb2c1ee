"""The reference against PyTorch's own loss in float64, differentiated by autograd.

Where `torch.nn.functional.cross_entropy` has no such option, the formula is written in
PyTorch's operators. None of this project's losses takes part.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from loss_spec.reference import reference_linear_cross_entropy

N, D, V = 17, 6, 11
INPUTS = ("hidden", "weight", "bias")
REDUCTIONS = ("mean", "sum", "none")

# A dozen roundings of float64 in sums of N * V terms of about 1.
TOLERANCE = {"rtol": 1e-13, "atol": 1e-14}

SMOOTHINGS = (0.0, 0.1)
SCALES_AND_CAPS = ((1.0, None), (-0.7, None), (0.7, 1.5))
Z_LOSSES = (0.0, 0.3)


def make_tensors():
    generator = np.random.default_rng(0)
    shapes = {"hidden": (N, D), "weight": (V, D), "bias": (V,)}
    arrays = {name: torch.tensor(generator.standard_normal(s)) for name, s in shapes.items()}
    labels = torch.tensor(generator.integers(0, V, N))
    class_weight, token_weight = (torch.tensor(generator.uniform(0, 2, n)) for n in (V, N))
    cotangent = torch.tensor(generator.standard_normal(N))
    for name in INPUTS:
        arrays[name].requires_grad_()
    return arrays, labels, class_weight, token_weight, cotangent


def assert_reference_is(loss, logits, labels, arrays, cotangent, *, ignored, **options):
    """Loss, gradients, and what is said beside them."""
    cotangent = cotangent if loss.ndim else cotangent[0]
    loss.backward(cotangent)
    weights = {
        name: None if options[name] is None else options.pop(name).numpy()
        for name in ("class_weight", "token_weight")
        if name in options
    }
    got = reference_linear_cross_entropy(
        *(arrays[name].detach().numpy() for name in ("hidden", "weight")),
        labels.numpy(),
        bias=arrays["bias"].detach().numpy(),
        cotangent=cotangent.numpy(),
        **(options | weights),
    )
    np.testing.assert_allclose(got.loss, loss.detach(), **TOLERANCE)
    for name in INPUTS:
        np.testing.assert_allclose(getattr(got, f"grad_{name}"), arrays[name].grad, **TOLERANCE)

    label_log_prob = logits.log_softmax(1).gather(1, labels.clamp(0, V - 1)[:, None])[:, 0]
    expected = {
        "logsumexp": logits.logsumexp(1).masked_fill(ignored, 0),
        "log_prob": label_log_prob.masked_fill(ignored, 0),
        "prediction": logits.argmax(1).masked_fill(ignored, -1),
    }
    for name, tensor in expected.items():
        np.testing.assert_allclose(getattr(got.aux, name), tensor.detach(), **TOLERANCE)
    assert got.aux.num_tokens == (~ignored).sum()


@pytest.mark.parametrize("ignore_index", [-100, 3, V])
@pytest.mark.parametrize("has_class_weight", [False, True])
@pytest.mark.parametrize("label_smoothing", SMOOTHINGS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_cross_entropy(reduction, label_smoothing, has_class_weight, ignore_index):
    arrays, labels, class_weight, _, cotangent = make_tensors()
    labels[::4] = ignore_index
    options = {
        "reduction": reduction,
        "label_smoothing": label_smoothing,
        "ignore_index": ignore_index,
    }
    class_weight = class_weight if has_class_weight else None
    logits = F.linear(*(arrays[name] for name in INPUTS))
    loss = F.cross_entropy(logits, labels, weight=class_weight, **options)
    ignored = labels == ignore_index
    options["class_weight"] = class_weight
    assert_reference_is(loss, logits, labels, arrays, cotangent, ignored=ignored, **options)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("scale_and_cap", "z_loss"), list(product(SCALES_AND_CAPS, Z_LOSSES)))
@pytest.mark.parametrize("label_smoothing", SMOOTHINGS)
def test_options_that_torch_does_not_have(label_smoothing, scale_and_cap, z_loss, reduction):
    """With weights of classes and tokens, and the mean over their products."""
    arrays, labels, class_weight, token_weight, cotangent = make_tensors()
    scale, cap = scale_and_cap
    labels[::4] = -100
    ignored = labels == -100
    logits = scale * F.linear(*(arrays[name] for name in INPUTS))
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    target = torch.full((N, V), label_smoothing / V, dtype=torch.float64)
    target[torch.arange(N), labels.clamp_min(0)] += 1 - label_smoothing
    losses = -(target * class_weight * logits.log_softmax(1)).sum(1)
    losses = token_weight * (losses + z_loss * logits.logsumexp(1) ** 2)
    losses = losses.masked_fill(ignored, 0)
    of_labels = (token_weight * class_weight[labels.clamp_min(0)]).masked_fill(ignored, 0)
    loss = {
        "none": losses,
        "sum": losses.sum(),
        "mean": losses.sum() / of_labels.sum(),
    }[reduction]
    options = {
        "reduction": reduction,
        "label_smoothing": label_smoothing,
        "logit_scale": scale,
        "logit_softcap": cap,
        "z_loss": z_loss,
        "class_weight": class_weight,
        "token_weight": token_weight,
    }
    assert_reference_is(loss, logits, labels, arrays, cotangent, ignored=ignored, **options)
