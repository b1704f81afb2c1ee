"""Problems that are more than a shape and options."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.conformance.problem import Problem, make_problem


def plain(**changes: Any) -> Problem:
    """Without a bias and ignored tokens, and with a vocabulary that every tile divides."""
    defaults = {"vocab_size": 2048, "has_bias": False, "ignored_fraction": 0.0}
    return make_problem(**defaults | changes)


def large_logits(hidden_scale: float, **options: Any) -> Problem:
    """Gradients that depend on the last digits of a few logits.

    The order in which a matmul adds up is the library's choice, and those digits depend on it: the
    errors of two orders differ by a factor of ten.
    """
    return plain(hidden_scale=hidden_scale, **options).but(num_orders=16)


def batch_axes(**problem: Any) -> Problem:
    """hidden [3, 5, D], labels [3, 5]."""
    flat = plain(**problem)
    per_token = flat.cotangent.ndim > 0
    return flat.but(
        hidden=flat.hidden.reshape(3, 5, -1),
        labels=flat.labels.reshape(3, 5),
        token_weight=None if flat.token_weight is None else flat.token_weight.reshape(3, 5),
        cotangent=flat.cotangent.reshape(3, 5) if per_token else flat.cotangent,
    )


def large(**problem: Any) -> Problem:
    """Nothing ignored, no bias, and large enough for an implementation's own chunk sizes."""
    return plain(**problem).but(chunks={})


def frozen(*needs: str, **problem: Any) -> Problem:
    """The gradients of `needs` are wanted, and no others."""
    return plain(has_bias="bias" in needs, **problem).but(needs=needs)


def labels_of(dtype: str) -> Problem:
    """Labels of a dtype, as narrow as a byte."""
    # -100 would not fit an unsigned dtype, and some would make a label of it.
    problem = plain(ignore_index=-100 if np.dtype(dtype).kind == "i" else 255)
    return problem.but(labels=problem.labels % 100, label_dtype=dtype)


def ignore_index_that_is_a_class() -> Problem:
    """Its tokens are ignored; as a column of the softmax it stays."""
    problem = plain(ignore_index=3)
    problem.labels[::3] = 3
    return problem


def weight_zero_where_ignored() -> Problem:
    """As data loaders do that write both: a mask by weights, and -100."""
    problem = plain(ignored_fraction=0.4, has_token_weight=True)
    assert problem.token_weight is not None
    problem.token_weight[problem.labels == -100] = 0
    return problem


def all_token_weights_zero() -> Problem:
    """Nothing counts, though nothing is ignored: loss 0 and no gradient."""
    problem = plain()
    return problem.but(token_weight=np.zeros(len(problem.labels), np.float32))


def label_out_of_range(label: int) -> Problem:
    problem = plain(reduction="none")
    problem.labels[4] = label
    return problem


def shifted_logits(dtype: str) -> Problem:
    """1e4 on every logit, by the bias: the softmax is the same, its digits are not.

    All operands are small integers, so that every logit is exact in float32.
    """
    problem = make_problem(dtype=dtype, hidden_dim=8, ignored_fraction=0.0, reduction="none")
    assert problem.bias is not None
    bias = np.rint(problem.bias.astype(np.float64)) + 1e4
    return problem.but(
        hidden=np.rint(problem.hidden.astype(np.float64)).astype(problem.dtype),
        weight=np.rint(3 * problem.weight.astype(np.float64)).astype(problem.dtype),
        bias=bias.astype(problem.dtype),
    )


def masked_classes() -> Problem:
    """A bias of -inf takes whole chunks of classes out."""
    problem = make_problem(ignored_fraction=0.0, reduction="none")
    assert problem.bias is not None
    problem.bias[:150] = -np.inf
    problem.bias[500:] = -np.inf
    return problem.but(labels=150 + problem.labels % 350)


def capped_far_below(vocab_size: int) -> Problem:
    """Softcap 1 with logits at -300: padding that is masked before the cap becomes finite."""
    problem = plain(
        vocab_size=vocab_size,
        reduction="none",
        logit_softcap=1.0,
    )
    problem.weight[np.arange(vocab_size) % 7 > 0] = -3.0  # one in seven keeps a gradient
    return problem.but(hidden=np.abs(problem.hidden))


def confident_tokens() -> Problem:
    """Labels with probability 1 to rounding: all gradient there is comes from the z-loss."""
    problem = plain(num_tokens=64, hidden_dim=64, vocab_size=300, z_loss=1e-2)
    hidden = problem.weight[problem.labels]
    return problem.but(hidden=hidden * (60 / np.sum(hidden**2, axis=1, keepdims=True)))


def certain_and_a_few_open(logit: float, **options: Any) -> Problem:
    """Most labels are certain, at a logit of `logit`; all gradient comes from the others.

    A loss that rounds a scaled logit in one place and not in another has probabilities of
    1.001 for the certain ones, and their gradients bury the rest. Several tiles each way.
    """
    problem = plain(num_tokens=600, hidden_dim=64, vocab_size=5000, **options)
    certain = np.arange(600) % 20 > 0
    directions = problem.weight[problem.labels[certain]]
    scale = logit / problem.options.get("logit_scale", 1.0)
    problem.hidden[certain] = directions * (scale / np.sum(directions**2, axis=1, keepdims=True))
    return problem.but(chunks={"vocab_chunk": 1024, "token_chunk": 256})


def not_finite(value: float) -> Problem:
    problem = plain(reduction="none")
    problem.hidden[4, 5] = value
    return problem


def small_probabilities() -> Problem:
    """A float16 mean whose logit gradients are below the range of float16.

    As in one of 128 accumulated batches: cotangent / N is 2**-18. The sums over the
    tokens are well inside the range. The gradient of a bias shows it: every loss that
    rounds its logit gradients to float16 loses those of the weight alike.
    """
    problem = make_problem(
        dtype="float16",
        num_tokens=2048,
        hidden_dim=16,
        vocab_size=256,
        ignored_fraction=0.0,
    )
    return problem.but(
        hidden=np.abs(problem.hidden),  # so that the sums grow
        labels=problem.labels % 16,  # so that the other rows have nothing but probabilities
        cotangent=np.asarray(2048 * 2.0**-18),
        chunks={"vocab_chunk": 100, "token_chunk": 300},
    )


def growing_sums(dtype: str) -> Problem:
    """128 chunks of tokens, 32 of classes, and sums of one sign: 16-bit sums lose them."""
    problem = plain(dtype=dtype, num_tokens=512, hidden_dim=16, vocab_size=64, reduction="sum")
    return problem.but(hidden=np.abs(problem.hidden), chunks={"vocab_chunk": 2, "token_chunk": 4})
