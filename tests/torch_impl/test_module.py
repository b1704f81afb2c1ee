"""`LinearCrossEntropyLoss`: the function, with its options said once, and checked then."""

from __future__ import annotations

import copy
import pickle
import re

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad

from torch_impl import LinearCrossEntropyLoss, linear_cross_entropy, standard_linear_cross_entropy

NUM_TOKENS, HIDDEN_DIM, VOCAB_SIZE = 6, 4, 11
OPTIONS = {
    "none": {},
    "reduction": {"reduction": "none"},
    "vocab_axis": {"vocab_axis": 1},
    "ignore_index": {"ignore_index": 3},
    "label_smoothing": {"label_smoothing": 0.1},
    "logit_scale": {"logit_scale": 0.5},
    "logit_softcap": {"logit_softcap": 2.0},
    "z_loss": {"z_loss": 0.01},
    "chunks": {"vocab_chunk": 4, "token_chunk": 5},
    "strategy": {"strategy": "two_pass"},
    "return_aux": {"return_aux": True},
}
OPTIONS["all"] = {name: value for options in OPTIONS.values() for name, value in options.items()}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


@pytest.fixture
def arrays():
    generator = torch.Generator(torch.get_default_device()).manual_seed(0)
    return {
        "hidden": torch.randn(NUM_TOKENS, HIDDEN_DIM, generator=generator).requires_grad_(),
        "weight": torch.randn(VOCAB_SIZE, HIDDEN_DIM, generator=generator),
        "labels": torch.tensor([0, 3, 3, 10, 5, 5]),
        "bias": torch.randn(VOCAB_SIZE, generator=generator),
        "token_weight": torch.rand(NUM_TOKENS, generator=generator),
    }


@pytest.fixture
def class_weight():
    return torch.linspace(0.5, 2, VOCAB_SIZE)


def flat(result):
    """A loss, or a loss and its aux, as one list."""
    return [result] if isinstance(result, torch.Tensor) else [result[0], *result[1]]


@every_option
@pytest.mark.parametrize("has_class_weight", [False, True])
def test_is_the_function(arrays, class_weight, options, has_class_weight):
    class_weight = class_weight if has_class_weight else None
    if options.get("vocab_axis") == 1:
        arrays["weight"] = arrays["weight"].T
    found = flat(LinearCrossEntropyLoss(class_weight=class_weight, **options)(**arrays))
    expected = flat(linear_cross_entropy(**arrays, class_weight=class_weight, **options))
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    gradients = [
        torch.autograd.grad(each[0].sum(), arrays["hidden"])[0] for each in (found, expected)
    ]
    assert torch.equal(*gradients)


@every_option
def test_repr_has_the_options_that_are_not_the_default(options, class_weight):
    found = repr(LinearCrossEntropyLoss(class_weight=class_weight, **options))
    name, inside = re.fullmatch(r"(\w+)\((.*)\)", found).groups()
    assert name == "LinearCrossEntropyLoss"
    expected = [f"{option}={value!r}" for option, value in options.items()]
    assert sorted(inside.split(", ") if inside else []) == sorted(expected)


def test_default_written_out_is_not_in_the_repr():
    loss = LinearCrossEntropyLoss(reduction="mean", z_loss=0, label_smoothing=0.0)
    assert repr(loss) == "LinearCrossEntropyLoss()"


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
}


@pytest.mark.parametrize("copy_of", COPIES.values(), ids=COPIES)
def test_copies(arrays, class_weight, copy_of):
    loss = LinearCrossEntropyLoss(class_weight=class_weight, label_smoothing=0.1, z_loss=0.01)
    other = copy_of(loss)
    assert repr(other) == repr(loss)
    assert torch.equal(other(**arrays), loss(**arrays))
    other.class_weight.fill_(1)
    assert torch.equal(loss.class_weight, torch.linspace(0.5, 2, VOCAB_SIZE))


