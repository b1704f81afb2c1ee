"""The answer to a shape on a GPU: in seconds what takes NumPy minutes at a real vocabulary.

The plain mean loss of `loss_spec.reference`, written out once more in PyTorch. It shares
nothing with the losses that it judges, and leaves nothing to autograd.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from loss_spec.inputs import IGNORE_INDEX

Array = np.ndarray[Any, np.dtype[Any]]

# Of the logits of a block, which are there twice: beside a large weight and its gradient in
# float64 they fit into 16 GB.
_BLOCK_BYTES = 2**30


class Answer(NamedTuple):
    """In the dtype in which it was computed, as `loss_spec.reference` gives it."""

    loss: Array
    grad_hidden: Array
    grad_weight: Array


def linear_cross_entropy(
    hidden: Float[Array, "N D"],
    weight: Float[Array, "V D"],
    labels: Int[Array, " N"],
    *,
    device: str,
    compute_dtype: Any = np.float64,
    round_to: Any = None,
) -> Answer:
    """Full-logits loss and gradients over the tokens not ignored, a block after the other.

        loss          = mean_i (logsumexp_v z_iv - z_i,y_i)           with z = hidden @ weight.T
        grad_logits   = (softmax(z) - one_hot(y)) / count
        grad_hidden   = grad_logits @ weight
        grad_weight   = grad_logits.T @ hidden

    Of no tokens all are 0. `compute_dtype` and `round_to`, NumPy's, are as in
    `loss_spec.reference`: bare logits, their gradients and the final ones are rounded.
    """
    torch.set_float32_matmul_precision("highest")  # no TF32
    dtype = _torch_dtype(compute_dtype)

    def rounded(tensor: Tensor) -> Tensor:
        return tensor if round_to is None else tensor.to(_torch_dtype(round_to)).to(dtype)

    counted = np.flatnonzero(labels != IGNORE_INDEX)
    x, w = (_tensor(array).to(device).to(dtype) for array in (hidden[counted], weight))
    y = _tensor(labels[counted]).to(device).long()
    count = max(len(counted), 1)
    block = max(1, _BLOCK_BYTES // (len(w) * w.itemsize))

    loss = w.new_zeros(())
    grad_x, grad_w = torch.zeros_like(x), torch.zeros_like(w)
    for start in range(0, len(x), block):
        rows = slice(start, start + block)
        label = y[rows, None]  # [B, 1]
        log_probability = rounded(x[rows] @ w.T).log_softmax(1)  # [B, V]
        loss -= log_probability.gather(1, label).sum()
        grad_logits = log_probability.exp_()  # in its place
        grad_logits.scatter_add_(1, label, -torch.ones_like(label, dtype=dtype))
        grad_logits = rounded(grad_logits.div_(count))
        grad_x[rows] = grad_logits @ w
        grad_w.addmm_(grad_logits.T, x[rows])
        del log_probability, grad_logits  # or those of two blocks would be there

    grad_hidden = np.zeros(hidden.shape, compute_dtype)
    grad_hidden[counted] = rounded(grad_x).cpu().numpy()
    return Answer((loss / count).cpu().numpy(), grad_hidden, rounded(grad_w).cpu().numpy())


def _torch_dtype(dtype: Any) -> torch.dtype:
    return getattr(torch, np.dtype(dtype).name)


def _tensor(array: Array) -> Tensor:
    # PyTorch does not know NumPy's bfloat16: the bits go through an integer view.
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
