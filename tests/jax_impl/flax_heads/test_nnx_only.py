"""What NNX alone has."""

from __future__ import annotations

import jax.numpy as jnp
import pytest
from flax import nnx

from jax_impl.flax_nnx import LMHead, TiedLMHead
from tests.jax_impl.flax_heads.cases import D, V, arrays, batch, model_values
from tests.jax_impl.flax_heads.expected import model_step
from tests.jax_impl.flax_heads.nnx_models import (
    Model,
    make_embed,
    make_head,
    make_model,
)
from tests.jax_impl.rounding import assert_same


def test_wider_logits_are_those_of_the_loss():
    """The loss's own logits are float32 in bfloat16, but not float64."""
    hidden, labels = arrays("bfloat16")
    options = {"dtype": jnp.bfloat16, "param_dtype": jnp.bfloat16}
    head = make_head(**options, use_bias=False, preferred_element_type=jnp.float32)
    assert head(hidden).dtype == jnp.float32
    assert_same(
        head.loss(hidden, labels), make_head(**options, use_bias=False).loss(hidden, labels)
    )
    head = make_head(**options, preferred_element_type=jnp.float64)
    with pytest.raises(ValueError, match=r"^preferred_element_type: expected the default"):
        head.loss(hidden, labels)


def test_bias_without_rngs():
    with pytest.raises(TypeError, match=r"^rngs: expected nnx\.Rngs for the bias"):
        TiedLMHead(V, D, use_bias=True)


def test_kernel_tied_by_assignment():
    """The parameter itself, which is how NNX ties; it has the wrong layout."""
    head = make_head()
    head.kernel = make_embed().embedding
    with pytest.raises(ValueError, match=r"^kernel: expected shape .* use TiedLMHead"):
        head.loss(*arrays())


@pytest.mark.parametrize("transform", [nnx.jit, nnx.remat])
def test_transforms(transform):
    """Inside the gradient; training has it around."""
    step = nnx.jit(nnx.value_and_grad(transform(Model.loss)))
    value, gradients = step(make_model(LMHead), *batch())
    expected = model_step(model_values(), *batch())
    assert_same((value, nnx.to_pure_dict(gradients)), expected)
