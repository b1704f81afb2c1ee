"""Both kinds of heads. A test that takes `kind` gets the module of one."""

from __future__ import annotations

from tests.jax_impl.flax_heads import linen_models, nnx_models

KINDS = {"nnx": nnx_models, "linen": linen_models}
