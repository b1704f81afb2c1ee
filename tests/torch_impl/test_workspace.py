"""What the plan says of the workspace holds, by allocator events: for every budget it accepts."""

from __future__ import annotations

import pytest
import torch

from tests.tables import grid
from tests.torch_impl.allocations import record_allocations
from torch_impl import linear_cross_entropy, plan
from torch_impl.matmul import operand_dtype

MIB = 2**20
SHAPES = {"round": (1024, 64, 8192), "ragged": (1021, 65, 8191), "few tokens": (24, 256, 16411)}
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
WIDE_AND_NARROW = (torch.float32, torch.bfloat16)
STRATEGIES = ("two_pass", "one_pass")
LAYOUTS = (0, 1)

pytestmark = pytest.mark.cpu_only("they read the CPU's allocator; of a GPU there is tests/gpu")

OPTIONS = {
    "none": {},
    "softcap": {"logit_softcap": 30.0},
    "all": {
        "logit_softcap": 30.0, "logit_scale": 0.5, "label_smoothing": 0.1, "z_loss": 1e-4,
        "return_aux": True,
    },
}  # fmt: skip


def make_arrays(shape, dtype, *, vocab_axis=0, ignored_fraction=0.0, needs="hidden weight bias"):
    num_tokens, hidden_dim, vocab_size = shape
    generator = torch.Generator().manual_seed(0)
    weight_shape = (vocab_size, hidden_dim) if vocab_axis == 0 else (hidden_dim, vocab_size)
    shapes = {"hidden": (num_tokens, hidden_dim), "weight": weight_shape, "bias": (vocab_size,)}
    # Logits of ordinary size: a CPU is slow with gradients so small that they are denormal.
    scale = hidden_dim**-0.25
    arrays = {
        name: (scale * torch.randn(size, generator=generator))
        .to(dtype)
        .requires_grad_(name in needs)
        for name, size in shapes.items()
    }
    labels = torch.randint(vocab_size, (num_tokens,), generator=generator)
    labels[torch.rand(num_tokens, generator=generator) < ignored_fraction] = -100
    return {**arrays, "labels": labels}


def measured_workspace(arrays, directory, **options):
    wanted = [x for x in arrays.values() if x.requires_grad]

    def step():
        result = linear_cross_entropy(**arrays, **options)
        loss = result[0] if options.get("return_aux") else result
        aux = tuple(result[1]) if options.get("return_aux") else ()
        grads = torch.autograd.grad(loss, wanted) if wanted else ()
        return (loss, *aux, *grads)

    return record_allocations(step, directory).workspace


def smallest_budget(arrays, **options):
    with pytest.raises(ValueError, match=r"^memory_budget: expected at least") as refusal:
        plan(**arrays, **options, memory_budget=1)
    return int(str(refusal.value).split()[4])


def assert_kept(arrays, directory, **options):
    said = plan(**arrays, **options)
    measured = measured_workspace(arrays, directory, **options)
    assert measured <= said.workspace_bytes <= options["memory_budget"], said


@grid(shape=SHAPES, dtype=DTYPES, strategy=STRATEGIES)
def test_every_budget_is_kept(shape, dtype, strategy, tmp_path):
    arrays = make_arrays(shape, dtype)
    smallest = smallest_budget(arrays, strategy=strategy)
    logits_bytes = 4 * shape[0] * shape[2]
    for share in (16, 8, 4):
        budget = smallest + logits_bytes // share
        assert_kept(arrays, tmp_path, strategy=strategy, memory_budget=budget)


@grid(dtype=DTYPES, strategy=STRATEGIES)
def test_the_smallest_budget_is_kept(dtype, strategy, tmp_path):
    """Of a problem so small that its tiles, smaller still, can be counted."""
    arrays = make_arrays((40, 16, 600), dtype)
    smallest = smallest_budget(arrays, strategy=strategy)
    assert_kept(arrays, tmp_path, strategy=strategy, memory_budget=smallest)


@pytest.mark.cpu_kind("16-bit operands are widened, or products need a room of their own")
@grid(options=OPTIONS, vocab_axis=LAYOUTS, dtype=DTYPES, strategy=STRATEGIES)
def test_predicted_for_all_options_and_layouts(options, vocab_axis, dtype, strategy, tmp_path):
    arrays = make_arrays(SHAPES["ragged"], dtype, vocab_axis=vocab_axis)
    options = {**options, "strategy": strategy, "vocab_axis": vocab_axis}
    said = plan(**arrays, **options)
    assert measured_workspace(arrays, tmp_path, **options) <= said.workspace_bytes, said


