"""What is alive at the peak: by name, by size, to the byte; and when."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from harness.backends import jax_backend, torch_backend
from harness.cases import ANATOMY, Measurement, Shape, make_case
from harness.memory.anatomy import (
    GRADIENT,
    INPUT,
    UNUSED,
    WORKSPACE,
    Anatomy,
    Buffer,
    by_size,
    thinned,
)
from harness.memory.hlo_text import Origin
from harness.memory.torch_anatomy import torch_anatomy
from harness.memory.xla_anatomy import _backward_s, _Run, _times_apart
from harness.memory.xla_program import Program, read_program
from harness.reference import inputs_of
from tests.tables import grid, optimized

pytestmark = optimized

MIB = 2**20
N, D, V = 512, 64, 4096
LOGITS = N * V * 4
BACKENDS = {"torch": torch_backend, "jax": jax_backend}
MEASUREMENT = Measurement(warmup=0, repeats=1, timeout_s=60.0, device="cpu", memory_limit_gib=None)


def dissect(
    framework: str, variant: str, dtype: str = "float32", vocab_size: int = V
) -> tuple[Anatomy, int]:
    """The anatomy, and the peak that the sweep's probe sees; a chunked loss has 3 MiB to itself."""
    return _dissect(framework, variant, dtype, vocab_size)


@functools.cache  # compiling for it is most of what these tests take
def _dissect(framework: str, variant: str, dtype: str, vocab_size: int) -> tuple[Anatomy, int]:
    options = {} if variant == "standard" else {"memory_budget": 3 * MIB}
    shape = Shape(
        batch_size=2, seq_len=N // 2, hidden_dim=D, vocab_size=vocab_size, dtype=dtype,
        ignored_fraction=0.0, seed=0,
    )  # fmt: skip
    case = make_case(framework, variant, shape, MEASUREMENT, options, mode=ANATOMY)
    workload = BACKENDS[framework].build(case, inputs_of(shape), "cpu")
    workload.step()
    assert workload.dissect is not None
    assert workload.measure_memory is not None
    return workload.dissect(), workload.measure_memory().to_json(None)["peak_bytes"]


def sizes(anatomy: Anatomy, kind: str) -> list[int]:
    return [buffer.size_bytes for buffer in anatomy.buffers if buffer.kind == kind]


@grid(
    framework=["torch", "jax"],
    variant=["standard", "two_pass", "one_pass"],
    dtype=["float32", "bfloat16"],
)
def test_buffers_add_up_to_the_peak_that_the_probe_sees(
    framework: str, variant: str, dtype: str
) -> None:
    anatomy, measured = dissect(framework, variant, dtype)
    assert sum(buffer.size_bytes for buffer in anatomy.buffers) == anatomy.peak_bytes
    assert anatomy.peak_bytes == pytest.approx(measured, rel=0.01)
    highest = max(alive for _, alive in anatomy.timeline)
    # XLA's block may have gaps, and what is alive for a moment alone is not in the timeline.
    assert 0.85 * anatomy.peak_bytes <= highest <= anatomy.peak_bytes
    inputs = (N + V) * D * (4 if dtype == "float32" else 2) + 4 * N
    assert sum(sizes(anatomy, INPUT)) == inputs
    assert anatomy.timeline[0] == (0.0, inputs)
    seconds = [second for second, _ in anatomy.timeline]
    assert seconds == sorted(seconds)
    assert 0 < seconds[-1] <= anatomy.step_s * 1.001


def test_standard_in_pytorch_holds_three_times_the_logits() -> None:
    anatomy, _ = dissect("torch", "standard")
    largest = [buffer for buffer in anatomy.buffers if buffer.size_bytes == LOGITS]
    assert [
        (buffer.kind, buffer.name, buffer.asked_by.partition(":")[0]) for buffer in largest
    ] == [
        (WORKSPACE, "_log_softmax", "standard (torch_impl/standard.py"),
        (WORKSPACE, "nll_loss_backward", "NllLossBackward0"),
        (WORKSPACE, "_log_softmax_backward_data", "LogSoftmaxBackward0"),
    ]
    assert anatomy.backward_s is not None
    at_peak = max(anatomy.timeline, key=lambda moment: moment[1])[0]
    assert anatomy.backward_s < at_peak < anatomy.step_s


def test_standard_in_jax_holds_the_logits_twice_and_reserves_the_gradients() -> None:
    anatomy, _ = dissect("jax", "standard")
    largest = [buffer for buffer in anatomy.buffers if buffer.size_bytes == LOGITS]
    assert len(largest) == 2
    for buffer in largest:
        assert buffer.kind == WORKSPACE
        assert f"f32[{N},{V}]" in buffer.name
        assert "jax_impl/standard.py:" in buffer.asked_by
    gradients = (N + V) * D * 4
    assert sizes(anatomy, UNUSED) == [pytest.approx(gradients, rel=0.01)]
    assert anatomy.backward_s is not None


