"""What the snippets of the docs take for granted, by the package that they use.

A snippet gets the names that it mentions, made anew. One that prints gets the sizes of the
README's table, which its output depends on; any other gets fewer tokens.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import torch

BATCH, FEATURES, VOCAB = 2, 512, 32768
LENGTH_TO_PRINT, LENGTH = 1024, 64


def _language_model() -> torch.nn.Module:
    from harness.causal_lm.models import build  # transformers take seconds to load

    return build("Llama", 256)


PREPARED: dict[str, dict[str, Callable[[int], Any]]] = {
    "torch_impl": {
        "hidden": lambda length: torch.ones(BATCH, length, FEATURES, requires_grad=True),
        "head": lambda length: torch.nn.Linear(FEATURES, VOCAB),
        "labels": lambda length: torch.zeros(BATCH, length, dtype=torch.int64),
        "model": lambda length: _language_model(),
        "batch": lambda length: dict.fromkeys(
            ("input_ids", "labels"), torch.ones(2, 8, dtype=torch.int64)
        ),
    },
    "jax_impl": {
        "hidden": lambda length: jnp.ones((BATCH, length, FEATURES)),
        "kernel": lambda length: jnp.zeros((FEATURES, VOCAB)),
        "labels": lambda length: jnp.zeros((BATCH, length), int),
    },
}


def prepared_for(snippet: str, package: str = "") -> dict[str, Any]:
    """The names that the snippet mentions, for the package or else for those it imports."""
    mentioned = {node.id for node in ast.walk(ast.parse(snippet)) if isinstance(node, ast.Name)}
    length = LENGTH_TO_PRINT if "print" in mentioned else LENGTH
    return {
        name: make(length)
        for of, names in PREPARED.items()
        if of in (package or snippet)
        for name, make in names.items()
        if name in mentioned
    }
