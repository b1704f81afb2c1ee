"""Options as a program comes by them, and the program that they make: static, traced once."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_impl import linear_cross_entropy
from loss_spec.inputs import make_inputs
from tests.jax_impl.programs import abstract_arrays, equations

NUM_TOKENS, HIDDEN_DIM, VOCAB_SIZE = 15, 8, 507
CHUNKS = {"vocab_chunk": 100, "token_chunk": 7}
loss = functools.partial(linear_cross_entropy, **CHUNKS)


def arrays(dtype="float32"):
    inputs = make_inputs(
        seed=0,
        num_tokens=NUM_TOKENS,
        hidden_dim=HIDDEN_DIM,
        vocab_size=VOCAB_SIZE,
        dtype=dtype,
        ignored_fraction=0.2,
    )
    return tuple(map(jnp.asarray, inputs))


def test_static_options():
    """The options of a config file: hashable, traced once for each combination."""
    traces = []

    def traced(*arrays, **options):
        traces.append(options)
        return linear_cross_entropy(*arrays, **options)

    names = ("reduction", "vocab_chunk", "token_chunk", "logit_softcap", "precision")
    jitted = jax.jit(traced, static_argnames=names)
    config = {"reduction": "sum", "logit_softcap": 30.0, "precision": "highest", **CHUNKS}
    once, again = jitted(*arrays(), **config), jitted(*arrays(), **dict(config))
    assert once == again
    assert len(traces) == 1
    jitted(*arrays(), **config | {"reduction": "mean"})
    assert len(traces) == 2


NUMPY_SCALARS = {
    "vocab_axis": (np.int64(0), 0),
    "ignore_index": (np.int8(-100), -100),
    "reduction": (np.str_("sum"), "sum"),
    "label_smoothing": (np.float32(0.125), 0.125),
    "logit_scale": (np.float16(0.5), 0.5),
    "logit_softcap": (np.int64(30), 30.0),
    "z_loss": (np.float64(0.25), 0.25),
    "vocab_chunk": (np.int32(100), 100),
    "token_chunk": (np.uint8(7), 7),
}


def test_numpy_scalars_as_options():
    """The same program as Python's numbers, and nothing widened by np.float64."""
    numpy, python = ({name: pair[i] for name, pair in NUMPY_SCALARS.items()} for i in range(2))
    programs = [
        jax.make_jaxpr(functools.partial(linear_cross_entropy, **options))(*arrays())
        for options in (numpy, python)
    ]
    assert str(programs[0]) == str(programs[1])


@pytest.mark.parametrize(
    "precision", [("highest", "default"), "F32_F32_F32", jax.lax.DotAlgorithmPreset.BF16_BF16_F32]
)
def test_other_ways_to_give_a_precision(precision):
    """As `jax.lax.dot_general` has it: for each operand, or the algorithm."""
    step = jax.grad(functools.partial(loss, precision=precision), (0, 1))
    dots = [eqn for eqn in equations(step, *arrays()) if eqn.primitive.name == "dot_general"]
    if isinstance(precision, tuple):
        expected = tuple(map(jax.lax.Precision, precision))
    elif isinstance(precision, str):
        expected = jax.lax.DotAlgorithmPreset[precision]
    else:
        expected = precision
    assert [eqn.params["precision"] for eqn in dots] == [expected] * 4


def test_program_does_not_grow_with_the_vocabulary():
    """Its loops are not unrolled, so neither does the time to compile it."""
    step = jax.jit(jax.value_and_grad(loss, (0, 1)))

    def program_lines(vocab_size):
        arrays = abstract_arrays(NUM_TOKENS, HIDDEN_DIM, vocab_size)
        return step.lower(*arrays).as_text().count("\n")

    # One after the other: an unrolled loop over a million classes would not end.
    assert program_lines(1_001) == program_lines(2_001)
    assert program_lines(1_001) == program_lines(1_000_001)
