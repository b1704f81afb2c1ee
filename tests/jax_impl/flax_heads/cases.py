"""What the heads for Flax NNX and for Linen are both held to."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from loss_spec.inputs import Inputs, make_inputs

TOKEN_SHAPE, D, V = (3, 5), 8, 51
BIAS = np.linspace(-1.0, 1.0, V)
CHUNKS = {"vocab_chunk": 17, "token_chunk": 5}

# Options of the head's constructor, and of a call of its loss.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "defaults": ({}, {}),
    "sum in one pass": (
        {"logit_scale": 0.5},
        {"reduction": "sum", "strategy": "one_pass", "memory_budget": 2**20},
    ),
    "none in two passes": (
        {"logit_softcap": 1.5},
        {"reduction": "none", "strategy": "two_pass", **CHUNKS},
    ),
    "everything": (
        {"logit_scale": -2.0, "logit_softcap": 1.5},
        {
            "ignore_index": 7,
            "label_smoothing": 0.1,
            "z_loss": 1e-2,
            "class_weight": np.linspace(0.5, 2, V),
            "token_weight": np.linspace(2, 0.5, 15).reshape(TOKEN_SHAPE),
            "return_aux": True,
            **CHUNKS,
        },
    ),
}
LOGITS = {name: logit_options for name, (logit_options, _) in CASES.items()}

# By name: what differs from a good call, the error, and what its message says.
BAD_CALLS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "labels one-hot": (
        {"labels": np.zeros((3, 5, V), np.int32)},
        ValueError,
        rf"^labels: expected shape \[3, 5\] \(hidden without its last axis\), "
        rf"got \[3, 5, {V}\]; pass class indices, not one-hot rows: jnp\.argmax",
    ),
    "labels flat": (
        {"labels": np.zeros(15, np.int32)},
        ValueError,
        r"^labels: expected shape \[3, 5\] .* got \[15\]; reshape them",
    ),
    "labels with an axis of one": (
        {"labels": np.zeros((3, 5, 1), np.int32)},
        ValueError,
        r"^labels: expected shape \[3, 5\] .* got \[3, 5, 1\]; reshape them",
    ),
    "labels not shifted": (
        {"labels": np.zeros((3, 6), np.int32)},
        ValueError,
        r"^labels: .* got \[3, 6\]; pass one label a position.*hidden\[\.\.\., :-1, :\]",
    ),
    "labels of another batch": (
        {"labels": np.zeros((4, 5), np.int32)},
        ValueError,
        r"^labels: .* got \[4, 5\]; pass one class index a token",
    ),
    "labels of floats": (
        {"labels": np.zeros(TOKEN_SHAPE, np.float32)},
        TypeError,
        r"^labels: expected an integer dtype, got float32",
    ),
    "no such class": (
        {"labels": np.full(TOKEN_SHAPE, V, np.int32)},
        ValueError,
        rf"^labels: expected values in \[0, {V}\) or ignore_index, got labels\[0, 0\] = {V}",
    ),
    "hidden too wide": (
        {"hidden": np.zeros((3, 5, D + 1), np.float32)},
        ValueError,
        rf"^hidden: expected shape \[\.\.\., D\] with D={D} \(the head's\), got \[3, 5, {D + 1}\]",
    ),
    "hidden a scalar": (
        {"hidden": np.zeros((), np.float32)},
        ValueError,
        r"^hidden: expected shape \[\.\.\., D\], got a scalar",
    ),
    "class_weight": (
        {"class_weight": np.ones(V - 1)},
        ValueError,
        rf"^class_weight: expected shape \[{V}\], got \[{V - 1}\]",
    ),
    "token_weight": (
        {"token_weight": np.ones(15)},
        ValueError,
        r"^token_weight: expected shape \[3, 5\] \(that of labels\), got \[15\]",
    ),
    "vocab_axis": ({"vocab_axis": 1}, TypeError, "^vocab_axis: .* head knows its layout"),
    "bias": ({"bias": np.zeros(V)}, TypeError, "^bias: .* head owns it; .* use_bias=True"),
    "logit_scale": ({"logit_scale": 2.0}, TypeError, "^logit_scale: .* head's constructor"),
    "logit_softcap": ({"logit_softcap": 9.0}, TypeError, "^logit_softcap: .* head's constructor"),
    "precision": ({"precision": "highest"}, TypeError, "^precision: .* head's constructor"),
    "unknown": ({"reduce": "sum"}, TypeError, "^reduce: expected one of ignore_index, reduction,"),
    "reduction": ({"reduction": "avg"}, ValueError, "^reduction: expected one of 'mean', 'sum'"),
}

# Options of the head that are refused where it is constructed.
BAD_HEADS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "softcap": ({"logit_softcap": -1.0}, ValueError, "^logit_softcap: expected None or a number"),
    "scale": ({"logit_scale": "2"}, TypeError, "^logit_scale: expected a real number, got '2'"),
}

# V and D of a tied head, the shape of an array given to it, and what the error says.
BAD_TABLES: dict[str, tuple[tuple[int, int], tuple[int, ...], str]] = {
    "transposed": (
        (V, D),
        (D, V),
        rf"^embedding: expected shape \[V, D\] = \[{V}, {D}\] \(the head's\), got \[{D}, {V}\]; "
        r"pass the `embedding` of the \w+\.Embed as it is, not its transpose",
    ),
    "square": (
        (D, D),
        (D, D),
        r"^embedding: expected .*, got an array whose shape cannot tell \[V, D\] from \[D, V\]; "
        r"pass the \w+\.Embed module itself",
    ),
    "of another model": (
        (V, D),
        (V + 1, D),
        rf"^embedding: .*, got \[{V + 1}, {D}\]; construct the head with the num_embeddings",
    ),
    "flat": ((V, D), (V * D,), rf"^embedding: .*, got \[{V * D}\]"),
}


@functools.cache
def inputs(dtype: str = "float64") -> Inputs:
    return make_inputs(
        seed=0, num_tokens=15, hidden_dim=D, vocab_size=V, dtype=dtype, ignored_fraction=0.2
    )


def table(dtype: str = "float64") -> jax.Array:
    """[V, D]; its transpose is a kernel."""
    return jnp.asarray(inputs(dtype).weight)


def arrays(dtype: str = "float64", ignored: int = -100) -> tuple[jax.Array, jax.Array]:
    """hidden [3, 5, D] and labels [3, 5], some of them ignored."""
    drawn = inputs(dtype)
    labels = np.where(drawn.labels == -100, ignored, drawn.labels)
    return (
        jnp.asarray(drawn.hidden.reshape(*TOKEN_SHAPE, D)),
        jnp.asarray(labels.reshape(TOKEN_SHAPE)),
    )


def batch(size: int = 8) -> tuple[jax.Array, jax.Array]:
    """Tokens and labels, none of them ignored."""
    drawn = np.random.default_rng(0).integers(0, V, (2, size, 5), dtype=np.int32)
    return jnp.asarray(drawn[0]), jnp.asarray(drawn[1])


def model_values() -> dict[str, Any]:
    """Parameters of a `Model`: a table, a layer and a head."""
    draw = np.random.default_rng(1).standard_normal
    return {
        "embed": {"embedding": jnp.asarray(draw((V, D)))},
        "body": {"kernel": jnp.asarray(0.3 * draw((D, D))), "bias": jnp.asarray(draw(D))},
        "head": {"kernel": jnp.asarray(0.3 * draw((D, V))), "bias": jnp.asarray(draw(V))},
    }


def tied_values() -> dict[str, Any]:
    """Parameters of a `TiedModel`: a table that is used at both ends."""
    return {"embed": {"embedding": jnp.asarray(np.random.default_rng(2).standard_normal((D, D)))}}


def assert_identical(result: Any, expected: Any) -> None:
    assert jax.tree.structure(result) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