def test_state(class_weight):
    """Nothing to train; a class weight is saved and loaded, as in `nn.CrossEntropyLoss`."""
    bare, weighted = LinearCrossEntropyLoss(), LinearCrossEntropyLoss(class_weight=class_weight)
    assert [*bare.parameters(), *weighted.parameters()] == []
    assert bare.state_dict() == {}
    assert set(weighted.state_dict()) == {"class_weight"}
    other = LinearCrossEntropyLoss(class_weight=torch.zeros(VOCAB_SIZE))
    other.load_state_dict(weighted.state_dict())
    assert torch.equal(other.class_weight, class_weight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_moves_to_a_dtype(arrays, class_weight, dtype):
    """With the model that it is a part of; what the loss is computed in is its inputs' affair."""
    loss = LinearCrossEntropyLoss(class_weight=class_weight).to(dtype)
    assert loss.class_weight.dtype == dtype
    expected = linear_cross_entropy(**arrays, class_weight=class_weight.to(dtype))
    assert torch.equal(loss(**arrays), expected)


def test_moves_to_a_device(class_weight):
    loss = LinearCrossEntropyLoss(class_weight=class_weight).to("meta")
    assert loss.class_weight.device.type == "meta"
    assert repr(LinearCrossEntropyLoss().to("meta")) == "LinearCrossEntropyLoss()"


BAD = {
    "unknown": (TypeError, {"label_smoothin": 0.1}),
    "an array of a call": (TypeError, {"bias": None}),
    "vocab_axis": (ValueError, {"vocab_axis": 2}),
    "ignore_index": (TypeError, {"ignore_index": 0.5}),
    "reduction": (ValueError, {"reduction": "average"}),
    "label_smoothing": (ValueError, {"label_smoothing": 1.0}),
    "logit_scale": (ValueError, {"logit_scale": float("inf")}),
    "logit_softcap": (ValueError, {"logit_softcap": 0.0}),
    "z_loss": (TypeError, {"z_loss": "0.1"}),
    "strategy": (ValueError, {"strategy": "three_pass"}),
    "vocab_chunk": (ValueError, {"vocab_chunk": 0}),
    "token_chunk": (TypeError, {"token_chunk": 1.5}),
    "return_aux": (TypeError, {"return_aux": 1}),
}


@pytest.mark.parametrize(("error", "options"), BAD.values(), ids=BAD)
def test_bad_options_are_refused_at_construction(error, options):
    (name,) = options
    with pytest.raises(error, match=f"^{name}: expected "):
        LinearCrossEntropyLoss(**options)


BAD_CLASS_WEIGHTS = {
    "a list": [1.0, 2.0],
    "of integers": torch.ones(VOCAB_SIZE, dtype=torch.int64),
    "of two axes": torch.ones(VOCAB_SIZE, 2),
}


@pytest.mark.parametrize("class_weight", BAD_CLASS_WEIGHTS.values(), ids=BAD_CLASS_WEIGHTS)
def test_bad_class_weight_is_refused_at_construction(class_weight):
    with pytest.raises((TypeError, ValueError), match=r"^class_weight: expected "):
        LinearCrossEntropyLoss(class_weight=class_weight)


def test_functional_call(arrays, class_weight):
    """`torch.func` of a model that the loss is a part of, in its parameters and buffer."""
    options = {"label_smoothing": 0.1, "bias": arrays["bias"]}

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(HIDDEN_DIM, VOCAB_SIZE)
            self.loss = LinearCrossEntropyLoss(class_weight=class_weight, label_smoothing=0.1)

        def forward(self, hidden, labels):
            return self.loss(hidden, self.head.weight, labels, bias=self.head.bias)

    hidden, labels, other = arrays["hidden"].detach(), arrays["labels"], class_weight.flip(0)
    values = {"head.weight": arrays["weight"], "head.bias": arrays["bias"]}
    state = {"loss.class_weight": other}
    model = Model()
    found = grad(lambda p: functional_call(model, p | state, (hidden, labels)))(values)

    def standard(weight):
        return standard_linear_cross_entropy(hidden, weight, labels, class_weight=other, **options)

    torch.testing.assert_close(found["head.weight"], grad(standard)(arrays["weight"]))
