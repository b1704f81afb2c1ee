"""What the plan says of the workspace holds, by XLA's buffer assignment: for every budget."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import pytest

from jax_impl import linear_cross_entropy, plan
from tests.jax_impl.programs import abstract_arrays, temporary_bytes
from tests.tables import grid, optimized

MIB = 2**20
SHAPES = {"round": (1024, 64, 8192), "ragged": (1021, 65, 8191), "few tokens": (24, 256, 16411)}
DTYPES = ("float32", "bfloat16", "float16")
WIDE_AND_NARROW = ("float32", "bfloat16")
STRATEGIES = ("two_pass", "one_pass")
LAYOUTS = (0, 1)

pytestmark = [
    pytest.mark.cpu_only("of what a GPU's compiler assigns there is tests/gpu"),
    optimized,
]

OPTIONS = {
    "none": {},
    "softcap": {"logit_softcap": 30.0},
    "all": {
        "logit_softcap": 30.0, "logit_scale": 0.5, "label_smoothing": 0.1, "z_loss": 1e-4,
        "return_aux": True,
    },
}  # fmt: skip


def make_arrays(shape, dtype, vocab_axis=0, with_bias=True):
    hidden, weight, labels = abstract_arrays(*shape, dtype, vocab_axis)
    bias = {"bias": jax.ShapeDtypeStruct((shape[2],), dtype)} if with_bias else {}
    return {"hidden": hidden, "weight": weight, **bias, "labels": labels}


def measured_workspace(arrays, needs=("hidden", "weight", "bias"), **options):
    wanted = {name: arrays[name] for name in needs if name in arrays}
    others = {name: array for name, array in arrays.items() if name not in wanted}
    has_aux = options.get("return_aux", False)

    def loss(wanted, others):
        return linear_cross_entropy(**wanted, **others, **options)

    step = jax.value_and_grad(loss, has_aux=has_aux) if wanted else loss
    return temporary_bytes(jax.jit(step).lower(wanted, others).compile())


def smallest_budget(arrays, **options):
    with pytest.raises(ValueError, match=r"^memory_budget: expected at least") as refusal:
        plan(**arrays, **options, memory_budget=1)
    return int(str(refusal.value).split()[4])


@grid(shape=SHAPES, dtype=DTYPES, strategy=STRATEGIES)
def test_every_budget_is_kept(shape, dtype, strategy):
    arrays = make_arrays(shape, dtype)
    smallest = smallest_budget(arrays, strategy=strategy)
    for factor in (1, 2, 5):
        budget = int(factor * smallest)
        options = {"strategy": strategy, "memory_budget": budget}
        said = plan(**arrays, **options)
        assert measured_workspace(arrays, **options) <= said.workspace_bytes <= budget, said


@grid(options=OPTIONS, vocab_axis=LAYOUTS, dtype=DTYPES, strategy=STRATEGIES)
def test_predicted_for_all_options_and_layouts(options, vocab_axis, dtype, strategy):
    arrays = make_arrays(SHAPES["ragged"], dtype, vocab_axis)
    options = {**options, "strategy": strategy, "vocab_axis": vocab_axis}
    said = plan(**arrays, **options)
    assert measured_workspace(arrays, **options) <= said.workspace_bytes, said


@grid(
    needs=(("hidden",), ("weight",), ("hidden", "weight"), ("weight", "bias"), ()),
    dtype=WIDE_AND_NARROW,
    strategy=STRATEGIES,
)
def test_predicted_for_what_is_frozen(needs, dtype, strategy):
    """The plan is that of all gradients; fewer take no more."""
    arrays = make_arrays(SHAPES["ragged"], dtype)
    said = plan(**arrays, strategy=strategy)
    measured = measured_workspace(arrays, needs, strategy=strategy)
    assert measured <= said.workspace_bytes, said


@pytest.mark.cpu_kind("XLA compiles for its instructions")
@grid(dtype=WIDE_AND_NARROW, strategy=STRATEGIES)
def test_a_prediction_is_not_far_above(dtype, strategy):
    """Or a budget would be refused, or half of it left lying, that would do."""
    arrays = make_arrays((2048, 512, 16384), dtype, with_bias=False)
    options = {"strategy": strategy, "memory_budget": 96 * MIB}
    said = plan(**arrays, **options)
    measured = measured_workspace(arrays, ("hidden", "weight"), **options)
    assert measured > 0.5 * said.workspace_bytes, (said, measured)


@grid(vocab_axis=LAYOUTS, strategy=STRATEGIES)
def test_gradients_in_32_bits_are_their_own_sums(strategy, vocab_axis):
    """No second dX or dW, for ragged axes in either layout: tiles that are small beside them."""
    arrays = make_arrays((2047, 512, 16385), "float32", vocab_axis)
    options = {
        "strategy": strategy, "vocab_axis": vocab_axis, "token_chunk": 16, "vocab_chunk": 512,
    }  # fmt: skip
    hidden_bytes = 4 * 2047 * 512
    assert measured_workspace(arrays, **options) < hidden_bytes


@grid(vocab_axis=LAYOUTS, strategy=STRATEGIES)
def test_no_float32_copy_of_a_16_bit_weight(strategy, vocab_axis):
    """XLA's CPU compiler would make one before the loop. Without dW, which one_pass sums wide."""
    arrays = make_arrays((64, 256, 16385), "bfloat16", vocab_axis)
    options = {
        "strategy": strategy, "vocab_axis": vocab_axis, "token_chunk": 16, "vocab_chunk": 512,
    }  # fmt: skip
    assert measured_workspace(arrays, ("hidden",), **options) < 16385 * 256 * 2


def test_plan_takes_shapes_alone():
    said = plan(**make_arrays(SHAPES["round"], jnp.bfloat16))
    assert said.workspace_bytes > 0


def test_options_of_the_plan_are_those_of_the_loss():
    step = functools.partial(plan, **make_arrays(SHAPES["round"], "float32"))
    assert step(precision="highest") == step()
    with pytest.raises(ValueError, match=r"^strategy: expected one of"):
        step(strategy="three_pass")
