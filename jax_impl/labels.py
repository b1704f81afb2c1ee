"""Labels of any integer dtype, made into codes that the loops can compare."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int32, Integer

from jax_impl.chunks import Chunk
from loss_spec.problem import label_error

# Codes of tokens that have no class. Neither equals any column of the logits.
IGNORED = -1
OUT_OF_RANGE = -2


def encode_labels(
    labels: Integer[Array, " N"], vocab_size: int, ignore_index: int
) -> Int32[Array, " N"]:
    """The class of each token, or `IGNORED`, or `OUT_OF_RANGE`.

    Labels that lie in a NumPy array are encoded in NumPy: without x64 JAX would first
    narrow 64-bit ones, and make a class of an ignore_index that 32 bits cannot hold.
    """
    where: Any = np.where if isinstance(labels, np.ndarray) else jnp.where
    ignored, in_range = _classify(labels, vocab_size, ignore_index)
    code = where(in_range, labels, 0).astype(np.int32)
    return jnp.asarray(where(ignored, IGNORED, where(in_range, code, OUT_OF_RANGE)))


def check_labels(labels: Any, vocab_size: int, ignore_index: int) -> None:
    """Raises `ValueError` for the first impossible label, where values can be read.

    That is in a NumPy array and, outside a trace, in a JAX array on a CPU. On an
    accelerator reading them would make the host wait; there the loss of such a token
    is NaN.
    """
    if isinstance(labels, jax.core.Tracer):
        return
    if isinstance(labels, jax.Array) and any(d.platform != "cpu" for d in labels.devices()):
        return
    # In NumPy: labels that a jitted function closes over have values, but every JAX
    # operation on them there belongs to the trace.
    values = np.asarray(labels)
    ignored, in_range = _classify(values, vocab_size, ignore_index)
    wrong = np.argwhere(~(ignored | in_range))
    if len(wrong):
        position = tuple(int(index) for index in wrong[0])
        raise label_error(position, int(values[position]), vocab_size)


def label_column(
    codes: Int32[Array, " T"], vocab: Chunk
) -> tuple[Int32[Array, "T 1"], Bool[Array, " T"]]:
    """The column of each row's label in a chunk, some column where it is not there."""
    column = codes - vocab.start
    is_here = (column >= 0) & (column < vocab.size)
    return jnp.where(is_here, column, 0)[:, None], is_here


def is_label(codes: Int32[Array, " T"], vocab: Chunk) -> Bool[Array, "T C"]:
    """Where the label of a row is the class of a column.

    A dense comparison, which XLA fuses into what reads it; a scatter it would not.
    """
    return vocab.rows()[None, :] == codes[:, None]


def _classify(labels: Any, vocab_size: int, ignore_index: int) -> tuple[Any, Any]:
    """Whether each label is ignored, and whether it is a class; for JAX and NumPy arrays.

    Compared in the labels' own dtype: a cast would turn an unsigned label into -100,
    and -100 does not exist in an unsigned dtype.
    """
    info, as_label = np.iinfo(labels.dtype), labels.dtype.type
    can_be_ignored = info.min <= ignore_index <= info.max
    ignored = labels == as_label(ignore_index) if can_be_ignored else labels != labels
    in_range = labels >= as_label(0)
    if vocab_size <= info.max:
        in_range &= labels < as_label(vocab_size)
    return ignored, in_range
