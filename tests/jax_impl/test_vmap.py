"""`jax.vmap` over batches of problems: the answers are those of a Python loop."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_impl import linear_cross_entropy
from loss_spec.inputs import make_inputs
from tests.jax_impl.programs import count_matmuls, tokens_of_a_loop
from tests.jax_impl.rounding import assert_same

BATCH = 3
every_strategy = pytest.mark.parametrize("strategy", ["two_pass", "one_pass"])
NAMES = ("hidden", "weight", "bias", "class_weight", "token_weight", "labels")
CHUNKS = {"vocab_chunk": 100, "token_chunk": 7}  # divide neither 507 classes nor 15 tokens

# Which array has a batch axis, and where; the others are shared by all problems.
IN_AXES = {
    "all": dict.fromkeys(NAMES, 0),
    "shared head": {"hidden": 0, "token_weight": 0, "labels": 0},
    "shared tokens": {"weight": 0, "bias": 0, "class_weight": 0},
    "bias and weights alone": {"bias": 0, "class_weight": 0, "token_weight": 0},
    "labels alone": {"labels": 0},
    "other axes": {"hidden": 1, "weight": 2, "bias": -1, "token_weight": 1, "labels": 1},
}


@functools.cache
def make_step(reduction, strategy="auto"):
    """Loss, aux, and gradients of everything that has one, with all options at work."""

    def step(arrays):
        def loss(inputs):
            result, aux = linear_cross_entropy(
                **(arrays | inputs),
                reduction=reduction,
                strategy=strategy,
                label_smoothing=0.1,
                z_loss=1e-2,
                return_aux=True,
                **CHUNKS,
            )
            # Another cotangent for each token.
            return jnp.sum(result * jnp.linspace(-1, 2, result.size, dtype=result.dtype)), aux

        inputs = {name: arrays[name] for name in ("hidden", "weight", "bias")}
        return jax.value_and_grad(loss, has_aux=True)(inputs)

    return step


def draw(dtype="float32"):
    """`BATCH` problems, stacked along axis 0."""
    problems = []
    for seed in range(BATCH):
        hidden, weight, labels = make_inputs(
            seed=seed,
            num_tokens=15,
            hidden_dim=8,
            vocab_size=507,
            dtype=dtype,
            ignored_fraction=0.2,
        )
        generator = np.random.default_rng(seed)
        arrays = [hidden, weight, generator.standard_normal(507).astype(hidden.dtype)]
        arrays += [generator.uniform(0.5, 2, size).astype(hidden.dtype) for size in (507, 15)]
        problems.append([*arrays, labels])
    return {
        name: jnp.stack(list(map(jnp.asarray, rows)))
        for name, *rows in zip(NAMES, *problems, strict=True)
    }


def assert_loop(step, stacked, in_axes):
    """`vmap(step)` is a loop of `step` over the rows of what has a batch axis."""
    arrays = {
        name: array[0] if name not in in_axes else jnp.moveaxis(array, 0, in_axes[name])
        for name, array in stacked.items()
    }
    axes = {name: in_axes.get(name) for name in NAMES}
    results = jax.jit(jax.vmap(step, in_axes=(axes,)))(arrays)
    for row in range(BATCH):
        problem = {name: stacked[name][row if name in in_axes else 0] for name in NAMES}
        expected = jax.jit(step)(problem)
        assert_same(jax.tree.map(lambda array, row=row: array[row], results), expected)


@pytest.mark.parametrize("in_axes", IN_AXES.values(), ids=IN_AXES)
def test_batch_axes(in_axes):
    assert_loop(make_step("none"), draw(), in_axes)


@every_strategy
@pytest.mark.parametrize(("dtype", "reduction"), [("bfloat16", "mean"), ("float64", "sum")])
def test_dtypes_and_reductions(dtype, reduction, strategy):
    with jax.enable_x64(dtype == "float64"):
        assert_loop(make_step(reduction, strategy), draw(dtype), IN_AXES["all"])


@pytest.mark.parametrize("in_axes", ["shared head", "bias and weights alone", "other axes"])
def test_batch_axes_in_one_pass(in_axes):
    """Where the cotangent is one number for each problem."""
    assert_loop(make_step("mean", "one_pass"), draw(), IN_AXES[in_axes])


def simple_loss(hidden, weight, labels, **options):
    return linear_cross_entropy(hidden, weight, labels, **options, **CHUNKS)


@every_strategy
def test_nested(strategy):
    """A batch of batches: the head differs along the outer axis, the tokens along both."""
    arrays = draw()
    hidden = jnp.stack([arrays["hidden"], -arrays["hidden"]])
    weight, labels = arrays["weight"][:2], arrays["labels"]
    gradients = jax.value_and_grad(functools.partial(simple_loss, strategy=strategy), (0, 1))
    inner = jax.vmap(gradients, in_axes=(0, None, 0))
    results = jax.jit(jax.vmap(inner, in_axes=(0, 0, None)))(hidden, weight, labels)
    for i, j in np.ndindex(2, BATCH):
        expected = jax.jit(gradients)(hidden[i, j], weight[i], labels[j])
        assert_same(jax.tree.map(lambda array, at=(i, j): array[at], results), expected)


@every_strategy
def test_gradient_of_vmap_sums_over_a_shared_head(strategy):
    arrays = draw()
    hidden, weight, labels = arrays["hidden"], arrays["weight"][0], arrays["labels"]

    def total(hidden, weight):
        loss = functools.partial(simple_loss, strategy=strategy)
        return jnp.sum(jax.vmap(loss, in_axes=(0, None, 0))(hidden, weight, labels))

    def loop(hidden, weight):
        return sum(simple_loss(hidden[i], weight, labels[i]) for i in range(BATCH))

    assert_same(*(jax.jit(jax.grad(f, (0, 1)))(hidden, weight) for f in (total, loop)))


def test_gradient_of_each_token():
    """Per-example gradients of the weight, as for gradient noise or differential privacy."""
    arrays = draw()
    hidden, weight, labels = (arrays[name][0] for name in ("hidden", "weight", "labels"))
    of_token = jax.vmap(jax.grad(simple_loss, 1), in_axes=(0, None, 0))
    each = jax.jit(of_token)(hidden, weight, labels)
    assert not each[labels == -100].any()
    of_sum = jax.grad(functools.partial(simple_loss, reduction="sum"), 1)
    assert_same(jnp.sum(each, axis=0), jax.jit(of_sum)(hidden, weight, labels))


@every_strategy
@pytest.mark.parametrize(("argnums", "gradients"), [((0, 1), 2), (0, 1), (1, 1)])
def test_a_frozen_operand_stays_frozen(argnums, gradients, strategy):
    arrays = draw()
    loss = functools.partial(simple_loss, strategy=strategy)
    gradient = jax.vmap(jax.grad(loss, argnums), in_axes=(0, None, 0))
    hidden, weight, labels = arrays["hidden"], arrays["weight"][0], arrays["labels"]
    one = BATCH, tokens_of_a_loop(15, 7), 8, 507
    assert (
        count_matmuls(gradient, hidden, weight, labels, one=one)
        == {"two_pass": 2, "one_pass": 1}[strategy] + gradients
    )


@pytest.mark.parametrize("wrong", [507, -1])
def test_wrong_label_is_nan_in_its_own_problem(wrong):
    """A batched label has no value to read: nothing can be raised."""
    arrays = draw()
    labels = arrays["labels"].at[1, 4].set(wrong)
    gradients = jax.vmap(jax.value_and_grad(simple_loss, (0, 1)))
    loss, grads = jax.jit(gradients)(arrays["hidden"], arrays["weight"], labels)
    assert np.isnan(loss).tolist() == [False, True, False]
    assert np.argwhere(np.isnan(grads[0]).all(axis=2)).tolist() == [[1, 4]]
    assert np.isnan(grads[1]).any(axis=(1, 2)).tolist() == [False, True, False]


@pytest.mark.cpu_only("on a GPU, where nobody looks, its loss is NaN")
def test_wrong_label_that_all_problems_share_is_refused():
    """It is still a concrete array."""
    arrays = draw()
    labels = arrays["labels"][0].at[4].set(507)
    with pytest.raises(ValueError, match=r"^labels: .* got labels\[4\] = 507"):
        jax.vmap(lambda hidden: simple_loss(hidden, arrays["weight"][0], labels))(arrays["hidden"])
