"""Options as a program comes by them, and the program that they make: static, traced once."""

from __future__ import annotations

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_impl import linear_cross_entropy, standard_linear_cross_entropy
from jax_impl.matmul import check_precision
from loss_spec.inputs import make_inputs
from tests.jax_impl.programs import abstract_arrays, equations, temporary_bytes
from tests.tables import grid, optimized

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
    assert {eqn.params["precision"] for eqn in dots} == {expected}


PRECISION = "precision: expected what jax.lax.dot_general takes, got "
BAD_PRECISION = ["bogus", 3, ("highest", "bogus"), ("highest", None), ("highest",), ["f32"] * 2]


@pytest.mark.parametrize("function", [linear_cross_entropy, standard_linear_cross_entropy])
@pytest.mark.parametrize("precision", BAD_PRECISION, ids=repr)
def test_bad_precision(function, precision):
    with pytest.raises(ValueError, match=f"^{re.escape(PRECISION + repr(precision))}$"):
        function(*arrays(), precision=precision)


def test_every_precision_of_dot_general():
    """None is refused that JAX takes, and none taken that it refuses."""
    algorithm = jax.lax.DotAlgorithm(np.float32, np.float32, np.float32)
    enums = [*jax.lax.Precision, *jax.lax.DotAlgorithmPreset]
    names = ["highest", "float32", "bfloat16_3x", "tensorfloat32", "fastest", np.str_("high")]
    names += [preset.name for preset in jax.lax.DotAlgorithmPreset]
    single = [None, algorithm, *enums, *names, *BAD_PRECISION]
    kinds = ["high", "bogus", "F32_F32_F32", None, algorithm, enums[0], enums[-1]]
    pairs = itertools.product(kinds, repeat=2)
    for precision in [*single, *pairs, ["high", "default"]]:
        assert is_taken(check_precision, precision) == is_taken(trace_dot, precision), precision


def trace_dot(precision):
    array, dimensions = jax.ShapeDtypeStruct((2, 2), np.float32), (((1,), (0,)), ((), ()))
    jax.eval_shape(lambda a: jax.lax.dot_general(a, a, dimensions, precision), array)


def is_taken(function, precision):
    try:
        function(precision)
    except (TypeError, ValueError):
        return False
    return True


def test_pair_of_precisions_in_a_list():
    """As a configuration file has it."""
    assert loss(*arrays(), precision=["highest", "default"]) == loss(
        *arrays(), precision=("highest", "default")
    )


# Chunks of 100: so many classes are some whole ones and a rest, or whole ones alone. And in
# each case as many of the parts that a 16-bit gradient is put together from, and a shorter one.
GROWING = {"ragged": (10_001, 100_001, 1_000_001), "whole": (10_000, 100_100, 1_000_100)}


@grid(sizes=GROWING, dtype=("float32", "bfloat16"), strategy=("two_pass", "one_pass"))
def test_program_does_not_grow_with_the_vocabulary(strategy, dtype, sizes):
    """Its loops are not unrolled, so neither does the time to compile it."""
    step = jax.value_and_grad(functools.partial(loss, strategy=strategy), (0, 1))

    def sizes_of_program(vocab_size):
        arrays = abstract_arrays(NUM_TOKENS, HIDDEN_DIM, vocab_size, dtype)
        lines = jax.jit(step).lower(*arrays).as_text().count("\n")
        return len(equations(step, *arrays)), lines

    # One after the other: an unrolled loop over a million classes would not end.
    smallest, *others = sizes
    expected = sizes_of_program(smallest)
    for vocab_size in others:
        assert sizes_of_program(vocab_size) == expected


@optimized
@pytest.mark.cpu_only("it reads what XLA's CPU compiler assigns")
@pytest.mark.parametrize("strategy", ["two_pass", "one_pass", "auto"])
def test_a_million_classes_compile(strategy):
    """By their shapes, with what the plan chooses: 2 GiB of weight that nobody allocates.

    It takes a second; a loop over the chunks that is unrolled would take hours.
    """
    arrays = abstract_arrays(64, 512, 1_000_000)
    options = {"strategy": strategy, "memory_budget": 1 << 30}
    step = jax.value_and_grad(functools.partial(linear_cross_entropy, **options), (0, 1))
    compiled = jax.jit(step).lower(*arrays).compile()
    assert temporary_bytes(compiled) < 1 << 30
