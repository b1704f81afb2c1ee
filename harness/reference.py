"""The float64 answer to a shape, in a process of its own, for the workers to read.

`python -m harness.reference DIRECTORY DEVICE` takes a `Shape` as JSON on standard input. It
writes the gradients as .npy files, which workers map and do not load, and the loss
with the largest fair errors as JSON. The errors allowed are those of the standard
implementation in the same dtype, worked out here: so they are the same for both frameworks
and are there when the standard itself runs out of memory.

NumPy works it out for cases on a CPU. For those on a GPU, of shapes that would take NumPy
minutes, PyTorch does on the GPU, if it can; and the inputs are written for the workers, to
which drawing them would take longer than measuring.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness.cases import Shape
from harness.orphan import die_with_parent
from loss_spec.inputs import Inputs, make_inputs, numpy_dtype
from loss_spec.reference import (
    FLOAT64_ERROR,
    fair_error,
    reference_linear_cross_entropy,
    relative_error,
)

_ANSWER = "reference.json"
_GRADIENTS = {"grad_hidden_error": "grad_hidden.npy", "grad_weight_error": "grad_weight.npy"}
_INPUTS = tuple(f"{name}.npy" for name in Inputs._fields)


def inputs_of(shape: Shape, directory: Path | None = None) -> Inputs:
    """The arrays of a shape: the same bits in every process.

    They are drawn, or mapped where the reference in `directory` has left them.
    """
    if directory is not None and all((directory / file).exists() for file in _INPUTS):
        # Copied when written to: PyTorch warns of an array that nobody can write to.
        hidden, weight, labels = (np.load(directory / file, mmap_mode="c") for file in _INPUTS)
        dtype = numpy_dtype(shape.dtype)
        return Inputs(hidden.view(dtype), weight.view(dtype), labels.view(np.int32))
    return make_inputs(
        seed=shape.seed,
        num_tokens=shape.num_tokens,
        hidden_dim=shape.hidden_dim,
        vocab_size=shape.vocab_size,
        dtype=shape.dtype,
        ignored_fraction=shape.ignored_fraction,
    )


def write_reference(shape: Shape, directory: Path, device: str = "cpu") -> None:
    """`device`: "cpu" or "gpu", that of the cases."""
    inputs = inputs_of(shape)
    if device == "gpu":
        _write_inputs(inputs, directory)
    exact, standard = _exact_and_standard(inputs, device)
    dtype = inputs.hidden.dtype
    standard_errors = {
        "loss_error": relative_error(standard.loss, exact.loss),
        "grad_hidden_error": relative_error(standard.grad_hidden, exact.grad_hidden),
        "grad_weight_error": relative_error(standard.grad_weight, exact.grad_weight),
    }
    if dtype == np.float64:
        standard_errors = dict.fromkeys(standard_errors, FLOAT64_ERROR / 2)
    np.save(directory / _GRADIENTS["grad_hidden_error"], exact.grad_hidden)
    np.save(directory / _GRADIENTS["grad_weight_error"], exact.grad_weight)
    tolerance = {
        # The loss of 16-bit inputs is float32, a gradient has the dtype of its input.
        name: fair_error(error, standard.loss.dtype if name == "loss_error" else dtype)
        for name, error in standard_errors.items()
    }
    answer = {"loss": float(exact.loss), "tolerance": tolerance}
    (directory / _ANSWER).write_text(json.dumps(answer))


def _exact_and_standard(inputs: Inputs, device: str) -> tuple[Any, Any]:
    """The answer in float64, and what a full-logits implementation makes of it in its dtype."""
    if device == "gpu" and importlib.util.find_spec("torch") is not None:
        import torch  # a worker for JAX imports this module, too

        from harness import gpu_reference

        if torch.cuda.is_available():
            with suppress(torch.OutOfMemoryError):  # slowly is better than not at all
                return _both(partial(gpu_reference.linear_cross_entropy, device="cuda"), inputs)
    return _both(reference_linear_cross_entropy, inputs)


def _both(loss: Callable[..., Any], inputs: Inputs) -> tuple[Any, Any]:
    dtype = inputs.hidden.dtype
    compute_dtype = np.float64 if dtype == np.float64 else np.float32
    return loss(*inputs), loss(*inputs, compute_dtype=compute_dtype, round_to=dtype)


def _write_inputs(inputs: Inputs, directory: Path) -> None:
    """As unsigned integers: of bfloat16, .npy files can hold the bits alone."""
    for array, file in zip(inputs, _INPUTS, strict=True):
        np.save(directory / file, array.view(f"u{array.itemsize}"))


def compare(
    outputs: tuple[Any, ...], to_numpy: Callable[[Any], Any], directory: Path
) -> dict[str, Any]:
    """The record's `numerics`: relative L2 errors of loss, dX and dW, and what is allowed."""
    answer = json.loads((directory / _ANSWER).read_text())
    loss, *gradients = outputs
    loss = to_numpy(loss)
    numerics: dict[str, Any] = {
        "loss": float(loss),
        "loss_error": relative_error(loss, np.asarray(answer["loss"])),
    }
    for gradient, (name, file) in zip(gradients, _GRADIENTS.items(), strict=True):
        exact = np.load(directory / file, mmap_mode="r")
        numerics[name] = relative_error(to_numpy(gradient).reshape(exact.shape), exact)
    return {**numerics, "tolerance": answer["tolerance"]}


if __name__ == "__main__":
    die_with_parent()
    write_reference(Shape(**json.load(sys.stdin)), Path(sys.argv[1]), sys.argv[2])
