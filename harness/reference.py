"""The float64 answer to a shape, in a process of its own, for the workers to read.

`python -m harness.reference DIRECTORY` takes a `Shape` as JSON on standard input. It
writes the gradients as .npy files, which workers map and do not load, and the loss
with the largest fair errors as JSON. The errors allowed are those of the standard
implementation in the same dtype, worked out here in NumPy: so they are the same for
both frameworks and are there when the standard itself runs out of memory.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harness.cases import Shape
from harness.orphan import die_with_parent
from loss_spec.inputs import Inputs, make_inputs, numpy_dtype
from loss_spec.reference import fair_error, reference_linear_cross_entropy, relative_error

_ANSWER = "reference.json"
_GRADIENTS = {"grad_hidden_error": "grad_hidden.npy", "grad_weight_error": "grad_weight.npy"}


def inputs_of(shape: Shape) -> Inputs:
    """The arrays of a shape: the same bits in every process."""
    return make_inputs(
        seed=shape.seed,
        num_tokens=shape.num_tokens,
        hidden_dim=shape.hidden_dim,
        vocab_size=shape.vocab_size,
        dtype=shape.dtype,
        ignored_fraction=shape.ignored_fraction,
    )


def write_reference(shape: Shape, directory: Path) -> None:
    inputs = inputs_of(shape)
    exact = reference_linear_cross_entropy(*inputs)
    dtype = numpy_dtype(shape.dtype)
    standard = reference_linear_cross_entropy(
        *inputs,
        compute_dtype=np.float64 if dtype == np.float64 else np.float32,
        round_to=dtype,
    )
    standard_errors = {
        "loss_error": relative_error(standard.loss, exact.loss),
        "grad_hidden_error": relative_error(standard.grad_hidden, exact.grad_hidden),
        "grad_weight_error": relative_error(standard.grad_weight, exact.grad_weight),
    }
    np.save(directory / _GRADIENTS["grad_hidden_error"], exact.grad_hidden)
    np.save(directory / _GRADIENTS["grad_weight_error"], exact.grad_weight)
    tolerance = {
        # The loss of 16-bit inputs is float32, a gradient has the dtype of its input.
        name: fair_error(error, standard.loss.dtype if name == "loss_error" else dtype)
        for name, error in standard_errors.items()
    }
    answer = {"loss": float(exact.loss), "tolerance": tolerance}
    (directory / _ANSWER).write_text(json.dumps(answer))


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
    write_reference(Shape(**json.load(sys.stdin)), Path(sys.argv[1]))