@pytest.mark.parametrize("framework", ["torch", "jax"])
@pytest.mark.parametrize("variant", ["two_pass", "one_pass"])
def test_ours_holds_the_gradients_and_no_logits(framework: str, variant: str) -> None:
    anatomy, _ = dissect(framework, variant)
    names = {buffer.name for buffer in anatomy.buffers if buffer.kind == GRADIENT}
    assert names >= {"gradient of weight", "gradient of hidden"}
    assert max(sizes(anatomy, WORKSPACE)) < LOGITS / 2
    if (framework, variant) == ("torch", "one_pass"):
        tile = max(
            (each for each in anatomy.buffers if each.kind == WORKSPACE),
            key=lambda each: each.size_bytes,
        )
        assert tile.asked_by.startswith("one_pass_forward (torch_impl/one_pass.py:")


def test_allocations_are_named_by_the_function_that_asked() -> None:
    import torch

    given = torch.ones(MIB)  # 4 MiB
    weight = torch.ones(2 * MIB, requires_grad=True)

    def wasteful() -> torch.Tensor:
        return torch.full((3 * MIB,), 2.0)

    def step() -> tuple[torch.Tensor, ...]:
        dropped = wasteful()
        del dropped
        kept = given * 2
        doubled = wasteful()
        return kept, doubled.sum() * given.sum()

    anatomy = torch_anatomy(step, {"given": given, "weight": weight}, ("kept", "sum"))
    found = {buffer.name: buffer for buffer in anatomy.buffers if buffer.size_bytes >= MIB}
    assert found["given"] == Buffer(kind=INPUT, name="given", size_bytes=4 * MIB)
    assert found["weight"].size_bytes == 8 * MIB
    assert found["kept"].kind == GRADIENT
    assert found["kept"].size_bytes == 4 * MIB
    assert len(found) == 4  # the other array of 12 MiB was gone by then
    wasted = found["full"]
    assert (wasted.kind, wasted.size_bytes) == (WORKSPACE, 12 * MIB)
    assert wasted.asked_by.startswith("wasteful (harness/test_anatomy.py:")
    assert anatomy.peak_bytes == pytest.approx(28 * MIB, rel=1e-4)
    assert anatomy.backward_s is None


def test_thinned_keeps_the_extremes() -> None:
    timeline = [(index / 1e5, 5) for index in range(100_000)]
    timeline[77_777] = (0.77777, 9)
    timeline[33_333] = (0.33333, 1)
    short = thinned(timeline, 1.0)
    assert len(short) < 4000
    assert (0.77777, 9) in short
    assert (0.33333, 1) in short
    assert list(short) == sorted(short)
    assert (short[0], short[-1]) == (timeline[0], timeline[-1])
    assert thinned(timeline[:50], 1.0) == tuple(timeline[:50])


def test_by_size_makes_one_of_the_small_ones() -> None:
    buffers = [
        Buffer(kind=WORKSPACE, name="a", size_bytes=3),
        Buffer(kind=WORKSPACE, name="b", size_bytes=4),
        Buffer(kind=GRADIENT, name="loss", size_bytes=4),
        Buffer(kind=INPUT, name="weight", size_bytes=10_000),
        Buffer(kind=WORKSPACE, name="tile", size_bytes=20_000),
    ]
    found = [(buffer.kind, buffer.name, buffer.size_bytes) for buffer in by_size(buffers)]
    assert found == [
        (WORKSPACE, "tile", 20_000),
        (INPUT, "weight", 10_000),
        (GRADIENT, "loss", 4),
        (WORKSPACE, "2 small buffers", 7),
    ]


