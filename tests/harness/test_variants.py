"""The stream, and other people's losses: each is measured, or says what is missing."""

from __future__ import annotations

import functools
import importlib
import re
import sys
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from harness.cases import Measurement, Shape, make_case
from harness.reference import inputs_of
from harness.run import main
from harness.targets import UnsupportedError
from harness.variants import EVERY_VARIANT, PEERS, VARIANTS, YARDSTICKS, torch_peers
from harness.workload import UnavailableError
from tests.harness.conftest import TINY, Finished, RunHarness
from tests.tables import slow

BRIEF = (*TINY, "--warmup=0", "--repeats=1")

# What a peer says where it cannot run on a CPU: `{}` is what became of its package.
REASONS = {
    "linear_cross_entropy": "has no F.linear_cross_entropy",
    "linear_cross_entropy_chunked": "has no F.linear_cross_entropy",
    "compiled": "torch.compile needs a C++ compiler",
    "cut_cross_entropy": "cut_cross_entropy:linear_cross_entropy {}",
    "liger": "on a CPU Liger runs in Triton's interpreter",
    "quack": "quack needs an NVIDIA GPU of compute capability 9.0",
    "optax": "optax.losses:softmax_cross_entropy_with_integer_labels {}",
    "tokamax": "tokamax:linear_softmax_cross_entropy_loss {}"
    if sys.version_info >= (3, 12)
    else "tokamax's chunked_xla needs Python 3.12",
}
PACKAGES = {"cut_cross_entropy": "cut_cross_entropy", "optax": "optax", "tokamax": "tokamax"}
NEVER_ON_CPU = ("liger", "quack")


def statuses(done: Finished) -> dict[str, tuple[str, str]]:
    """The status of each variant, and what its row says."""
    found = {
        record["variant"]: (record["status"], (record["error"] or {"message": ""})["message"])
        for record in done.records
    }
    mismatches = "mismatch" in {status for status, _ in found.values()}
    assert done.status == int(mismatches), done.stdout + done.stderr
    return found


def is_here(name: str) -> bool:
    if name in NEVER_ON_CPU or (name == "tokamax" and sys.version_info < (3, 12)):
        return False
    if name.startswith("linear_cross_entropy"):
        return hasattr(F, "linear_cross_entropy")
    return name not in PACKAGES or find_spec(PACKAGES[name]) is not None


def is_a_hair_beyond(message: str) -> bool:
    """Of the rule: other people's rounding is, on some CPUs, and is measured all the same."""
    figures = re.search(r"error is ([\d.e-]+), the tolerance ([\d.e-]+)", message)
    return figures is not None and float(figures[1]) < 1.5 * float(figures[2])


