"""What the snippets of the docs take for granted, by the package that they use.

A snippet gets the names that it mentions, made anew. The sizes are those of the README's
table: what its snippets print depends on them.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import torch

BATCH, LENGTH, FEATURES, VOCAB = 2, 1024, 512, 32768


def _language_model() -> torch.nn.Module:
    from harness.causal_lm.models import build  # transformers take seconds to load

    return build("Llama", 256)


PREPARED: dict[str, dict[str, Callable[[], Any]]] = {
    "torch_impl": {
        "hidden": lambda: torch.ones(BATCH, LENGTH, FEATURES, requires_grad=True),
        "head": lambda: torch.nn.Linear(FEATURES, VOCAB),
        "labels": lambda: torch.zeros(BATCH, LENGTH, dtype=torch.int64),
        "model": _language_model,
        "batch": lambda: dict.fromkeys(
            ("input_ids", "labels"), torch.ones(2, 8, dtype=torch.int64)
        ),
    },
    "jax_impl": {
        "hidden": lambda: jnp.ones((BATCH, LENGTH, FEATURES)),
        "kernel": lambda: jnp.zeros((FEATURES, VOCAB)),
        "labels": lambda: jnp.zeros((BATCH, LENGTH), int),
    },
}


def prepared_for(snippet: str, package: str = "") -> dict[str, Any]:
    """The names that the snippet mentions, for the package or else for those it imports."""
    mentioned = {node.id for node in ast.walk(ast.parse(snippet)) if isinstance(node, ast.Name)}
    return {
        name: make()
        for of, names in PREPARED.items()
        if of in (package or snippet)
        for name, make in names.items()
        if name in mentioned
    }