@grid(
    needs=("hidden", "weight", "hidden weight", "weight bias", ""),
    dtype=WIDE_AND_NARROW,
    strategy=STRATEGIES,
)
def test_predicted_for_what_is_frozen(needs, dtype, strategy, tmp_path):
    arrays = make_arrays(SHAPES["ragged"], dtype, needs=needs)
    said = plan(**arrays, strategy=strategy)
    measured = measured_workspace(arrays, tmp_path, strategy=strategy)
    assert measured <= said.workspace_bytes, said


@grid(ignored_fraction=(0.05, 0.75, 1.0), dtype=WIDE_AND_NARROW, strategy=STRATEGIES)
def test_selecting_tokens_takes_no_more(ignored_fraction, dtype, strategy, tmp_path):
    arrays = make_arrays(SHAPES["ragged"], dtype, ignored_fraction=ignored_fraction)
    said = plan(**arrays, strategy=strategy)
    measured = measured_workspace(arrays, tmp_path, strategy=strategy)
    assert measured <= said.workspace_bytes, said


@pytest.mark.cpu_kind("what the library takes for itself must not be most of it")
@grid(dtype=WIDE_AND_NARROW, strategy=STRATEGIES)
def test_a_prediction_is_not_far_above(dtype, strategy, tmp_path):
    """Or a budget would be refused, or half of it left lying, that would do."""
    arrays = make_arrays((1024, 256, 8192), dtype, needs="hidden weight")
    del arrays["bias"]
    options = {"strategy": strategy, "memory_budget": 24 * MIB}
    said = plan(**arrays, **options)
    assert measured_workspace(arrays, tmp_path, **options) > 0.7 * said.workspace_bytes, said


@grid(needs=("hidden", "weight"), dtype=(torch.bfloat16, torch.float16))
def test_sums_of_16_bit_gradients_are_counted(needs, dtype, tmp_path):
    """Where they are most of what there is: wide hidden, small tiles."""
    sizes = {"hidden": (2048, 512, 64), "weight": (64, 2048, 4096)}
    arrays = make_arrays(sizes[needs], dtype, needs=needs)
    options = {"strategy": "two_pass", "token_chunk": 32}
    options["vocab_chunk"] = 32 if needs == "hidden" else 1024
    said = plan(**arrays, **options)
    measured = measured_workspace(arrays, tmp_path, **options)
    assert 0.7 * said.workspace_bytes < measured <= said.workspace_bytes, said


@grid(vocab_axis=LAYOUTS, strategy=STRATEGIES)
def test_gradients_in_32_bits_are_their_own_sums(strategy, vocab_axis, tmp_path):
    """No second dX or dW, for ragged axes in either layout: tiles that are small beside them."""
    arrays = make_arrays((1023, 512, 4097), torch.float32, vocab_axis=vocab_axis)
    options = {"strategy": strategy, "vocab_axis": vocab_axis, "token_chunk": 32}
    if strategy == "two_pass":
        options["vocab_chunk"] = 512
    smaller = min(arrays[name].nbytes for name in ("hidden", "weight"))
    assert measured_workspace(arrays, tmp_path, **options) < smaller


@pytest.mark.cpu_kind("in 16 bits it runs where operands are widened, and nowhere else")
@grid(dtype=WIDE_AND_NARROW)
def test_buffers_are_allocated_once(dtype, tmp_path):
    """However many tiles there are, of the same size: nothing tile-sized is allocated again."""
    if operand_dtype(dtype, torch.device("cpu")) != torch.float32:
        pytest.skip("this CPU multiplies bfloat16: PyTorch widens the products that are added up")
    few = make_arrays((64, 64, 4096), dtype)
    many = make_arrays((64, 64, 32768), dtype)
    large = [
        record_allocations(
            lambda arrays=arrays: (
                linear_cross_entropy(
                    **arrays, vocab_chunk=2048, token_chunk=32, strategy="two_pass"
                ),
            ),
            tmp_path,
        ).at_least(32 * 2048 * 2)
        for arrays in (few, many)
    ]
    assert large[0] == large[1]
