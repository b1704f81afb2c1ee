"""Other people's losses for PyTorch, called as ours are.

A parameter that is not here is an option that the peer does not have. What is only a
matter of spelling (a transposed weight, flat tokens) is done for it.
"""

from __future__ import annotations

import inspect
import os
import shutil
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.targets import UnsupportedError, load_target
from harness.workload import UnavailableError

# Triton's interpreter takes about a minute for these.
_INTERPRETED_LOGITS = 2**23

_HOPPER = (9, 0)


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    vocab_axis: int = 0,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    class_weight: Tensor | None = None,
) -> Tensor:
    """`torch.nn.functional.linear_cross_entropy` as it comes: full logits."""
    losses = _torch_linear_cross_entropy()(
        *_flat(hidden, weight, labels, vocab_axis),
        linear_bias=bias,
        weight=None if class_weight is None else class_weight.to(hidden.dtype),
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )
    return _unflat(losses, labels, reduction)


def linear_cross_entropy_chunked(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    vocab_axis: int = 0,
    ignore_index: int = -100,
    reduction: str = "mean",
    class_weight: Tensor | None = None,
    token_chunk: int | None = None,
) -> Tensor:
    """The same with `LinearCrossEntropyOptions`, which chunk the tokens.

    Label smoothing is left out: given that, PyTorch warns and ignores the options.
    """
    function = _torch_linear_cross_entropy()
    losses = function(
        *_flat(hidden, weight, labels, vocab_axis),
        linear_bias=bias,
        weight=None if class_weight is None else class_weight.to(hidden.dtype),
        ignore_index=ignore_index,
        reduction=reduction,
        options=torch.nn.LinearCrossEntropyOptions(batch_chunk_size=token_chunk),
    )
    return _unflat(losses, labels, reduction)


def compiled_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    vocab_axis: int = 0,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    class_weight: Tensor | None = None,
) -> Tensor:
    """`torch.compile` of the usual three lines: `F.linear`, to float32, `F.cross_entropy`."""
    _compile_anew(hidden, weight, labels, bias, class_weight, reduction, label_smoothing)
    losses = torch.compile(_full_logits)(
        *_flat(hidden, weight, labels, vocab_axis),
        bias,
        class_weight,
        ignore_index,
        reduction,
        label_smoothing,
    )
    return _unflat(losses, labels, reduction)


def cut_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    vocab_axis: int = 0,
    ignore_index: int = -100,
    reduction: str = "mean",
    logit_softcap: float | None = None,
    z_loss: float = 0.0,
) -> Tensor:
    """apple/ml-cross-entropy: its kernels on a GPU, its `torch_compile` path on a CPU."""
    cce = load_target("cut_cross_entropy:linear_cross_entropy")

    takes = inspect.signature(cce).parameters
    options: dict[str, Any] = {}
    if bias is not None:
        if "bias" not in takes:
            raise UnsupportedError("bias")
        options["bias"] = bias
    if z_loss:
        if "return_lse" not in takes or reduction == "mean":
            raise UnsupportedError("z_loss")
        options["return_lse"] = True
    _compile_anew(hidden, weight, labels, bias, reduction, logit_softcap, z_loss)
    result = cce(
        *_flat(hidden, weight, labels.to(torch.int64), vocab_axis),
        ignore_index=ignore_index,
        softcap=logit_softcap,
        reduction=reduction,
        impl="cce" if hidden.is_cuda else "torch_compile",
        **options,
    )
    return _unflat(result, labels, reduction)


def liger(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    vocab_axis: int = 0,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    logit_softcap: float | None = None,
    z_loss: float = 0.0,
    class_weight: Tensor | None = None,
) -> Tensor:
    """Liger-Kernel's fused linear cross-entropy; on a CPU in Triton's interpreter."""
    fused = load_target("liger_kernel.transformers.functional:liger_fused_linear_cross_entropy")

    if not hidden.is_cuda and (logit_softcap is not None or class_weight is not None):
        raise UnavailableError("Triton's interpreter cannot run Liger's softcap or class weights")
    if not hidden.is_cuda and labels.numel() * max(weight.shape) > _INTERPRETED_LOGITS:
        raise UnavailableError("too many logits for Triton's interpreter")
    losses = fused(
        *_flat(hidden, weight, labels, vocab_axis),
        bias=bias,
        ce_weight=class_weight,
        ignore_index=ignore_index,
        lse_square_scale=z_loss,
        label_smoothing=label_smoothing,
        reduction=reduction,
        softcap=logit_softcap,
    )
    return _unflat(losses, labels, reduction)


