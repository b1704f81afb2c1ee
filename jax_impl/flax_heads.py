"""What the LM heads for Flax NNX and for Linen share: checks, logits and loss; no Flax."""

from __future__ import annotations

from math import prod
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Integer

from jax_impl.loss import linear_cross_entropy
from jax_impl.matmul import accumulation_dtype
from loss_spec import LossOptions, check_option_names

Shape = tuple[int, ...]

# What `dot_general` may be in a head whose loss is wanted; Linen's default is None.
DOT_GENERALS = (None, lax.dot_general)

# Options of `linear_cross_entropy` that a call of `loss` must leave to the head.
_OF_THE_HEAD = {
    "vocab_axis": "the head knows its layout; leave it out",
    "bias": "the head owns it; construct the head with use_bias=True",
    "logit_scale": "it shapes the logits in inference too; give it to the head's constructor",
    "logit_softcap": "it shapes the logits in inference too; give it to the head's constructor",
    "precision": "the logits have it too; give it to the head's constructor",
}


class Head(Protocol):
    """What shapes the logits of a head, in inference and in the loss."""

    logit_scale: float
    logit_softcap: float | None
    precision: Any


def shape_logits(head: Head, product: Float[Array, "... V"]) -> Float[Array, "... V"]:
    """softcap(logit_scale * product) in the dtype of the product, rounded to it once."""
    scale, softcap = float(head.logit_scale), head.logit_softcap
    if softcap is None and scale == 1.0:
        return product
    wide = product.astype(accumulation_dtype(product.dtype))
    if softcap is None:
        wide *= scale
    else:
        wide = float(softcap) * jnp.tanh(wide * (scale / float(softcap)))
    return wide.astype(product.dtype)


def head_loss(
    head: Head,
    hidden: Float[Array, "... D"],
    weight: Float[Array, "V D"] | Float[Array, "D V"],
    labels: Integer[Array, "..."],
    bias: Float[Array, " V"] | None,
    *,
    vocab_axis: int,
    class_weight: Float[Array, " V"] | None,
    token_weight: Float[Array, "..."] | None,
    options: dict[str, Any],
) -> Any:
    """The loss of `shape_logits(head, hidden . weight + bias)`, of arrays of one dtype."""
    return linear_cross_entropy(
        hidden,
        weight,
        labels,
        bias=bias,
        vocab_axis=vocab_axis,
        logit_scale=head.logit_scale,
        logit_softcap=head.logit_softcap,
        precision=head.precision,
        class_weight=class_weight,
        token_weight=token_weight,
        **options,
    )


def check_logit_options(logit_scale: Any, logit_softcap: Any) -> None:
    """Raises what `linear_cross_entropy` raises for them."""
    LossOptions(logit_scale=logit_scale, logit_softcap=logit_softcap)


def check_loss_call(hidden: Any, labels: Any, vocab_size: int, options: dict[str, Any]) -> None:
    """Options that are the loss's own, and labels of the shape that hidden asks for."""
    check_option_names(options, beside=["class_weight", "token_weight"], elsewhere=_OF_THE_HEAD)
    if not _shape(hidden):
        raise ValueError("hidden: expected shape [..., D], got a scalar")
    token_shape, got = _shape(hidden)[:-1], _shape(labels)
    if got != token_shape:
        raise ValueError(
            f"labels: expected shape {list(token_shape)} (hidden without its last axis), "
            f"got {list(got)}; {_advice(token_shape, got, vocab_size)}"
        )


def check_kernel(hidden: Any, kernel_shape: Shape, vocab_size: int) -> None:
    """hidden [..., D] fits the kernel, and the kernel is [D, V]."""
    if len(kernel_shape) != 2 or kernel_shape[1] != vocab_size:
        raise ValueError(
            f"kernel: expected shape [D, V] with V={vocab_size}, got {list(kernel_shape)}; "
            "for a tied embedding [V, D] use TiedLMHead"
        )
    check_width(hidden, kernel_shape[0])


def check_width(hidden: Any, hidden_dim: int) -> None:
    """hidden is [..., D]."""
    shape = _shape(hidden)
    if not shape or shape[-1] != hidden_dim:
        raise ValueError(
            f"hidden: expected shape [..., D] with D={hidden_dim} (the head's), got {list(shape)}"
        )


def check_table(
    shape: Shape, vocab_size: int, hidden_dim: int, *, of_embed: bool, embed_type: str
) -> None:
    """An embedding table is [V, D]; that of an Embed module is so by construction.

    Of a bare array its shape must say so, and with V equal to D it cannot: taken for
    [V, D], a transposed one would give a plausible loss.
    """
    expected = f"embedding: expected shape [V, D] = {[vocab_size, hidden_dim]} (the head's)"
    if shape != (vocab_size, hidden_dim):
        if shape != (hidden_dim, vocab_size):
            advice = "construct the head with the num_embeddings and features of the embedding"
        elif of_embed:
            advice = "exchange num_embeddings and features where the head is constructed"
        else:
            advice = f"pass the `embedding` of the {embed_type} as it is, not its transpose"
        raise ValueError(f"{expected}, got {list(shape)}; {advice}")
    if vocab_size == hidden_dim and not of_embed:
        raise ValueError(
            f"{expected}, got an array whose shape cannot tell [V, D] from [D, V]; "
            f"pass the {embed_type} module itself, whose layout is known"
        )


def table_type_error(embedding: Any, embed_type: str) -> TypeError:
    got = f"{type(embedding).__module__}.{type(embedding).__qualname__}"
    return TypeError(f"embedding: expected an {embed_type} module or an array [V, D], got {got}")


def check_default_matmul(name: str, value: Any, defaults: tuple[Any, ...]) -> None:
    """The loss multiplies tile by tile, by itself."""
    if not any(value is default for default in defaults):
        raise ValueError(
            f"{name}: expected the default, which is all that loss can multiply with, got "
            f"{value!r}; leave it out, or compute the cross-entropy of the head's logits"
        )


def _advice(token_shape: Shape, labels_shape: Shape, vocab_size: int) -> str:
    """What to do about labels of the wrong shape, by the usual ways to get there."""
    if labels_shape == (*token_shape, vocab_size):
        return "pass class indices, not one-hot rows: jnp.argmax(labels, axis=-1)"
    if prod(labels_shape) == prod(token_shape):
        return "reshape them: labels.reshape(hidden.shape[:-1])"
    if token_shape and labels_shape[:-1] == token_shape[:-1]:
        return (
            "pass one label a position of hidden: to predict the next token, "
            "hidden[..., :-1, :] with the labels tokens[..., 1:]"
        )
    return "pass one class index a token"


def _shape(array: Any) -> Shape:
    return tuple(array.shape) if hasattr(array, "shape") else np.shape(array)