@pytest.mark.parametrize(
    "backend", ["aot_eager_decomp_partition", pytest.param("inductor", marks=slow)]
)
def test_every_peer_is_measured_or_says_what_is_missing(
    run_here: RunHarness, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """Only inductor generates C++, which takes seconds to compile; all before that is the same."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    # 2048: tokamax is wrong where it must pad the vocabulary.
    done = run_here(*BRIEF, "--vocab_sizes=2048", f"--variants={','.join(PEERS)}")
    found = statuses(done)
    assert found.keys() == REASONS.keys() == PEERS.keys()
    for name, (status, message) in found.items():
        if is_here(name):
            assert status == "ok" or is_a_hair_beyond(message), (name, status, message)
        else:
            assert status == "unavailable", name
            assert REASONS[name].format("needs ") in message
            assert message in done.stdout


@pytest.mark.parametrize(
    ("program", "what_became_of_it"),
    [
        (
            "raise ModuleNotFoundError(name={!r})",
            "needs {}, which is not installed",
        ),
        (
            "raise OSError('libx.so: cannot open')",
            "cannot be imported: OSError: libx.so: cannot open",
        ),
    ],
    ids=["missing", "broken"],
)
def test_machine_without_peers(
    run_here: RunHarness,
    import_instead: Callable[[dict[str, str]], None],
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    what_became_of_it: str,
) -> None:
    """Rows with reasons, and nothing that failed: no package, no compiler."""
    peers = [name for name in PEERS if not name.startswith("linear_cross_entropy")]
    packages = ("cut_cross_entropy", "liger_kernel", "quack", "optax", "tokamax")
    import_instead({package: program.format(package) for package in packages})
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(torch_peers, "_compiled_for", None)
    found = statuses(run_here(*BRIEF, f"--variants={','.join(peers)}"))
    assert list(found) == peers
    for name, (status, message) in found.items():
        assert status == "unavailable", name
        reason = REASONS[name].format(what_became_of_it.format(PACKAGES.get(name)))
        assert message.startswith(reason), name


def test_list_has_a_line_for_each_peer(capsys: pytest.CaptureFixture[str]) -> None:
    """With what it needs, however narrow the terminal is."""
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, peer in PEERS.items():
        (line,) = [line for line in lines if line.startswith(f"  {name} ")]
        assert line.endswith(f"{peer.about}; needs {peer.needs}")
        assert peer.needs


def test_stream_is_a_yardstick_that_must_be_asked_for() -> None:
    assert list(VARIANTS) == ["floor", "standard", "chunked"]
    assert list(EVERY_VARIANT)[:3] == ["floor", "stream", "standard"], "in the order of a run"
    assert list(YARDSTICKS) == ["floor", "stream"]
    assert not any(each.is_loss or each.options for each in YARDSTICKS.values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_stream_writes_the_negated_weight(framework: str, dtype: str) -> None:
    """In memory of its own."""
    backend = importlib.import_module(f"harness.backends.{framework}_backend")
    shape = Shape(
        batch_size=2, seq_len=3, hidden_dim=8, vocab_size=16, dtype=dtype, ignored_fraction=0.0,
        seed=0,
    )  # fmt: skip
    measurement = Measurement(
        warmup=0, repeats=1, timeout_s=60, device="cpu", memory_limit_gib=None
    )
    inputs = inputs_of(shape)
    kept = inputs.weight.copy()
    workload = backend.build(make_case(framework, "stream", shape, measurement, {}), inputs, "cpu")
    (found,) = workload.step()
    written = workload.to_numpy(found)
    assert written.dtype == inputs.weight.dtype
    assert np.array_equal(written, -kept)
    assert np.array_equal(inputs.weight, kept), "what it read is as it was"
    assert workload.measure_memory is None


def test_stream_is_measured_beside_the_others(run_here: RunHarness) -> None:
    done = run_here(*BRIEF, "--variants=standard,stream,floor")
    assert statuses(done).keys() == {"floor", "stream", "standard"}
    stream = done.records[1]
    assert (stream["variant"], stream["status"]) == ("stream", "ok")
    assert stream["timing"]["step_s"]
    assert stream["timing"]["forward_s"] is None
    assert (stream["memory"], stream["numerics"], stream["plan"]) == (None, None, None)
    assert done.directory is not None
    assert "## What bounds a step" in (done.directory / "summary.md").read_text()
    assert (done.directory / "roofline.png").is_file()


HOPPER, AMPERE = (9, 0), (8, 0)


@pytest.mark.parametrize(
    ("capability", "dtype", "shape", "refusal"),
    [
        (None, "bfloat16", (16, 8, 96), "capability 9.0 or later, got a CPU"),
        (AMPERE, "bfloat16", (16, 8, 96), "capability 9.0 or later, got 8.0"),
        (HOPPER, "float32", (16, 8, 96), "float16 and bfloat16, got torch.float32"),
        (HOPPER, "bfloat16", (15, 8, 96), "tokens to be a multiple of 8, got 15"),
        (HOPPER, "bfloat16", (16, 12, 96), "hidden_dim to be a multiple of 8, got 12"),
        (HOPPER, "float16", (16, 8, 50257), "vocab_size to be a multiple of 8, got 50257"),
    ],
)
def test_what_quack_cannot_do_here(
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int] | None,
    dtype: str,
    shape: tuple[int, int, int],
    refusal: str,
) -> None:
    """It says so before it looks for the package."""
    monkeypatch.setattr(torch_peers, "_compute_capability", lambda tensor: capability)
    monkeypatch.setattr(torch_peers, "load_target", lambda target: pytest.fail("was imported"))
    with pytest.raises(UnavailableError, match=f"^quack .*{re.escape(refusal)}$"):
        torch_peers.quack(*problem(dtype, *shape))


def test_quack_is_called_as_its_source_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU is here: a stand-in with the signature of quack-kernels 0.6.5 takes the call."""
    targets = []

    def chunked_linear_cross_entropy(
        x, weight, target, chunk_size=4096, ignore_index=-100, reduction="mean", tuned=True,
        use_scaled_exp=None,
    ):  # fmt: skip
        assert (x.ndim, target.ndim) == (2, 1)
        return F.cross_entropy(
            x.float() @ weight.float().t(), target, ignore_index=ignore_index, reduction=reduction
        )

    def load(target: str) -> Callable[..., torch.Tensor]:
        targets.append(target)
        return chunked_linear_cross_entropy

    monkeypatch.setattr(torch_peers, "_compute_capability", lambda tensor: HOPPER)
    monkeypatch.setattr(torch_peers, "load_target", load)
    hidden, weight, labels = problem("bfloat16", 16, 8, 96)
    labels[0, 0] = 7
    logits = hidden.reshape(16, 8).float() @ weight.float().t()
    expected = F.cross_entropy(logits, labels.reshape(-1), ignore_index=7, reduction="sum")
    options = {"ignore_index": 7, "reduction": "sum"}
    for axis, given in enumerate((weight, weight.t().contiguous())):
        found = torch_peers.quack(hidden, given, labels, vocab_axis=axis, **options)
        torch.testing.assert_close(found, expected)
    assert set(targets) == {"quack.linear_cross_entropy:chunked_linear_cross_entropy"}
    with pytest.raises(UnsupportedError, match=r"^reduction$"):
        torch_peers.quack(hidden, weight, labels, reduction="none")


def problem(
    dtype: str, num_tokens: int, hidden_dim: int, vocab_size: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """hidden [1, N, D], weight [V, D], labels [1, N]."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(1, num_tokens, hidden_dim, generator=generator)
    weight = torch.randn(vocab_size, hidden_dim, generator=generator)
    labels = torch.randint(vocab_size, (1, num_tokens), generator=generator)
    return hidden.to(getattr(torch, dtype)), weight.to(getattr(torch, dtype)), labels