def quack(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    vocab_axis: int = 0,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Dao-AILab/quack's `chunked_linear_cross_entropy`, which has no reduction "none"."""
    flat = _flat(hidden, weight, labels, vocab_axis)
    sizes = {"tokens": labels.numel(), "hidden_dim": hidden.shape[-1], "vocab_size": len(flat[1])}
    if refusal := _refusal_of_quack(_compute_capability(hidden), hidden.dtype, sizes):
        raise UnavailableError(refusal)
    if reduction == "none":
        raise UnsupportedError("reduction")
    chunked = load_target("quack.linear_cross_entropy:chunked_linear_cross_entropy")
    return chunked(*flat, ignore_index=ignore_index, reduction=reduction)


def _refusal_of_quack(
    capability: tuple[int, int] | None, dtype: torch.dtype, sizes: dict[str, int]
) -> str | None:
    """What quack would fail at in its kernels, or with an assertion that says nothing."""
    if capability is None or capability < _HOPPER:
        here = "a CPU" if capability is None else "{}.{}".format(*capability)
        return f"quack needs an NVIDIA GPU of compute capability 9.0 or later, got {here}"
    if dtype not in (torch.float16, torch.bfloat16):
        return f"quack takes float16 and bfloat16, got {dtype}"
    # Rows of 16 bytes for its TMA copies. Tokens it pads on one of its two paths only.
    for name, size in sizes.items():
        if size % 8:
            return f"quack needs {name} to be a multiple of 8, got {size}"
    return None


def _compute_capability(tensor: Tensor) -> tuple[int, int] | None:
    return torch.cuda.get_device_capability(tensor.device) if tensor.is_cuda else None


def _full_logits(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    bias: Tensor | None,
    class_weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Tensor:
    logits = F.linear(hidden, weight, bias)
    return F.cross_entropy(
        logits if logits.dtype == torch.float64 else logits.float(),
        labels,
        weight=class_weight,
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )


_compiled_for: tuple[Any, ...] | None = None


def _compile_anew(hidden: Tensor, *problem: Any) -> None:
    """Forgets what was compiled, unless it was for the same problem: the next step of a loop.

    Without, the limit of recompilations would end a program that has many problems.
    """
    global _compiled_for
    kinds = tuple(
        (x.shape, x.dtype, x.device, x.requires_grad) if isinstance(x, Tensor) else x
        for x in (hidden, *problem)
    )
    if kinds != _compiled_for:
        _expect_cpp_compiler(hidden)
        torch.compiler.reset()
        _compiled_for = kinds


def _expect_cpp_compiler(hidden: Tensor) -> None:
    """`torch.compile` looks for it by the same rule, and fails in the middle of its work."""
    compiler = os.environ.get("CXX", "g++")
    if not hidden.is_cuda and shutil.which(compiler) is None:
        raise UnavailableError(f"torch.compile needs a C++ compiler on a CPU: no {compiler} here")


def _torch_linear_cross_entropy() -> Any:
    if not hasattr(F, "linear_cross_entropy"):
        raise UnavailableError(f"PyTorch {torch.__version__} has no F.linear_cross_entropy")
    return F.linear_cross_entropy


def _flat(
    hidden: Tensor, weight: Tensor, labels: Tensor, vocab_axis: int
) -> tuple[Tensor, Tensor, Tensor]:
    weight = weight if vocab_axis == 0 else weight.t()
    return hidden.reshape(-1, hidden.shape[-1]), weight, labels.reshape(-1)


def _unflat(losses: Tensor, labels: Tensor, reduction: str) -> Tensor:
    return losses.reshape(labels.shape) if reduction == "none" else losses
