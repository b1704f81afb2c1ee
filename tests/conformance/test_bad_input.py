"""Both losses of both frameworks refuse what the contract refuses.

The messages themselves are checked in tests/loss_spec; here, that every public
function asks for those checks, and with the right arrays.
"""

from __future__ import annotations

import re

import ml_dtypes
import numpy as np
import pytest

from tests.conformance.evaluation import CHUNKED, STANDARD

HIDDEN = np.ones((3, 4), np.float32)
WEIGHT = np.ones((5, 4), np.float32)
LABELS = np.zeros(3, np.int32)
BIAS = np.ones(5, np.float32)

BAD = {
    "hidden dtype": ({"hidden": np.ones((3, 4), np.int32)}, TypeError, "hidden: expected dtype"),
    "hidden scalar": ({"hidden": np.ones((), np.float32)}, ValueError, "hidden: expected shape"),
    "weight dtype": (
        {"weight": WEIGHT.astype(ml_dtypes.bfloat16)},
        TypeError,
        "weight: expected dtype float32 (that of hidden), got bfloat16",
    ),
    "weight layout": (
        {"weight": WEIGHT.T},
        ValueError,
        "weight: expected shape [V, D] with D=4 (vocab_axis=0), got [4, 5]",
    ),
    "other weight layout": (
        {"vocab_axis": 1},
        ValueError,
        "weight: expected shape [D, V] with D=4 (vocab_axis=1), got [5, 4]",
    ),
    "labels dtype": (
        {"labels": LABELS.astype(np.float32)},
        TypeError,
        "labels: expected an integer dtype, got float32",
    ),
    "labels of bool": ({"labels": LABELS == 0}, TypeError, "labels: expected an integer dtype"),
    "labels shape": (
        {"labels": LABELS[:2]},
        ValueError,
        "labels: expected shape [3] (hidden without its last axis), got [2]",
    ),
    "bias dtype": (
        {"bias": BIAS.astype(np.float16)},
        TypeError,
        "bias: expected dtype float32 (that of hidden), got float16",
    ),
    "bias shape": ({"bias": BIAS[:4]}, ValueError, "bias: expected shape [5], got [4]"),
    "vocab_axis": ({"vocab_axis": 2}, ValueError, "vocab_axis: expected one of 0, 1, got 2"),
    "reduction": ({"reduction": "avg"}, ValueError, "reduction: expected one of 'mean', 'sum'"),
    "ignore_index": ({"ignore_index": 0.5}, TypeError, "ignore_index: expected an integer"),
    "label_smoothing": ({"label_smoothing": 1.0}, ValueError, "label_smoothing: expected a number"),
    "logit_softcap": ({"logit_softcap": 0.0}, ValueError, "logit_softcap: expected None or a"),
    "label_smoothing dtype": ({"label_smoothing": "0.1"}, TypeError, "label_smoothing: expected a"),
    "logit_softcap negative": (
        {"logit_softcap": -30.0},
        ValueError,
        "logit_softcap: expected None",
    ),
    "logit_scale": ({"logit_scale": np.inf}, ValueError, "logit_scale: expected a finite number"),
    "z_loss": ({"z_loss": None}, TypeError, "z_loss: expected a real number, got None"),
    "class_weight shape": (
        {"class_weight": BIAS[:4]},
        ValueError,
        "class_weight: expected shape [5], got [4]",
    ),
    "class_weight dtype": (
        {"class_weight": LABELS},
        TypeError,
        "class_weight: expected dtype float16 | bfloat16 | float32 | float64, got int32",
    ),
    "token_weight shape": (
        {"token_weight": BIAS[:2]},
        ValueError,
        "token_weight: expected shape [3] (that of labels), got [2]",
    ),
    "token_weight dtype": (
        {"token_weight": LABELS == 0},
        TypeError,
        "token_weight: expected dtype float16 | bfloat16 | float32 | float64, got bool",
    ),
    "return_aux": ({"return_aux": 1}, TypeError, "return_aux: expected True or False, got 1"),
}
BAD_CHUNKING = {
    "vocab_chunk": ({"vocab_chunk": 0}, ValueError, "vocab_chunk: expected None or an integer > 0"),
    "token_chunk": ({"token_chunk": -1}, ValueError, "token_chunk: expected None or an integer"),
    "strategy": ({"strategy": "fast"}, ValueError, "strategy: expected one of 'auto', 'two_pass'"),
    "vocab_chunk dtype": ({"vocab_chunk": 2.0}, TypeError, "vocab_chunk: expected an integer"),
    "memory_budget": (
        {"memory_budget": 1},
        ValueError,
        "memory_budget: expected at least ",
    ),
}


@pytest.mark.parametrize("function", [CHUNKED, STANDARD])
@pytest.mark.parametrize(("change", "error", "message"), BAD.values(), ids=BAD)
def test_refused_by_both_losses(framework, function, change, error, message):
    call_with(framework, function, change, error, message)


@pytest.mark.parametrize(("change", "error", "message"), BAD_CHUNKING.values(), ids=BAD_CHUNKING)
def test_refused_by_the_chunked_loss(framework, change, error, message):
    call_with(framework, CHUNKED, change, error, message)


def call_with(framework, function, change, error, message):
    options = {"hidden": HIDDEN, "weight": WEIGHT, "labels": LABELS, **change}
    arrays = [options.pop(name) for name in ("hidden", "weight", "labels")]
    with pytest.raises(error, match="^" + re.escape(message)):
        framework.call(function, *arrays, **options)
