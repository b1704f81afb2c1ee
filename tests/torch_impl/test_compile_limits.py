"""What compiled code cannot do, or say, and that it does no other thing instead."""

from __future__ import annotations

import pytest
import torch
from torch.library import opcheck

from loss_spec import LossOptions
from tests.torch_impl.programs import (
    NUM_TOKENS,
    OPTIONS,
    VOCAB_SIZE,
    compiled,
    make_arrays,
    model,
    nothing_trained,
    on_device,
    results,
)
from torch_impl.config import Config
from torch_impl.operators import flat

# All PyTorch's own: Dynamo makes a bare Function for every one that it traces, and
# Inductor and forward mode still use what is left of TorchScript.
pytestmark = [
    pytest.mark.usefixtures("fresh_dynamo"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script.*deprecated:DeprecationWarning"),
]


def test_label_out_of_range():
    """Nothing can be raised there, so that its token has a loss of NaN, and a gradient."""
    hidden, weight, labels, bias = make_arrays()
    labels[3], labels[11] = VOCAB_SIZE, -1
    wrong = torch.isin(torch.arange(NUM_TOKENS), torch.tensor([3, 11]))
    losses, grad_hidden, *_ = results(
        compiled(model(reduction="none")), (hidden, weight, labels, bias)
    )
    assert torch.equal(losses.isnan(), wrong)
    assert torch.equal(grad_hidden.isnan().all(1), wrong)
    assert torch.equal(grad_hidden.isnan().any(1), wrong)
    assert compiled(model())(hidden, weight, labels, bias)[0].isnan()


def test_second_derivative():
    """PyTorch's own message, of which it is enough that there is one."""
    arrays = make_arrays()
    (gradient,) = torch.autograd.grad(compiled(model())(*arrays)[0], arrays[0], create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        gradient.square().sum().backward()


@pytest.mark.parametrize("change", [list, nothing_trained])
def test_forward_mode(change):
    """Never zeros: the operators know no tangents, so that they must be refused before."""
    hidden, *others = change(make_arrays())
    hidden = hidden.detach()

    def derivative(hidden):
        return torch.func.jvp(lambda h: model()(h, *others)[0], (hidden,), (hidden,))

    with pytest.raises(RuntimeError, match=r"forward.mode"):
        torch.compile(derivative, backend="aot_eager")(hidden)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_operators_are_what_they_say(dtype):
    """PyTorch's own checks: shapes, dtypes and strides without values, and no aliases."""
    operators = torch.ops.memory_efficient_logits
    hidden, weight, labels, bias = nothing_trained(make_arrays())
    hidden, weight, bias = (array.to(dtype) for array in (hidden, weight, bias))
    config = flat(
        Config(
            objective=LossOptions(
                label_smoothing=0.1, logit_scale=1.5, logit_softcap=3.0, z_loss=0.01
            ).objective,
            reduction="mean",
            vocab_chunk=20,
            token_chunk=7,
            memory_budget=0,
            prediction=True,
            dtype=dtype,
        )
    )
    class_weight = on_device(OPTIONS["all"])["class_weight"]
    arrays = hidden, weight, bias, class_weight, labels.clamp_min(-1)
    opcheck(operators.two_pass_forward.default, (*arrays, *config))
    statistics = operators.two_pass_forward(*arrays, *config)[1:4]
    needs = True, True, True
    backward = (*arrays, *statistics, torch.ones(NUM_TOKENS), *needs, *config)
    opcheck(operators.two_pass_backward.default, backward)
