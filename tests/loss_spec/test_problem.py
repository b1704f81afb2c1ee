"""Every bad array is refused by name, with what was expected and what was got."""

from __future__ import annotations

import re

import pytest

from loss_spec import FLOAT_DTYPES, ArraySpec, Problem, check_arrays
from loss_spec.problem import INTEGER_DTYPES, label_error

GOOD = {
    "hidden": ArraySpec((2, 3, 4), "float32"),
    "weight": ArraySpec((5, 4), "float32"),
    "labels": ArraySpec((2, 3), "int32"),
    "bias": ArraySpec((5,), "float32"),
    "class_weight": ArraySpec((5,), "float64"),
    "token_weight": ArraySpec((2, 3), "bfloat16"),
    "vocab_axis": 0,
}

FLOATS = "float16 | bfloat16 | float32 | float64"
ROWS = "weight: expected shape [V, D] with D=4 (vocab_axis=0), got "
COLUMNS = "weight: expected shape [D, V] with D=4 (vocab_axis=1), got "
LABELS = "labels: expected shape [2, 3] (hidden without its last axis), got "
OF_HIDDEN = "expected dtype float32 (that of hidden), got "

BAD_DTYPES = [
    ("hidden", "int32", f"hidden: expected dtype {FLOATS}, got int32"),
    ("hidden", "complex64", f"hidden: expected dtype {FLOATS}, got complex64"),
    ("hidden", "float8_e4m3fn", f"hidden: expected dtype {FLOATS}, got float8_e4m3fn"),
    ("weight", "bfloat16", f"weight: {OF_HIDDEN}bfloat16"),
    ("weight", "float64", f"weight: {OF_HIDDEN}float64"),
    ("bias", "float16", f"bias: {OF_HIDDEN}float16"),
    ("class_weight", "int64", f"class_weight: expected dtype {FLOATS}, got int64"),
    ("token_weight", "bool", f"token_weight: expected dtype {FLOATS}, got bool"),
    ("labels", "float32", "labels: expected an integer dtype, got float32"),
    ("labels", "bool", "labels: expected an integer dtype, got bool"),
]

BAD_SHAPES = [
    ({"hidden": ()}, "hidden: expected shape [..., D], got a scalar"),
    ({"weight": (4, 5)}, ROWS + "[4, 5]"),
    ({"weight": (5,)}, ROWS + "[5]"),
    ({"weight": (1, 5, 4)}, ROWS + "[1, 5, 4]"),
    ({"weight": (5, 4), "vocab_axis": 1}, COLUMNS + "[5, 4]"),
    ({"weight": (0, 4)}, "weight: expected at least one class, got [0, 4]"),
    ({"weight": (4, 0), "vocab_axis": 1}, "weight: expected at least one class, got [4, 0]"),
    ({"labels": (6,)}, LABELS + "[6]"),
    ({"labels": (3, 2)}, LABELS + "[3, 2]"),
    ({"labels": (2, 3, 1)}, LABELS + "[2, 3, 1]"),
    ({"labels": ()}, LABELS + "[]"),
    ({"bias": (4,)}, "bias: expected shape [5], got [4]"),
    ({"bias": (1, 5)}, "bias: expected shape [5], got [1, 5]"),
    ({"bias": ()}, "bias: expected shape [5], got []"),
    ({"class_weight": (4,)}, "class_weight: expected shape [5], got [4]"),
    ({"class_weight": (2, 3)}, "class_weight: expected shape [5], got [2, 3]"),
    ({"token_weight": (6,)}, "token_weight: expected shape [2, 3] (that of labels), got [6]"),
    ({"token_weight": (5,)}, "token_weight: expected shape [2, 3] (that of labels), got [5]"),
]


def with_shape(name, shape):
    return ArraySpec(shape, GOOD[name].dtype)


@pytest.mark.parametrize(("name", "dtype", "message"), BAD_DTYPES)
def test_bad_dtype(name, dtype, message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        check_arrays(**{**GOOD, name: ArraySpec(GOOD[name].shape, dtype)})


@pytest.mark.parametrize(("shapes", "message"), BAD_SHAPES)
def test_bad_shape(shapes, message):
    changes = {
        name: shape if name == "vocab_axis" else with_shape(name, shape)
        for name, shape in shapes.items()
    }
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_arrays(**{**GOOD, **changes})


@pytest.mark.parametrize(
    ("token_shape", "num_tokens"), [((2, 3), 6), ((7,), 7), ((), 1), ((0,), 0), ((2, 0, 3), 0)]
)
def test_sizes(token_shape, num_tokens):
    changes = {
        "hidden": with_shape("hidden", (*token_shape, 4)),
        "labels": with_shape("labels", token_shape),
        "token_weight": with_shape("token_weight", token_shape),
    }
    assert check_arrays(**{**GOOD, **changes}) == Problem(
        token_shape=token_shape,
        num_tokens=num_tokens,
        hidden_dim=4,
        vocab_size=5,
        dtype="float32",
    )


def test_a_square_weight_is_read_along_vocab_axis():
    changes = {"weight": with_shape("weight", (4, 9)), "vocab_axis": 1}
    of_classes = {name: with_shape(name, (9,)) for name in ("bias", "class_weight")}
    assert check_arrays(**{**GOOD, **changes, **of_classes}).vocab_size == 9


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_float_dtypes(dtype):
    arrays = {name: ArraySpec(GOOD[name].shape, dtype) for name in ("hidden", "weight", "bias")}
    assert check_arrays(**{**GOOD, **arrays}).dtype == dtype


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_weights_of_any_float_dtype(dtype):
    names = ("class_weight", "token_weight")
    arrays = {name: ArraySpec(GOOD[name].shape, dtype) for name in names}
    assert check_arrays(**{**GOOD, **arrays}).dtype == "float32"


@pytest.mark.parametrize("dtype", INTEGER_DTYPES)
def test_label_dtypes_and_nothing_optional(dtype):
    labels = ArraySpec(GOOD["labels"].shape, dtype)
    absent = dict.fromkeys(("bias", "class_weight", "token_weight"))
    assert check_arrays(**{**GOOD, **absent, "labels": labels}).num_tokens == 6


@pytest.mark.parametrize(
    ("position", "where"), [((3,), "labels[3]"), ((0, 12), "labels[0, 12]"), ((), "labels")]
)
def test_label_error_names_the_position(position, where):
    message = f"labels: expected values in [0, 5) or ignore_index, got {where} = 9"
    assert str(label_error(position, 9, 5)) == message
