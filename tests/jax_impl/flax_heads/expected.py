"""What a head must answer: the contract's formulas in NumPy, and the chain rule around them."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from loss_spec import LossAux
from loss_spec.reference import reference_linear_cross_entropy


def with_gradients(loss: Any, num_inputs: int) -> Any:
    """What loss returns, and gradients: of losses by token, those of the sum of i * loss_i."""

    @functools.partial(jax.grad, argnums=tuple(range(num_inputs)), has_aux=True)
    def gradients(*inputs: Any) -> tuple[jax.Array, Any]:
        result = loss(*inputs)
        losses = result[0] if isinstance(result, tuple) else result
        factors = jnp.arange(1, losses.size + 1, dtype=losses.dtype).reshape(losses.shape)
        return jnp.sum(losses * factors), result

    return lambda *inputs: gradients(*inputs)[::-1]


def expected_of(
    hidden: Any, weight: Any, labels: Any, bias: Any = None, *, vocab_axis: int, **options: Any
) -> Any:
    """What `with_gradients` makes of the loss of these arrays, by the float64 reference."""
    hidden, labels = np.asarray(hidden), np.asarray(labels)
    for name in ("strategy", "vocab_chunk", "token_chunk", "memory_budget"):
        options.pop(name, None)
    with_aux = options.pop("return_aux", False)
    if "token_weight" in options:
        options["token_weight"] = options["token_weight"].reshape(-1)
    if options.get("reduction") == "none":
        options["cotangent"] = np.arange(1.0, labels.size + 1)
    solved = reference_linear_cross_entropy(
        hidden.reshape(-1, hidden.shape[-1]),
        np.asarray(weight),
        labels.reshape(-1),
        bias=bias,
        vocab_axis=vocab_axis,
        **options,
    )
    loss = solved.loss.reshape(labels.shape) if solved.loss.ndim else solved.loss
    *of_tokens, num_tokens = solved.aux
    aux = LossAux(*(array.reshape(labels.shape) for array in of_tokens), num_tokens)
    gradients = solved.grad_hidden.reshape(hidden.shape), solved.grad_weight
    return (
        (loss, aux) if with_aux else loss,
        gradients if bias is None else (*gradients, solved.grad_bias),
    )


def shaped(logits: Any, logit_scale: float = 1.0, logit_softcap: Any = None) -> Any:
    """The formula of the contract."""
    logits = logit_scale * logits
    return logits if logit_softcap is None else logit_softcap * jnp.tanh(logits / logit_softcap)


def model_step(values: dict[str, Any], tokens: jax.Array, labels: jax.Array) -> Any:
    """Loss and gradients of a `Model`, by the chain rule."""
    values = jax.tree.map(np.asarray, values)
    table, body, head = values["embed"]["embedding"], values["body"], values["head"]
    embedded = table[tokens]
    hidden = np.tanh(embedded @ body["kernel"] + body["bias"])
    loss, (of_hidden, of_kernel, of_bias) = expected_of(
        hidden, head["kernel"], labels, head["bias"], vocab_axis=1
    )
    of_body = of_hidden * (1 - hidden**2)
    gradients = {
        "embed": {"embedding": _scatter(tokens, of_body @ body["kernel"].T, len(table))},
        "body": {
            "kernel": np.einsum("btd,bte->de", embedded, of_body),
            "bias": of_body.sum(axis=(0, 1)),
        },
        "head": {"kernel": of_kernel, "bias": of_bias},
    }
    return loss, gradients


def adam_steps(values: dict[str, Any], batches: list[Any], learning_rate: float) -> list[Any]:
    """Loss, and parameters afterwards, of each step of Adam (Kingma and Ba, algorithm 1)."""
    values = jax.tree.map(np.asarray, values)
    mean = square = jax.tree.map(np.zeros_like, values)
    steps = []
    for number, batch in enumerate(batches, start=1):
        loss, gradients = model_step(values, *batch)
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradients)
        square = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g**2, square, gradients)
        unbiased_mean = jax.tree.map(functools.partial(_unbiased, 0.9**number), mean)
        unbiased_square = jax.tree.map(functools.partial(_unbiased, 0.999**number), square)
        values = jax.tree.map(
            lambda value, m, s: value - learning_rate * m / (np.sqrt(s) + 1e-8),
            *(values, unbiased_mean, unbiased_square),
        )
        steps.append((loss, values))
    return steps


def tied_step(values: dict[str, Any], tokens: jax.Array, labels: jax.Array, **options: Any) -> Any:
    """Loss of a `TiedModel`, and the gradients of its table as input and as output."""
    table = np.asarray(values["embed"]["embedding"])
    hidden = np.tanh(table[tokens])
    loss, (of_hidden, of_output) = expected_of(hidden, table, labels, vocab_axis=0, **options)
    return loss, _scatter(tokens, of_hidden * (1 - hidden**2), len(table)), of_output


def _unbiased(decayed: float, moment: Any) -> Any:
    return moment / (1 - decayed)


def _scatter(rows: Any, gradients: np.ndarray, length: int) -> np.ndarray:
    """The gradient of a table from that of what was looked up in it."""
    of_table = np.zeros((length, gradients.shape[-1]))
    np.add.at(of_table, np.asarray(rows), gradients)
    return of_table