LIVE_RANGE = """HloLiveRange (max 3):
  InstructionSequence:
    0:x.1
    1:dot.2
    2:while.3
  BufferLiveRange:
    x.1{}:0-3
    dot.2{}:1-2
    while.3{1}:2-3
"""
ASSIGNMENT = """BufferAssignment:
allocation 0: size 64, maybe-live-out:
 value: <7 while.3{1} (phi) @0> (size=64,offset=0): f32[4,4]{1,0}
allocation 1: size 32, parameter 0, shape |f32[8]| at ShapeIndex {}:
 value: <1 x.1 @0> (size=32,offset=0): f32[8]{0}
allocation 2: size 4, thread-local:
 value: <3 sum.9 @0> (size=4,offset=0): f32[]
allocation 3: size 80, preallocated-temp:
 value: <5 dot.2 @0> (size=64,offset=16): f32[4,4]{1,0}
 value: <6 while.3{} @0> (size=16,offset=0): (s32[], f32[4,4]{1,0})
"""
HLO = """HloModule jit_step
FileNames
1 "/somewhere/jax_impl/matmul.py"
FunctionNames
1 "matmul"
FileLocations
4 {file_name_id=1 function_name_id=1 line=44 end_line=50 column=11 end_column=5}
StackFrames
9 {file_location_id=4 parent_frame_id=2}

%fused (p.1: f32[8]) -> f32[4,4] {
  %p.1 = f32[8]{0} parameter(0)
  %dot.7 = f32[4,4]{1,0} dot(%p.1, %p.1), metadata={op_name="a/dot_general"}
  %max.7 = f32[4]{0} reduce(%dot.7), metadata={op_name="a/reduce_max"}
  ROOT %sub.7 = f32[4,4]{1,0} subtract(%dot.7, %max.7), metadata={op_name="a/sub"}
}

ENTRY %main (x.1: f32[8]) -> (f32[4,4], f32[4,4]) {
  %x.1 = f32[8]{0} parameter(0), metadata={op_name="x"}
  %dot.2 = f32[4,4]{1,0} dot(%x.1), metadata={op_name="a/transpose(jvp())/dot" stack_frame_id=9}
  %fusion.4 = f32[4,4]{1,0} fusion(%x.1), calls=%fused, metadata={op_name="a/reduce_max"}
  %while.3 = (s32[], f32[4,4]{1,0}) while(%t), metadata={source_file="/a/b/c.py" source_line=7}
  %get-tuple-element.5 = f32[4,4]{1,0} get-tuple-element(%while.3), index=1
  %bitcast.6 = f32[4,4]{1,0} bitcast(%get-tuple-element.5)
  ROOT %tuple.9 = (f32[4,4]{1,0}, f32[4,4]{1,0}) tuple(%bitcast.6, %fusion.4)
}
"""


def test_what_xla_writes_down_is_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"live-range\.txt"):
        read_program(tmp_path)
    for ending, text in (
        ("live-range.txt", LIVE_RANGE),
        ("buffer-assignment.txt", ASSIGNMENT),
        ("cpu_after_optimizations.txt", HLO),
    ):
        (tmp_path / f"module_0001.jit_step.{ending}").write_text(text)
    program = read_program(tmp_path)
    assert program.schedule == {"x.1": 0, "dot.2": 1, "while.3": 2}
    allocations = {
        index: (each.size_bytes, each.parameter, each.is_output)
        for index, each in program.allocations.items()
    }
    assert allocations == {0: (64, None, True), 1: (32, 0, False), 3: (80, None, False)}
    values = [
        (each.name, each.shape, each.is_loop_carried, each.offset, each.first, each.last)
        for each in program.values
    ]
    assert values == [
        ("while.3{1}", "f32[4,4]", True, 0, 2, 3),
        ("x.1", "f32[8]", False, 0, 0, 3),
        ("dot.2", "f32[4,4]", False, 16, 1, 2),
    ]
    origins = program.origins
    assert origins["dot.2"].source == "matmul (jax_impl/matmul.py:44)"
    assert origins["dot.2"].is_backward
    assert origins["while.3"].source == "b/c.py:7"
    assert (origins["while.3"].is_backward, origins["while.3"].is_container) == (False, True)
    # Not by its metadata, which are of any of its instructions: by the matmul and what comes out.
    assert origins["fusion.4"].operation == "dot_general+sub"
    assert not origins["fusion.4"].is_container
    assert program.outputs == ["while.3{1}", "fusion.4"]


def test_instructions_that_run_at_once_are_all_in_the_timeline() -> None:
    program = Program(origins={"b": Origin("dot", "", is_backward=True, is_container=False)})
    runs = [_Run(0.0, 4.0, "a"), _Run(1.0, 3.0, "b"), _Run(3.0, 6.0, "b"), _Run(7.0, 8.0, "a")]
    assert _times_apart(runs) == [4.0, 0.0, 2.0, 1.0]
    assert _backward_s(runs, program) == 4.0


def test_equal_gradients_are_told_apart_by_their_place() -> None:
    anatomy, _ = dissect("jax", "one_pass", vocab_size=N)
    names = [buffer.name for buffer in anatomy.buffers if buffer.kind == GRADIENT]
    assert sorted(names) == ["gradient of hidden", "gradient of weight", "loss"]


def test_both_frameworks_end_with_what_the_caller_keeps() -> None:
    for framework in BACKENDS:
        anatomy, _ = dissect(framework, "standard")
        inputs = (N + V) * D * 4 + 4 * N
        assert anatomy.timeline[-1][1] == pytest.approx(inputs + (N + V) * D * 4 + 4, abs=64)
