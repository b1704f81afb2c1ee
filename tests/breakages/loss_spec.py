"""Mistakes in what both implementations promise: the reference, the options, the plan."""

from __future__ import annotations

from tests.breakages.breakage import Breakage

_REFERENCE = "tests/loss_spec/test_reference.py"
_AGAINST_TORCH = "tests/loss_spec/test_reference_against_torch.py"
_OPTIONS = "tests/loss_spec/test_options.py"
_PLAN = "tests/loss_spec/test_plan.py"
_CPU = "tests/loss_spec/test_cpu.py"

BREAKAGES = (
    Breakage(
        "reference: z_loss of the logsumexp and not of its square",
        "loss_spec/reference.py",
        "z_loss * logsumexp[rows] ** 2 - label_weight",
        "z_loss * logsumexp[rows] - label_weight",
        _REFERENCE,
    ),
    Breakage(
        "reference: z_loss has no gradient",
        "loss_spec/reference.py",
        "mass = label_weight + 2 * z_loss * logsumexp[rows]",
        "mass = label_weight + np.zeros_like(logsumexp[rows])",
        _REFERENCE,
    ),
    Breakage(
        "reference: the derivative of the softcap is left out",
        "loss_spec/reference.py",
        "float(scale) * (1 - tanh) * (1 + tanh)",
        "np.full((1, 1), scale, bare.dtype)",
        _REFERENCE,
    ),
    Breakage(
        "reference: the mean divides by all tokens, the ignored ones too",
        "loss_spec/reference.py",
        "np.sum(token_weights[counted] * class_weights[labels[counted]])",
        "num_tokens * np.mean(token_weights[counted] * class_weights[labels[counted]])",
        _AGAINST_TORCH,
    ),
    Breakage(
        "reference: the mean leaves class_weight out of its denominator",
        "loss_spec/reference.py",
        "np.sum(token_weights[counted] * class_weights[labels[counted]])",
        "np.sum(token_weights[counted])",
        _AGAINST_TORCH,
    ),
    Breakage(
        "reference: label smoothing spreads over V - 1 classes",
        "loss_spec/reference.py",
        "smoothing = label_smoothing / vocab_size * class_weights",
        "smoothing = label_smoothing / (vocab_size - 1) * class_weights",
        _AGAINST_TORCH,
    ),
    Breakage(
        "reference: an error that is not a number counts as none",
        "loss_spec/reference.py",
        "difference += float(np.sum((a - b) ** 2))",
        "difference += float(np.nansum((a - b) ** 2))",
        _REFERENCE,
    ),
    Breakage(
        "reference: a fair error is twenty times the standard's",
        "loss_spec/reference.py",
        "return 2 * standard_error + unit",
        "return 20 * standard_error + unit",
        _REFERENCE,
    ),
    Breakage(
        "options: a label_smoothing of 1 is accepted",
        "loss_spec/options.py",
        "0.0 <= self.label_smoothing < 1.0",
        "0.0 <= self.label_smoothing <= 1.0",
        _OPTIONS,
    ),
    Breakage(
        "options: a logit_softcap of 0 is accepted",
        "loss_spec/options.py",
        "self.logit_softcap <= 0.0",
        "self.logit_softcap < 0.0",
        _OPTIONS,
    ),
    Breakage(
        "options: True is taken for an integer",
        "loss_spec/options.py",
        '    if isinstance(value, bool):\n        raise TypeError(f"{name}: expected an integer',
        '    if value is None:\n        raise TypeError(f"{name}: expected an integer',
        _OPTIONS,
    ),
    Breakage(
        "options: an unknown name is accepted",
        "loss_spec/options.py",
        "if name not in (*known, *beside):",
        "if not name.isidentifier():",
        "tests/torch_impl/test_module.py",
    ),
    Breakage(
        "arrays: a weight in the other layout is accepted",
        "loss_spec/problem.py",
        "weight.shape[1 - vocab_axis] != hidden_dim",
        "hidden_dim not in weight.shape",
        "tests/loss_spec/test_problem.py",
    ),
    Breakage(
        "inputs: ignored labels are drawn with replacement, so that there are fewer",
        "loss_spec/inputs.py",
        "generator.permutation(num_tokens)[: round(ignored_fraction * num_tokens)]",
        "generator.integers(0, num_tokens, round(ignored_fraction * num_tokens))",
        "tests/loss_spec/test_inputs.py",
    ),
    Breakage(
        "plan: the memory budget is checked and then ignored",
        "loss_spec/plan.py",
        "    limit = budget\n",
        "    limit = None\n",
        _PLAN,
    ),
    Breakage(
        "plan: of the tilings that fit it takes the leanest, however slow",
        "loss_spec/plan.py",
        "_INDIFFERENT * min(costs.values())",
        "_INDIFFERENT * max(costs.values())",
        _PLAN,
    ),
    Breakage(
        "plan: the workspace that it predicts is half of it",
        "loss_spec/plan.py",
        "workspace_bytes=sizes[best],",
        "workspace_bytes=sizes[best] // 2,",
        "tests/torch_impl/test_workspace.py",
    ),
    Breakage(
        "plan: the logits that two_pass computes again cost no operations",
        "loss_spec/cost.py",
        'if strategy == "two_pass" and any(needs):\n        products += 1',
        'if strategy == "two_pass" and any(needs):\n        products += 0',
        _PLAN,
    ),
    Breakage(
        "plan: a tile may have more numbers than 32 bits can count",
        "loss_spec/plan.py",
        "_MAX_TILE_NUMBERS = 2**31 - 1",
        "_MAX_TILE_NUMBERS = 2**33",
        _PLAN,
    ),
    Breakage(
        "workspace in PyTorch: the sum of the gradient of hidden is forgotten",
        "loss_spec/workspace.py",
        "return total + s.wide * (sums[0] + sums[1] + rounded)",
        "return total + s.wide * (sums[1] + rounded)",
        "tests/torch_impl/test_workspace.py",
    ),
    Breakage(
        "workspace in PyTorch: the tile of scores is counted in 16 bits",
        "loss_spec/workspace.py",
        "total = s.wide * tile\n",
        "total = s.item * tile\n",
        "tests/torch_impl/test_workspace.py",
    ),
    Breakage(
        "workspace in JAX: the chunk at the end of the vocabulary has no buffers",
        "loss_spec/workspace.py",
        "tc, cd = s.tc + s.tail_columns * s.t, s.cd + s.tail_columns * s.d",
        "tc, cd = s.tc, s.cd",
        "tests/jax_impl/test_workspace.py",
    ),
    Breakage(
        "cpu: oneDNN's limit in the environment is not read",
        "loss_spec/cpu.py",
        '_LIMITS.get(value.lower(), "amx")',
        '"amx"',
        _CPU,
    ),
    Breakage(
        "cpu: Intel's dot products of pairs count as fast as AMD's",
        "loss_spec/cpu.py",
        'newest == "avx512_bf16" and is_amd',
        'newest == "avx512_bf16"',
        _CPU,
    ),
)
