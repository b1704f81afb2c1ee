"""Which kernels multiply bfloat16 on this CPU, and whether the loss gives them its operands so."""

from __future__ import annotations

import re

import pytest
import torch

from loss_spec.cpu import matmul_instructions, multiplies_bfloat16
from tests.torch_impl.fake_cuda import record
from torch_impl import linear_cross_entropy

pytestmark = pytest.mark.cpu_only("a GPU's kernels are in tests/gpu")

# What oneDNN calls them. With less than AVX-512 PyTorch does not ask it, but for CPUs that have
# a few of its instructions in 256 bits.
KERNELS = {
    "avx2": "|brg_matmul:avx2.*",
    "avx512": "gemm:jit:bf16",
    "avx512_bf16": "brg_matmul:avx512_core_bf16",
    "amx": "brg_matmul:.*amx.*",
}


@pytest.mark.cpu_kind("the kernels are chosen by its instructions")
@pytest.mark.parametrize("dtype", [torch.bfloat16], ids=str)
def test_the_kernel_is_that_of_the_instructions(dtype, capfd):
    """By oneDNN's own word, which follows its limit in the environment."""
    instructions = matmul_instructions("torch")
    if instructions is None:
        pytest.skip("no instructions that we know oneDNN's kernels of")
    left, right = torch.ones(64, 32, dtype=dtype), torch.ones(32, 96, dtype=dtype)
    with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
        torch.mm(left, right)
    kernels = re.findall(r",exec,cpu,matmul,([^,]*),", capfd.readouterr().out)
    assert re.fullmatch(KERNELS[instructions], "".join(kernels))


def operands_of_the_loss(dtype):
    """The dtypes of what its matmuls multiply."""
    hidden, weight = (torch.ones(rows, 8, dtype=dtype, requires_grad=True) for rows in (4, 9))
    labels = torch.zeros(4, dtype=torch.int64)

    def step():
        loss = linear_cross_entropy(hidden, weight, labels, strategy="two_pass")
        return torch.autograd.grad(loss, (hidden, weight))

    matmuls = record(step, [hidden, weight, labels]).matmuls()
    assert matmuls
    return {operand.dtype for matmul in matmuls for operand in (matmul.left, matmul.right)}


@pytest.mark.cpu_kind("it decides whether operands are widened")
@pytest.mark.parametrize("dtype", [torch.bfloat16], ids=str)
def test_operands_stay_as_they_are_where_that_is_faster(dtype):
    expected = dtype if multiplies_bfloat16("torch") else torch.float32
    assert operands_of_the_loss(dtype) == {expected}


@pytest.mark.parametrize("has_onednn", [True, False])
@pytest.mark.parametrize("is_faster", [True, False])
def test_operands_are_widened_without_onednn(is_faster, has_onednn, monkeypatch):
    """PyTorch's own kernels for bfloat16 are far slower than those for float32."""
    monkeypatch.setattr("torch_impl.matmul.multiplies_bfloat16", lambda framework: is_faster)
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", has_onednn)
    stays = is_faster and has_onednn
    assert operands_of_the_loss(torch.bfloat16) == {torch.bfloat16 if stays else torch.float32}
    assert operands_of_the_loss(torch.float16) == {torch.float32}
