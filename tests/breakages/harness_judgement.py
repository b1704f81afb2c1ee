"""Mistakes in what is right, what got worse, and what the tables say."""

from __future__ import annotations

from tests.breakages.breakage import Breakage

_STORE = "tests/harness/test_store.py"
_REFERENCE = "tests/harness/test_reference.py"
_GPU_REFERENCE = "tests/harness/test_gpu_reference.py"
_CONFORMANCE = "tests/harness/conformance/test_runner.py"
_CONFORMANCE_CASES = "tests/harness/conformance/test_cases.py"
_JUDGEMENT = "tests/harness/compare/test_judgement.py"
_MATCHING = "tests/harness/compare/test_matching.py"
_COMPARE = "tests/harness/compare/test_command.py"
_MEASURES = "tests/harness/report/test_measures.py"

BREAKAGES = (
    # Right or wrong.
    Breakage(
        "judge: an error that is not a number is within the tolerance",
        "harness/record.py",
        "if math.isnan(error) or error > limit:",
        "if error > limit:",
        _STORE,
    ),
    Breakage(
        "judge: only the loss is held to its tolerance",
        "harness/record.py",
        'for name, limit in numerics["tolerance"].items():',
        'for name, limit in list(numerics["tolerance"].items())[:1]:',
        _STORE,
    ),
    Breakage(
        "reference: the float32 loss of 16-bit inputs has the tolerance of 16 bits",
        "harness/reference.py",
        'fair_error(error, standard.loss.dtype if name == "loss_error" else dtype)',
        "fair_error(error, dtype)",
        _REFERENCE,
    ),
    Breakage(
        "reference: float64 is held to float32",
        "harness/reference.py",
        "dict.fromkeys(standard_errors, FLOAT64_ERROR / 2)",
        "dict.fromkeys(standard_errors, 1e-7)",
        _REFERENCE,
    ),
    Breakage(
        "reference on a GPU: the mean divides by all tokens, the ignored ones too",
        "harness/gpu_reference.py",
        "count = max(len(counted), 1)",
        "count = max(len(labels), 1)",
        _GPU_REFERENCE,
    ),
    Breakage(
        "reference on a GPU: the standard's logits are not rounded",
        "harness/gpu_reference.py",
        "rounded(x[rows] @ w.T).log_softmax(1)",
        "(x[rows] @ w.T).log_softmax(1)",
        _GPU_REFERENCE,
    ),
    Breakage(
        "conformance: an error that is not a number is within the rule",
        "harness/conformance/problem.py",
        "if not error <= limit:",
        "if error > limit:",
        _CONFORMANCE_CASES,
    ),
    Breakage(
        "conformance: errors that cancel in a standard's mean are its yardstick",
        "harness/conformance/problem.py",
        'max(standard_errors["loss"], float(spread))',
        'min(standard_errors["loss"], float(spread))',
        _CONFORMANCE_CASES,
    ),
    Breakage(
        "conformance: a plausible loss of a label that is no class is right",
        "harness/conformance/checks.py",
        'Verdict(RIGHT, "NaN") if np.isnan(value)',
        'Verdict(RIGHT, "NaN") if not np.isinf(value)',
        _CONFORMANCE,
    ),
    Breakage(
        "conformance: the number of tokens is not looked at",
        "harness/conformance/checks.py",
        "if aux.num_tokens != counted.sum():",
        "if aux.num_tokens < 0:",
        _CONFORMANCE,
    ),
    # Two runs.
    Breakage(
        "compare: what broke is mended",
        "harness/compare/judgement.py",
        '"broke" if _SEVERITY[new] > _SEVERITY[old] else "mended"',
        '"broke" if _SEVERITY[new] < _SEVERITY[old] else "mended"',
        _JUDGEMENT,
    ),
    Breakage(
        "compare: the threshold is taken off and not added",
        "harness/compare/step_time.py",
        "threshold = 1 + threshold_percent / 100",
        "threshold = 1 - threshold_percent / 100",
        _JUDGEMENT,
    ),
    Breakage(
        "compare: a slower machine is slower code",
        "harness/compare/step_time.py",
        "_are_longer(new_s, old_s, threshold * max((1.0, *ratios)))",
        "_are_longer(new_s, old_s, threshold)",
        _JUDGEMENT,
    ),
    Breakage(
        "compare: memory must cross the smaller of both margins",
        "harness/compare/memory.py",
        "<= max(MARGIN_BYTES, old * MARGIN_PERCENT / 100)",
        "<= min(MARGIN_BYTES, old * MARGIN_PERCENT / 100)",
        _JUDGEMENT,
    ),
    Breakage(
        "compare: memory by different probes is compared",
        "harness/compare/memory.py",
        "    if old == new:\n        return None\n",
        "    if old or new:\n        return None\n",
        _JUDGEMENT,
    ),
    Breakage(
        "compare: a breaking point one step of the search lower is a regression",
        "harness/compare/breaking_point.py",
        "allowed = _largest_ran(old) * (1 - TOLERANCE)",
        "allowed = _largest_ran(old) * (1 + TOLERANCE)",
        _JUDGEMENT,
    ),
    Breakage(
        "compare: a case on a CPU is compared with one on a GPU",
        "harness/compare/matching.py",
        "return None in devices or len(devices) == 1",
        "return bool(devices)",
        _MATCHING,
    ),
    Breakage(
        "compare: both runs have the floor of the old one",
        "harness/compare/matching.py",
        "new_floors_s.get(group_key(new[name])),",
        "old_floors_s.get(group_key(new[name])),",
        _MATCHING,
    ),
    Breakage(
        "compare: cases that the new run lacks are no failure",
        "harness/compare/__main__.py",
        "return int(got_worse or bool(matched.missing and not values.allow_missing))",
        "return int(got_worse)",
        _COMPARE,
    ),
    # The tables.
    Breakage(
        "report: a median is a mean",
        "harness/report/measures.py",
        "Spread(statistics.median(samples), min(samples), max(samples))",
        "Spread(statistics.mean(samples), min(samples), max(samples))",
        _MEASURES,
    ),
    Breakage(
        "report: cases with and without ignored labels are compared",
        "harness/report/measures.py",
        'ignored_fraction=options.get("ignored_fraction") or 0.0,',
        "ignored_fraction=0.0,",
        _MEASURES,
    ),
    Breakage(
        "report: a fast wrong answer has a ratio",
        "harness/report/measures.py",
        'if other is None or not is_ok(record) or record["variant"] == STREAM:',
        'if other is None or record["variant"] == STREAM:',
        _MEASURES,
    ),
    Breakage(
        "report: workspaces by different probes are divided",
        "harness/report/measures.py",
        'if figure(record, "memory", "probe") != figure(other, "memory", "probe"):',
        'if figure(record, "memory", "probe") is None:',
        _MEASURES,
    ),
    Breakage(
        "report: a case that was run again shows its first record",
        "harness/report/measures.py",
        "        last.pop(key, None)  # so that the later record also takes the later place\n"
        "        last[key] = record\n",
        "        last.setdefault(key, record)\n",
        _MEASURES,
    ),
    Breakage(
        "report: an error that is not a number is not the worst",
        "harness/report/measures.py",
        "key=lambda ratio: (math.isnan(ratio), ratio)",
        "key=lambda ratio: (not math.isnan(ratio), ratio)",
        _MEASURES,
    ),
    Breakage(
        "report: a probe is near if it is within 5 % and within 8 MiB",
        "harness/report/readings.py",
        "<= SMALL_PERCENT or abs(",
        "<= SMALL_PERCENT and abs(",
        "tests/harness/report/test_readings.py",
    ),
    Breakage(
        "report: a MiB is 10^6 bytes",
        "harness/report/formats.py",
        "MIB = 1024**2",
        "MIB = 10**6",
        "tests/harness/report/test_formats.py",
    ),
    Breakage(
        "roofline: the stream moves the weight once",
        "harness/report/roofline.py",
        "return 2 * numbers * DTYPE_BYTES",
        "return numbers * DTYPE_BYTES",
        "tests/harness/report/roofline/test_splits.py",
    ),
    Breakage(
        "roofline: the floor's matmuls are counted as four",
        "harness/report/roofline.py",
        "return 6 * self.nvd / self.floor.median",
        "return 8 * self.nvd / self.floor.median",
        "tests/harness/report/roofline/test_splits.py",
    ),
    Breakage(
        "frontier: a point that is larger and slower is on it",
        "harness/report/frontier.py",
        "if not best or point.place[1] < best[-1].place[1]:",
        "if not best or point.place[0] > best[-1].place[0]:",
        "tests/harness/report/test_tune.py",
    ),
)
