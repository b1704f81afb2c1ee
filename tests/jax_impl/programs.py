"""What a JAX program is made of: its equations before XLA, its buffers after."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp


def abstract_arrays(
    num_tokens: int, hidden_dim: int, vocab_size: int, dtype: str = "float32", vocab_axis: int = 0
) -> tuple[Any, Any, Any]:
    """hidden, weight and labels to compile for; nothing is allocated."""
    shape = (vocab_size, hidden_dim) if vocab_axis == 0 else (hidden_dim, vocab_size)
    return (
        jax.ShapeDtypeStruct((num_tokens, hidden_dim), dtype),
        jax.ShapeDtypeStruct(shape, dtype),
        jax.ShapeDtypeStruct((num_tokens,), jnp.int32),
    )


def equations(function: Any, *arguments: Any) -> list[Any]:
    """All equations of a function, those of loops and inner functions included."""
    return [eqn for eqn, _ in _walk(jax.make_jaxpr(function)(*arguments).jaxpr)]


def count_matmuls(function: Any, *arguments: Any, one: tuple[int, ...]) -> float:
    """The work of all matrix products, in units of one of these dimensions, [T, D] by [D, V].

    A scan counts as often as it steps. A loop over the blocks of tokens that count, which
    ends when it ends, is as long as one block: T is the size of that.
    """
    program = jax.make_jaxpr(function)(*arguments)
    products = (
        times * _multiplications(eqn)
        for eqn, times in _walk(program.jaxpr)
        if eqn.primitive.name == "dot_general"
    )
    return sum(products) / math.prod(one)


def tokens_of_a_loop(num_tokens: int, token_chunk: int) -> int:
    """T for `count_matmuls`: a block's, or all where the loop over them is a scan: on a GPU."""
    return num_tokens if jax.default_backend() == "gpu" else token_chunk


def largest_buffer(compiled: Any) -> int:
    """Elements of the largest array that the compiled program names anywhere."""
    shapes = re.findall(r"\b[a-z]+\d+\w*\[([\d,]*)\]", compiled.as_text())
    return max(math.prod(int(size) for size in shape.split(",") if size) for shape in shapes)


def temporary_bytes(compiled: Any) -> int:
    return compiled.memory_analysis().temp_size_in_bytes


def _multiplications(product: Any) -> int:
    (contracted, _), _ = product.params["dimension_numbers"]
    sizes = [product.invars[0].aval.shape[axis] for axis in contracted]
    return math.prod(sizes) * math.prod(product.outvars[0].aval.shape)


def _walk(jaxpr: Any, times: int = 1) -> Iterator[tuple[Any, int]]:
    """Each equation, and how often it is computed."""
    for eqn in jaxpr.eqns:
        yield eqn, times
        inner_times = times * eqn.params["length"] if eqn.primitive.name == "scan" else times
        for parameter in eqn.params.values():
            for inner in parameter if isinstance(parameter, (tuple, list)) else [parameter]:
                inner = getattr(inner, "jaxpr", inner)  # a closed jaxpr holds one
                if hasattr(inner, "eqns"):
                    yield from _walk(inner, inner_times)
