"""The buffers of a loop over tiles, and the steps from scores to operands in them.

Everything is allocated once, and every step on a tile happens in place.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from loss_spec.workspace import SLAB_NUMBERS
from torch_impl.buffers import Buffer
from torch_impl.chunks import chunks, slabs
from torch_impl.config import Config
from torch_impl.labels import IGNORED
from torch_impl.logits import cap_slope_into, scores_into
from torch_impl.matmul import accumulation_dtype, matmul_into, operand_dtype
from torch_impl.objective import Coefficients, logit_gradient_
from torch_impl.statistics import exponential_
from torch_impl.tokens import Rows, take


class Tiles:
    """Room for one tile of scores, token_chunk x `columns`, and for what is made of it.

    Where `columns` are more than a vocabulary chunk, the rest still goes chunk by chunk.
    """

    def __init__(self, config: Config, hidden: Tensor, weight: Tensor, columns: int) -> None:
        rows, chunk, dim = config.token_chunk, config.vocab_chunk, hidden.shape[1]
        dtype, operand = (
            accumulation_dtype(config.dtype),
            operand_dtype(config.dtype, hidden.device),
        )
        self._config, self._operand = config, operand
        self._scores = Buffer(rows * columns, hidden, dtype)
        self._hidden: Buffer | None = None  # until a block must be copied
        self._held: tuple[Rows, Tensor] | None = None  # what lies in it
        self._weight = self._narrow = self._products = self._slope = None
        if not weight.dtype == config.dtype == operand:
            self._weight = Buffer(chunk * dim, hidden, operand)
        if operand != dtype:
            self._narrow = Buffer(rows * chunk, hidden, operand)
            if hidden.device.type == "cpu":
                self._products = Buffer(max(rows, chunk) * dim, hidden, operand)
        if config.objective.logit_softcap is not None:
            # Of a slab, which is as large whatever the columns of the tile.
            slab = max(SLAB_NUMBERS, columns) if hidden.device.type == "cpu" else rows * columns
            self._slope = Buffer(min(rows * columns, slab), hidden, dtype)

    def hidden(
        self, hidden: Float[Tensor, "N D"], codes: Int64[Tensor, " N"], rows: Rows
    ) -> Float[Tensor, "T D"]:
        """Those rows as operands, 0 for tokens that are ignored, whatever those hold.

        A logit gradient of 0 times a NaN would be a NaN in the gradient of the weight.
        """
        on_cpu = hidden.device.type == "cpu"
        is_operand = hidden.dtype == self._config.dtype == self._operand
        if on_cpu and is_operand and isinstance(rows, slice):
            return hidden[rows]
        if self._held is not None and self._held[0] is rows:
            return self._held[1]  # a single block, for each chunk of the vocabulary
        if self._hidden is None:
            self._hidden = Buffer(self._config.token_chunk * hidden.shape[1], hidden, self._operand)
        row_codes = take(codes, rows)
        block = self._hidden.view(len(row_codes), hidden.shape[1])
        self._held = rows, block
        if is_operand and isinstance(rows, Tensor):
            torch.index_select(hidden, 0, rows, out=block)
        else:
            block.copy_(take(hidden, rows).to(self._config.dtype))
        if not on_cpu:  # where nothing that is ignored is in it
            block.masked_fill_((row_codes == IGNORED)[:, None], 0)
        return block

    def weight(self, weight: Float[Tensor, "V D"], vocab: slice) -> Float[Tensor, "C D"]:
        """Those rows as operands, in the buffer that there is for them if they must be copied."""
        rows = weight[vocab]
        if self._weight is None:
            return rows
        if rows.stride(0) < rows.stride(1):  # [D, V], transposed
            copy = self._weight.view(rows.shape[1], rows.shape[0]).t()
        else:
            copy = self._weight.view(*rows.shape)
        return copy.copy_(rows.to(self._config.dtype))

    def scores(
        self,
        hidden: Float[Tensor, "T D"],
        weight: Float[Tensor, "C D"],
        bias: Float[Tensor, " C"] | None,
    ) -> Float[Tensor, "T C"]:
        """Of a block of tokens and a chunk of the vocabulary, both operands already."""
        scores = self._scores.view(len(hidden), len(weight))
        self._scores_into(scores, hidden, weight, bias)
        return scores

    def all_scores(
        self,
        hidden: Float[Tensor, "T D"],
        weight: Float[Tensor, "V D"],
        bias: Float[Tensor, " V"] | None,
    ) -> Float[Tensor, "T V"]:
        """Of a block of tokens and all classes."""
        scores = self._scores.view(len(hidden), len(weight))
        for vocab in chunks(len(weight), self._config.vocab_chunk):
            chunk_bias = None if bias is None else bias[vocab]
            self._scores_into(scores[:, vocab], hidden, self.weight(weight, vocab), chunk_bias)
        return scores

    def _scores_into(
        self, scores: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor | None
    ) -> None:
        room = None if self._products is None else self._narrow
        scores_into(scores, self._config.objective, hidden, weight, bias, room)

    def slope(self, scores: Float[Tensor, "S C"]) -> Float[Tensor, "S C"] | None:
        """The derivative of the softcap for a slab of scores, if there is one."""
        if self._slope is None:
            return None
        slope = self._slope.view(*scores.shape)
        cap_slope_into(slope, scores)
        return slope

    def operand(self, gradient: Float[Tensor, "T C"]) -> Float[Tensor, "T C"]:
        """The gradient of a vocabulary chunk in the dtype in which it is multiplied."""
        if self._narrow is None:
            return gradient
        return self._narrow.view(*gradient.shape).copy_(gradient)

    def multiply_into(
        self,
        out: Float[Tensor, "a c"],
        left: Float[Tensor, "a b"],
        right: Float[Tensor, "b c"],
        *,
        accumulate: bool,
    ) -> None:
        """A product of an operand, into the sum of a gradient."""
        matmul_into(out, left, right, accumulate=accumulate, room=self._products)


def recomputed_gradient(
    config: Config,
    tiles: Tiles,
    scores: Float[Tensor, "T C"],
    shift: Float[Tensor, " T"],
    codes: Int64[Tensor, " T"],
    vocab: slice,
    class_weight: Float[Tensor, " C"] | None,
    coefficients: Coefficients,
) -> Float[Tensor, "T C"]:
    """The gradient of a tile of bare products in place of its scores, slab by slab."""
    for slab in slabs(scores):
        rows = scores[slab]
        slope = tiles.slope(rows)
        exponential_(rows.sub_(shift[slab, None]), config.objective.logit_factor)
        logit_gradient_(rows, slope, codes[slab], vocab, class_weight, coefficients.rows(slab))
    return scores
