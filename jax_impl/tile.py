"""One tile of the logits, token block x vocabulary chunk: its scores and its gradient."""

from __future__ import annotations

from jaxtyping import Array, Float, Int32

from jax_impl.chunks import Chunk
from jax_impl.config import Config
from jax_impl.labels import is_label
from jax_impl.logits import scores_of
from jax_impl.matmul import as_operand, matmul
from jax_impl.objective import Coefficients, logit_gradient


def tile_scores(
    config: Config,
    hidden: Float[Array, "T D"],
    weight: Float[Array, "V D"] | Float[Array, "D V"],
    bias: Float[Array, " V"] | None,
    vocab: Chunk,
) -> Float[Array, "T C"]:
    """Of a block of tokens and a chunk of the vocabulary."""
    return scores_of(
        config.objective,
        as_operand(hidden),
        as_operand(vocab.take(weight, config.vocab_axis)),
        None if bias is None else vocab.take(bias),
        vocab_axis=config.vocab_axis,
        precision=config.precision,
    )


def tile_gradient(
    config: Config,
    scores: Float[Array, "T C"],
    codes: Int32[Array, " T"],
    shift: Float[Array, " T"],
    coefficients: Coefficients,
    class_weight: Float[Array, " V"] | None,
    vocab: Chunk,
) -> Float[Array, "T C"]:
    """The gradient of the bare products."""
    return logit_gradient(
        config.objective,
        scores,
        shift,
        is_label(codes, vocab),
        None if class_weight is None else vocab.take(class_weight),
        coefficients,
    )


def hidden_product(
    config: Config, gradient: Float[Array, "T C"], weight: Array, vocab: Chunk
) -> Float[Array, "T D"]:
    """What a tile adds to the gradient of hidden."""
    chunk = as_operand(vocab.take(weight, config.vocab_axis))
    contract = (1, config.vocab_axis)
    return matmul(gradient, chunk, contract=contract, precision=config.precision)


def weight_product(
    config: Config, gradient: Float[Array, "T C"], hidden: Float[Array, "T D"]
) -> Float[Array, "C D"] | Float[Array, "D C"]:
    """What a tile adds to the gradient of a chunk of the weight."""
    operand = as_operand(hidden)
    pair = (gradient, operand) if config.vocab_axis == 0 else (operand, gradient)
    return matmul(*pair, contract=(0, 0), precision=config.precision)
