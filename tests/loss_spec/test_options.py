"""Every bad option is refused by name, with what was expected and what was got."""

from __future__ import annotations

import dataclasses
import re
from fractions import Fraction

import numpy as np
import pytest

from loss_spec import LossOptions, Objective

VOCAB_AXES = "vocab_axis: expected one of 0, 1, got "
REDUCTIONS = "reduction: expected one of 'mean', 'sum', 'none', got "
STRATEGIES = "strategy: expected one of 'auto', 'two_pass', 'one_pass', got "
SMOOTHING = "label_smoothing: expected a number in [0, 1), got "
SOFTCAP = "logit_softcap: expected None or a number > 0, got "

BAD = [
    ("vocab_axis", 2, ValueError, VOCAB_AXES + "2"),
    ("vocab_axis", -1, ValueError, VOCAB_AXES + "-1"),
    ("vocab_axis", True, ValueError, VOCAB_AXES + "True"),
    ("vocab_axis", None, ValueError, VOCAB_AXES + "None"),
    ("vocab_axis", "0", ValueError, VOCAB_AXES + "'0'"),
    ("ignore_index", 1.0, TypeError, "ignore_index: expected an integer, got 1.0"),
    ("ignore_index", None, TypeError, "ignore_index: expected an integer, got None"),
    ("ignore_index", False, TypeError, "ignore_index: expected an integer, got False"),
    ("reduction", "average", ValueError, REDUCTIONS + "'average'"),
    ("reduction", "Mean", ValueError, REDUCTIONS + "'Mean'"),
    ("reduction", None, ValueError, REDUCTIONS + "None"),
    *(
        (name, array, error, f"{name}: expected {expected}, got {array!r}")
        for array in (np.array([1, 2]), np.array(["mean", "auto"]), np.zeros((2, 2)))
        for name, error, expected in (
            ("vocab_axis", ValueError, "one of 0, 1"),
            ("ignore_index", TypeError, "an integer"),
            ("reduction", ValueError, "one of 'mean', 'sum', 'none'"),
            ("logit_scale", TypeError, "a real number"),
            ("strategy", ValueError, "one of 'auto', 'two_pass', 'one_pass'"),
            ("vocab_chunk", TypeError, "an integer"),
            ("return_aux", TypeError, "True or False"),
        )
    ),
    ("label_smoothing", 1.0, ValueError, SMOOTHING + "1.0"),
    ("label_smoothing", -0.1, ValueError, SMOOTHING + "-0.1"),
    ("label_smoothing", "0", TypeError, "label_smoothing: expected a real number, got '0'"),
    ("label_smoothing", True, TypeError, "label_smoothing: expected a real number, got True"),
    ("logit_scale", float("nan"), ValueError, "logit_scale: expected a finite number, got nan"),
    ("logit_scale", float("inf"), ValueError, "logit_scale: expected a finite number, got inf"),
    ("logit_scale", None, TypeError, "logit_scale: expected a real number, got None"),
    ("logit_softcap", 0.0, ValueError, SOFTCAP + "0.0"),
    ("logit_softcap", -30, ValueError, SOFTCAP + "-30.0"),
    ("logit_softcap", "30", TypeError, "logit_softcap: expected a real number, got '30'"),
    ("z_loss", float("-inf"), ValueError, "z_loss: expected a finite number, got -inf"),
    ("z_loss", 1j, TypeError, "z_loss: expected a real number, got 1j"),
    ("strategy", "three_pass", ValueError, STRATEGIES + "'three_pass'"),
    ("strategy", None, ValueError, STRATEGIES + "None"),
    *(
        (name, value, error, f"{name}: expected {expected}, got {value!r}")
        for name in ("vocab_chunk", "token_chunk", "memory_budget")
        for value, error, expected in (
            (0, ValueError, "None or an integer > 0"),
            (-512, ValueError, "None or an integer > 0"),
            (512.0, TypeError, "an integer"),
            ("512", TypeError, "an integer"),
            (True, TypeError, "an integer"),
        )
    ),
    ("return_aux", 1, TypeError, "return_aux: expected True or False, got 1"),
    ("return_aux", None, TypeError, "return_aux: expected True or False, got None"),
]

GOOD = [
    ("vocab_axis", 1, 1),
    ("vocab_axis", np.int64(1), 1),
    ("ignore_index", np.int32(-1), -1),
    ("ignore_index", 2**40, 2**40),
    ("reduction", "none", "none"),
    ("label_smoothing", 0, 0),
    ("label_smoothing", np.float64(0.25), 0.25),
    ("logit_scale", np.float32(0.5), 0.5),
    ("logit_scale", -2, -2.0),
    ("logit_softcap", 30, 30.0),
    ("logit_softcap", None, None),
    ("z_loss", 1e-4, 1e-4),
    ("return_aux", True, True),
    ("strategy", "two_pass", "two_pass"),
    ("vocab_chunk", np.int64(512), 512),
    ("token_chunk", 1, 1),
]


@pytest.mark.parametrize(("name", "value", "error", "message"), BAD)
def test_bad_value(name, value, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        LossOptions(**{name: value})


BEYOND_FLOAT64 = {"int": 10**400, "negative": -(10**5000), "fraction": Fraction(10**400, 3)}


@pytest.mark.parametrize("name", ["label_smoothing", "logit_scale", "logit_softcap", "z_loss"])
@pytest.mark.parametrize("value", BEYOND_FLOAT64.values(), ids=BEYOND_FLOAT64)
def test_number_beyond_float64(name, value):
    """Not printed: Python refuses to write an int of so many digits."""
    message = f"{name}: expected a finite number, got one beyond float64"
    with pytest.raises(ValueError, match=f"^{message}$"):
        LossOptions(**{name: value})


@pytest.mark.parametrize(("name", "value", "kept"), GOOD)
def test_good_value(name, value, kept):
    assert getattr(LossOptions(**{name: value}), name) == kept


@pytest.mark.parametrize("name", ["vocab_axis", "ignore_index", "vocab_chunk", "token_chunk"])
def test_numpy_integers_become_plain_ones(name):
    """So that the options stay hashable, and equal to those of a plain int."""
    options = LossOptions(**{name: np.int64(1)})
    assert type(getattr(options, name)) is int
    assert hash(options) == hash(LossOptions(**{name: 1}))


@pytest.mark.parametrize("name", ["label_smoothing", "logit_scale", "logit_softcap", "z_loss"])
def test_numbers_become_plain_floats(name):
    """A NumPy scalar would widen float32 arrays, and compile a second time in JAX."""
    options = LossOptions(**{name: np.float32(0.5)})
    assert type(getattr(options, name)) is float
    assert hash(options.objective) == hash(LossOptions(**{name: 0.5}).objective)


def test_objective():
    options = LossOptions(label_smoothing=0.1, logit_scale=2, logit_softcap=30, z_loss=1e-4)
    assert options.objective == Objective(0.1, 2.0, 30.0, 1e-4)
    assert LossOptions(reduction="sum").objective == Objective()


def test_options_are_keywords_and_frozen():
    with pytest.raises(TypeError):
        LossOptions(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        LossOptions().reduction = "sum"
