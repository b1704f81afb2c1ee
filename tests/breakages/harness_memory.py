"""Mistakes in how memory is measured and limited."""

from __future__ import annotations

from tests.breakages.breakage import Breakage

_EVENTS = "tests/harness/memory/test_allocator_events.py"
_ASSIGNMENT = "tests/harness/memory/test_buffer_assignment.py"
_FIGURES = "tests/harness/memory/test_figures.py"
_RSS = "tests/harness/memory/test_host_rss.py"
_LIMIT = "tests/harness/memory/test_limit.py"
_FAILED = "tests/harness/memory/test_failed_allocation.py"
_ANATOMY = "tests/harness/test_anatomy.py"

BREAKAGES = (
    Breakage(
        "allocator events: what is released still counts",
        "harness/memory/allocator_events.py",
        'allocated += event["args"]["Bytes"]',
        'allocated += max(event["args"]["Bytes"], 0)',
        _EVENTS,
    ),
    Breakage(
        "allocator events: the peak is what is allocated at the end",
        "harness/memory/allocator_events.py",
        "peak = max(peak, allocated)",
        "peak = allocated",
        _EVENTS,
    ),
    Breakage(
        "buffer assignment: temporaries are left out",
        "harness/memory/buffer_assignment.py",
        'assigned["output"] + assigned["temp"]',
        'assigned["output"]',
        _ASSIGNMENT,
    ),
    Breakage(
        "buffer assignment: a result in an argument's place counts twice",
        "harness/memory/buffer_assignment.py",
        ' - assigned["alias"]',
        "",
        _ASSIGNMENT,
    ),
    Breakage(
        "figures: the peak leaves the inputs out",
        "harness/memory/figures.py",
        "self.inputs_bytes + additional_bytes",
        "additional_bytes",
        _FIGURES,
    ),
    Breakage(
        "figures: the workspace has the gradients in it",
        "harness/memory/figures.py",
        "additional_bytes - self.gradients_bytes",
        "additional_bytes",
        _FIGURES,
    ),
    Breakage(
        "figures: what was not measured is 0 and not null",
        "harness/memory/figures.py",
        "host_rss.additional_bytes if host_rss else None",
        "host_rss.additional_bytes if host_rss else 0",
        _FIGURES,
    ),
    Breakage(
        "resident memory: the high-water mark is not reset",
        "harness/memory/host_rss.py",
        "_CLEAR_REFS.write_text(_RESET_HIGH_WATER_MARK)",
        "_CLEAR_REFS.exists()",
        _RSS,
    ),
    Breakage(
        "resident memory: what the allocator has kept hides a step",
        "harness/memory/host_rss.py",
        "    _keep_no_free_memory()\n    step()  # gives",
        "    step()  # gives",
        _RSS,
    ),
    Breakage(
        "memory limit: the inputs come on top of it",
        "harness/memory/limit.py",
        'status_bytes("VmData") - resident_inputs_bytes + limit_bytes',
        'status_bytes("VmData") + limit_bytes',
        _LIMIT,
    ),
    Breakage(
        "memory limit: it stays when the step has ended",
        "harness/memory/limit.py",
        "resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))",
        "resource.setrlimit(resource.RLIMIT_DATA, (allowed, hard))",
        _LIMIT,
    ),
    Breakage(
        "memory limit: whatever fails under it has run out of memory",
        "harness/measure.py",
        "if limit_bytes is None or workload.is_out_of_memory(error) or not _runs(workload):",
        "if limit_bytes is None or workload.is_out_of_memory(error):",
        _LIMIT,
    ),
    Breakage(
        "out of memory: XLA's words for a constant are not known",
        "harness/backends/jax_backend.py",
        '    "INTERNAL: Failed to allocate",\n',
        "",
        _LIMIT,
    ),
    Breakage(
        "failed allocation: a GiB is 10^9 bytes",
        "harness/memory/failed_allocation.py",
        '"GiB": 2**30, "TiB"',
        '"GiB": 10**9, "TiB"',
        _FAILED,
    ),
    Breakage(
        "failed allocation: the first array of about the size counts, not the closest",
        "harness/memory/failed_allocation.py",
        "return names[min(close, key=lambda needed: abs(excess(needed)))] if close else None",
        "return names[close[0]] if close else None",
        _FAILED,
    ),
    Breakage(
        "anatomy in PyTorch: what is released is still alive at the peak",
        "harness/memory/torch_anatomy.py",
        "            alive.pop(address, None)\n",
        "            alive.get(address, None)\n",
        _ANATOMY,
    ),
    Breakage(
        "anatomy in JAX: values that share their memory count twice",
        "harness/memory/xla_anatomy.py",
        "if not any(_share(value, other) for other in apart):",
        "if value not in apart:",
        _ANATOMY,
    ),
    Breakage(
        "anatomy in JAX: a value dies an instruction too early",
        "harness/memory/xla_program.py",
        "last=lives[name][1],",
        "last=lives[name][1] - 1,",
        _ANATOMY,
    ),
    Breakage(
        "anatomy: small buffers are dropped",
        "harness/memory/anatomy.py",
        "key=lambda buffer: -buffer.size_bytes), *lumps)",
        "key=lambda buffer: -buffer.size_bytes),)",
        _ANATOMY,
    ),
    Breakage(
        "prediction: PyTorch's standard loss holds the logits twice, not three times",
        "harness/prediction/full_logits.py",
        "return max(3 * shape.logits_bytes,",
        "return max(2 * shape.logits_bytes,",
        "tests/harness/prediction/test_memory.py",
    ),
    Breakage(
        "plans: the parent widens bfloat16 where the worker's loss does not",
        "harness/plans.py",
        "not multiplies_bfloat16(framework)",
        "multiplies_bfloat16(framework)",
        "tests/harness/test_plans.py",
    ),
)
