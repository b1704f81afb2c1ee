"""Mistakes in the PyTorch implementation, many of them the same as in JAX."""

from __future__ import annotations

from tests.breakages.breakage import Breakage

_AGAINST_REFERENCE = "tests/conformance/test_against_reference.py"
_OPTIONS = "tests/conformance/test_all_combinations.py"
_AUX = f"{_OPTIONS}::test_any_two"
_CHUNK_SIZES = f"{_AGAINST_REFERENCE}::test_every_pair_of_chunk_sizes"
_SUMS = "tests/conformance/test_many_chunks.py"
_MEMORY = "tests/torch_impl/test_memory.py"
_WORKSPACE = "tests/torch_impl/test_workspace.py"
_MATMULS = "tests/torch_impl/test_matmuls.py"
_CAUSAL_LM = "tests/torch_impl/test_causal_lm.py"

BREAKAGES = (
    # Sums.
    Breakage(
        "PyTorch: dW is rounded to 16 bits after every block of tokens",
        "torch_impl/two_pass.py",
        "add_tile_(chunk_sums, tiles, gradient, block, weight_chunk, place, is_first=index == 0)",
        "add_tile_(chunk_sums, tiles, gradient, block, weight_chunk, place, is_first=index == 0)\n"
        "            if chunk_sums.weight is not None:\n"
        "                chunk_sums.weight.copy_(chunk_sums.weight.to(weight.dtype))",
        _SUMS,
    ),
    Breakage(
        "PyTorch: dX is rounded to 16 bits after every chunk of the vocabulary",
        "torch_impl/two_pass.py",
        "        if chunk_sum is not None and grad_weight is not None and chunk_sums.weight",
        "        if sums.hidden is not None:\n"
        "            sums.hidden.copy_(sums.hidden.to(hidden.dtype))\n"
        "        if chunk_sum is not None and grad_weight is not None and chunk_sums.weight",
        _SUMS,
    ),
    Breakage(
        "PyTorch: logits are rounded to 16 bits in the forward alone",
        "torch_impl/two_pass.py",
        "scores = tiles.scores(block, tiles.weight(weight, vocab), chunk_bias)",
        "scores = tiles.scores(block, tiles.weight(weight, vocab), chunk_bias)\n"
        "            scores.copy_(scores.to(config.dtype))",
        _SUMS,
    ),
    Breakage(
        "PyTorch: the running sum of exponentials is not rescaled to a new maximum",
        "torch_impl/statistics.py",
        "    seen.exp_sum.mul_(exponential_(old_maximum.sub_(shift), factor))\n",
        "",
        _AGAINST_REFERENCE,
    ),
    Breakage(
        "PyTorch: float16 gradients of a mean over many tokens are not scaled up",
        "torch_impl/two_pass.py",
        "scale = power_of_two(*coefficients)",
        "scale = cotangent.new_ones(())",
        "tests/torch_impl/test_narrow_operands.py",
    ),
    # Chunks and blocks.
    Breakage(
        "PyTorch: the rest of an axis that chunks do not divide is skipped",
        "torch_impl/chunks.py",
        "for start in range(0, length, size):",
        "for start in range(0, max(length - size, 0) + 1, size):",
        _AGAINST_REFERENCE,
    ),
    Breakage(
        "PyTorch: the label is at the wrong column of a shorter chunk at the end",
        "torch_impl/labels.py",
        "column = (codes - vocab.start).masked_fill_(~is_here, 0)",
        "column = (codes % (vocab.stop - vocab.start)).masked_fill_(~is_here, 0)",
        _AGAINST_REFERENCE,
    ),
    Breakage(
        "PyTorch: rows of hidden's gradient are overwritten on the way to their places",
        "torch_impl/gradients.py",
        "for rows in reversed(list(pieces(packed[: len(places)]))):",
        "for rows in list(pieces(packed[: len(places)])):",
        "tests/torch_impl/test_tokens.py",
    ),
    # Options.
    Breakage(
        "PyTorch: bias is not added when the scores are computed again",
        "torch_impl/two_pass.py",
        "tiles.scores(block, weight_chunk, chunk_bias),",
        "tiles.scores(block, weight_chunk, None),",
        _CHUNK_SIZES,
    ),
    Breakage(
        "PyTorch: the gradient of bias is that of the last block of tokens",
        "torch_impl/gradients.py",
        "sums.bias.add_(gradient.sum(0))",
        "sums.bias.copy_(gradient.sum(0))",
        _AGAINST_REFERENCE,
    ),
    Breakage(
        "PyTorch: logit_scale is missing in the gradients",
        "torch_impl/objective.py",
        "row = (cotangent * objective.logit_scale).masked_fill_",
        "row = cotangent.clone().masked_fill_",
        _OPTIONS,
    ),
    Breakage(
        "PyTorch: the softcap comes before logit_scale",
        "torch_impl/logits.py",
        "scores.mul_(objective.logit_scale / objective.logit_softcap).tanh_()",
        "scores.div_(objective.logit_softcap).tanh_().mul_(objective.logit_scale)",
        _AUX,
    ),
    Breakage(
        "PyTorch: the derivative of the softcap is left out",
        "torch_impl/objective.py",
        "return gradient if slope is None else gradient.mul_(slope)",
        "return gradient",
        _OPTIONS,
    ),
    Breakage(
        "PyTorch: z_loss of the logsumexp and not of its square",
        "torch_impl/objective.py",
        "losses += objective.z_loss * statistics.logsumexp(factor) ** 2",
        "losses += objective.z_loss * statistics.logsumexp(factor)",
        _OPTIONS,
    ),
    Breakage(
        "PyTorch: z_loss has no gradient",
        "torch_impl/objective.py",
        "mass = mass + 2 * objective.z_loss * statistics.logsumexp(objective.logit_factor)",
        "mass = mass + torch.zeros_like(statistics.exp_sum)",
        _OPTIONS,
    ),
    Breakage(
        "PyTorch: label smoothing's gradient spreads over a chunk and not over V",
        "torch_impl/two_pass.py",
        "config.objective, statistics, codes, class_weight, vocab_size, cotangent",
        "config.objective, statistics, codes, class_weight, config.vocab_chunk, cotangent",
        _OPTIONS,
    ),
    Breakage(
        "PyTorch: the mean leaves token_weight out of its denominator",
        "torch_impl/reduction.py",
        "weights = counted.to(dtype) if token_weight is None else token_weight",
        "weights = counted.to(dtype)",
        _OPTIONS,
    ),
    Breakage(
        "PyTorch: the mean leaves class_weight out of its denominator",
        "torch_impl/reduction.py",
        "    if class_weight is not None:\n        weights = (weights",
        "    if class_weight is not None and token_weight is not None:\n        weights = (weights",
        "tests/conformance/test_cases.py",
    ),
    # Ignored tokens and labels.
    Breakage(
        "PyTorch: the mean divides by all tokens, the ignored ones too",
        "torch_impl/reduction.py",
        "counted = codes != IGNORED\n",
        "counted = torch.ones_like(codes, dtype=torch.bool)\n",
        _AGAINST_REFERENCE,
    ),
    Breakage(
        "PyTorch: a mean over no token is 0 / 0",
        "torch_impl/reduction.py",
        "return num_tokens.clamp_min(1).to(dtype)",
        "return num_tokens.to(dtype)",
        "tests/conformance/test_ignored_tokens.py",
    ),
    Breakage(
        "PyTorch: an ignore_index that is a class is not ignored",
        "torch_impl/labels.py",
        "return code.masked_fill_(ignored, IGNORED)",
        "return code.masked_fill_(ignored & ~in_range, IGNORED)",
        "tests/conformance/test_ignored_tokens.py",
    ),
    Breakage(
        "PyTorch: a label out of range is clipped",
        "torch_impl/labels.py",
        "code = labels.to(torch.int64).masked_fill(~in_range, OUT_OF_RANGE)",
        "code = labels.to(torch.int64).clamp(0, vocab_size - 1)",
        "tests/torch_impl/test_compile_limits.py",
    ),
    Breakage(
        "PyTorch: labels that can be read are not checked",
        "torch_impl/labels.py",
        "    if wrong.any():\n",
        "    if wrong.all():\n",
        "tests/conformance/test_labels.py",
    ),
    # By-products.
    Breakage(
        "PyTorch: the prediction is off by the start of the chunk",
        "torch_impl/statistics.py",
        "winner = winner.add_(vocab.start).to(torch.int32)",
        "winner = winner.to(torch.int32)",
        _AUX,
    ),
    Breakage(
        "PyTorch: the prediction of an ignored token is class 0",
        "torch_impl/loss_aux.py",
        "prediction.masked_fill(ignored, -1)",
        "prediction.masked_fill(ignored, 0)",
        _AUX,
    ),
    Breakage(
        "PyTorch: num_tokens counts the ignored ones",
        "torch_impl/loss_aux.py",
        "num_tokens=(~ignored).sum(dtype=torch.int32),",
        "num_tokens=torch.ones_like(ignored).sum(dtype=torch.int32),",
        _AUX,
    ),
    # Derivatives.
    Breakage(
        "PyTorch: the sign of the cotangent is lost",
        "torch_impl/autodiff.py",
        "arrays = *ctx.saved_tensors, cotangent\n",
        "arrays = *ctx.saved_tensors, cotangent.abs()\n",
        _AGAINST_REFERENCE,
    ),
    Breakage(
        "PyTorch: one_pass does not scale its gradients by the cotangent",
        "torch_impl/autodiff.py",
        "factor: Tensor | None = cotangent * one.scale",
        "factor: Tensor | None = one.scale",
        _OPTIONS,
    ),
    Breakage(
        "PyTorch: a second backward of one_pass scales what the first handed out",
        "torch_impl/autodiff.py",
        "        one.is_spent = any(own is not None for own in one.own_sums)\n"
        "        one.own_sums = [None, None, None]\n",
        "",
        "tests/conformance/test_second_backward.py",
    ),
    Breakage(
        "PyTorch: the weight gets no gradient where hidden is frozen",
        "torch_impl/autodiff.py",
        "        needs = Needs(*ctx.needs_input_grad[1:4])\n        arrays",
        "        needs = Needs(*ctx.needs_input_grad[1:4])\n"
        "        if not needs.hidden:\n"
        "            return None, None, None, None, None, None\n"
        "        arrays",
        "tests/torch_impl/test_training_loop.py",
    ),
    Breakage(
        "PyTorch: a second derivative is zero and no error",
        "torch_impl/autodiff.py",
        "found = iter(_GradientsOnce.apply(ctx.config, needs, *arrays))",
        "found = iter(torch.no_grad()(run_backward)(ctx.config, needs, *arrays))",
        "tests/torch_impl/test_derivatives.py",
    ),
    Breakage(
        "PyTorch: torch.compile is told that statistics have the dtype of hidden",
        "torch_impl/operators.py",
        "rows = [hidden.new_empty(hidden.shape[0], dtype=dtype) for _ in range(4)]",
        "rows = [hidden.new_empty(hidden.shape[0]) for _ in range(4)]",
        "tests/torch_impl/test_compile_limits.py",
    ),
    Breakage(
        "PyTorch: under torch.compile the memory budget is ignored",
        "torch_impl/planning.py",
        "memory_budget=config.memory_budget or None,",
        "memory_budget=None,",
        "tests/torch_impl/test_compile.py",
    ),
    Breakage(
        "PyTorch: vmap takes every batch axis for the first",
        "torch_impl/calls.py",
        "argument if dim is None else select(argument, dim)",
        "argument if dim is None else select(argument, 0)",
        "tests/torch_impl/test_transforms.py",
    ),
    Breakage(
        "PyTorch: under autocast the operands keep their dtype",
        "torch_impl/arguments.py",
        "return spec._replace(dtype=_name(torch.get_autocast_dtype(device)))",
        "return spec",
        "tests/torch_impl/test_autocast.py",
    ),
    # Work and memory.
    Breakage(
        "PyTorch: the host waits for a GPU to compare the cotangent with 1",
        "torch_impl/autodiff.py",
        'if cotangent.device.type == "cpu" and factor == 1:',
        "if factor == 1:",
        "tests/torch_impl/test_cuda_path.py",
    ),
    Breakage(
        "PyTorch: one_pass does not put back the power of two",
        "torch_impl/one_pass.py",
        "return OnePass(loss, statistics, sums, scale)",
        "return OnePass(loss, statistics, sums, scale.new_ones(()))",
        _OPTIONS,
    ),
    Breakage(
        "PyTorch: the gradient of a frozen weight is computed and thrown away",
        "torch_impl/autodiff.py",
        "        needs = Needs(*ctx.needs_input_grad[1:4])\n        arrays",
        "        needs = Needs(True, True, ctx.needs_input_grad[3])\n        arrays",
        _MATMULS,
    ),
    Breakage(
        "PyTorch: a weight [D, V] is copied into [V, D]",
        "torch_impl/arguments.py",
        "weight=weight if options.vocab_axis == 0 else weight.t(),",
        "weight=weight if options.vocab_axis == 0 else weight.t().contiguous(),",
        _MEMORY,
    ),
    Breakage(
        "PyTorch: the whole 16-bit weight is widened and then sliced",
        "torch_impl/tile.py",
        "        rows = weight[vocab]\n",
        "        rows = weight.to(self._operand)[vocab]\n",
        _WORKSPACE,
    ),
    Breakage(
        "PyTorch: the exponentials of a tile have a buffer of their own",
        "torch_impl/tile.py",
        "exponential_(rows.sub_(shift[slab, None]), config.objective.logit_factor)",
        "rows.copy_(exponential_(rows - shift[slab, None], config.objective.logit_factor))",
        _WORKSPACE,
    ),
    Breakage(
        "PyTorch: a gradient in float32 is a copy of its sum",
        "torch_impl/gradients.py",
        "gradient = total if is_own_sum else torch.empty_like(total, dtype=dtype)",
        "gradient = torch.empty_like(total, dtype=dtype)",
        _WORKSPACE,
    ),
    # Modules and models.
    Breakage(
        "PyTorch: the module leaves its class_weight out",
        "torch_impl/module.py",
        "class_weight=self.class_weight,",
        "class_weight=None,",
        "tests/torch_impl/test_module.py",
    ),
    Breakage(
        "Hugging Face: the labels are not shifted",
        "torch_impl/causal_lm.py",
        "F.pad(labels[:, 1:].long(), (0, 1), value=ignore_index)",
        "labels.long()",
        _CAUSAL_LM,
    ),
    Breakage(
        "Hugging Face: token_weight is not shifted",
        "torch_impl/causal_lm.py",
        "F.pad(token_weight[:, 1:], (0, 1))",
        "token_weight",
        _CAUSAL_LM,
    ),
    Breakage(
        "Hugging Face: the softcap of the model's config is ignored",
        "torch_impl/causal_lm.py",
        "logit_softcap=head.logit_softcap,",
        "logit_softcap=None,",
        _CAUSAL_LM,
    ),
    Breakage(
        "Hugging Face: a model whose logits are not understood is believed",
        "torch_impl/causal_lm_head.py",
        "if not difference <= max(torch.finfo(own.logits.dtype).eps / 2, 1e-5):",
        "if difference == float('inf'):",
        "tests/torch_impl/test_causal_lm_head.py",
    ),
    Breakage(
        "bfloat16 operands stay as they are though oneDNN is switched off",
        "torch_impl/matmul.py",
        'return has_onednn and multiplies_bfloat16("torch")',
        'return multiplies_bfloat16("torch")',
        "tests/torch_impl/test_cpu_kernels.py",
    ),
)
