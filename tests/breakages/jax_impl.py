"""Mistakes in the JAX implementation."""

from __future__ import annotations

from tests.breakages.breakage import Breakage

_AGAINST_REFERENCE = "tests/conformance/test_against_reference.py"
_OPTIONS = "tests/conformance/test_all_combinations.py"
_AUX = f"{_OPTIONS}::test_any_two"
_CHUNK_SIZES = f"{_AGAINST_REFERENCE}::test_every_pair_of_chunk_sizes"
_SUMS = "tests/conformance/test_many_chunks.py"
_MEMORY = "tests/jax_impl/test_compiled_memory.py"
_WORKSPACE = "tests/jax_impl/test_workspace.py"
_MATMULS = "tests/jax_impl/test_matmuls.py"

BREAKAGES = (
    # Sums.
    Breakage(
        "JAX: dX is rounded to 16 bits after every chunk of the vocabulary",
        "jax_impl/gradients.py",
        "sum_hidden = block.put(sum_hidden, block.take(sum_hidden) + product)",
        "total = (block.take(sum_hidden) + product).astype(hidden.dtype)\n"
        "            sum_hidden = block.put(sum_hidden, total.astype(dtype))",
        _SUMS,
    ),
    Breakage(
        "JAX: dW is rounded to 16 bits after every block of tokens",
        "jax_impl/gradients.py",
        "sum_weight += weight_product(config, gradient, hidden_block)",
        "sum_weight += weight_product(config, gradient, hidden_block)\n"
        "            sum_weight = sum_weight.astype(hidden.dtype).astype(dtype)",
        _SUMS,
    ),
    Breakage(
        "JAX: 16-bit matmuls come out in 16 bits",
        "jax_impl/matmul.py",
        "preferred_element_type=accumulation_dtype(left.dtype),",
        "preferred_element_type=left.dtype,",
        "tests/jax_impl/test_gpu_path.py",
    ),
    Breakage(
        "JAX: logits are rounded to 16 bits in the forward alone",
        "jax_impl/two_pass.py",
        "scores = tile_scores(config, hidden_block, weight, bias, vocab)",
        "scores = tile_scores(config, hidden_block, weight, bias, vocab)\n"
        "            scores = scores.astype(hidden.dtype).astype(dtype)",
        _SUMS,
    ),
    Breakage(
        "JAX: float16 gradients of a mean over many tokens are not scaled up",
        "jax_impl/two_pass.py",
        "scale = power_of_two(coefficients)",
        "scale = jnp.ones((), cotangent.dtype)",
        "tests/jax_impl/test_gpu_path.py",
    ),
    Breakage(
        "JAX: the running sum of exponentials is not rescaled to a new maximum",
        "jax_impl/statistics.py",
        "exp_sum = seen.exp_sum * jnp.exp(factor * (seen.maximum - shift))",
        "exp_sum = seen.exp_sum",
        _AGAINST_REFERENCE,
    ),
    # Chunks and blocks.
    Breakage(
        "JAX: the rest of an axis that chunks do not divide is skipped",
        "jax_impl/chunks.py",
        "if rest else carry",
        "if rest and not count else carry",
        _AGAINST_REFERENCE,
    ),
    Breakage(
        "JAX: tokens that do not fill a block are skipped",
        "jax_impl/tokens.py",
        "-(-(num_counted - first) // rest)",
        "(num_counted - first) // rest",
        "tests/jax_impl/test_tokens.py",
    ),
    Breakage(
        "JAX: per-token results stay in the order of the blocks",
        "jax_impl/tokens.py",
        'return ordered.at[self.places].get(mode="fill", fill_value=0)',
        "return ordered[: len(self.places)]",
        _AGAINST_REFERENCE,
    ),
    Breakage(
        "JAX: the gradient's one-hot is off by the start of the chunk",
        "jax_impl/labels.py",
        "return vocab.rows()[None, :] == codes[:, None]",
        "return jnp.arange(vocab.size)[None, :] == codes[:, None]",
        _AGAINST_REFERENCE,
    ),
    # Options.
    Breakage(
        "JAX: bias is not added when the scores are computed again",
        "jax_impl/two_pass.py",
        "functools.partial(tile_scores, config, hidden_block, weight, bias)",
        "functools.partial(tile_scores, config, hidden_block, weight, None)",
        _CHUNK_SIZES,
    ),
    Breakage(
        "JAX: logit_scale is missing in dX alone",
        "jax_impl/tile.py",
        "return matmul(gradient, chunk, contract=contract, precision=config.precision)",
        "product = matmul(gradient, chunk, contract=contract, precision=config.precision)\n"
        "    return product / config.objective.logit_scale",
        _OPTIONS,
    ),
    Breakage(
        "JAX: logit_scale is missing in the gradient of bias",
        "jax_impl/gradients.py",
        "span.take(sum_bias) + jnp.sum(gradient, axis=0))",
        "span.take(sum_bias) + jnp.sum(gradient, axis=0) / config.objective.logit_scale)",
        _OPTIONS,
    ),
    Breakage(
        "JAX: the softcap comes before logit_scale",
        "jax_impl/logits.py",
        "return jnp.tanh(scores * (objective.logit_scale / objective.logit_softcap))",
        "return objective.logit_scale * jnp.tanh(scores / objective.logit_softcap)",
        _AUX,
    ),
    Breakage(
        "JAX: the derivative of the softcap is left out",
        "jax_impl/objective.py",
        "return gradient if objective.logit_softcap is None else gradient * cap_slope(scores)",
        "return gradient",
        _OPTIONS,
    ),
    Breakage(
        "JAX: z_loss of the logsumexp and not of its square",
        "jax_impl/objective.py",
        "losses += objective.z_loss * statistics.logsumexp(factor) ** 2",
        "losses += objective.z_loss * statistics.logsumexp(factor)",
        _OPTIONS,
    ),
    Breakage(
        "JAX: z_loss has no gradient",
        "jax_impl/objective.py",
        "mass += 2 * objective.z_loss * statistics.logsumexp(objective.logit_factor)",
        "mass += jnp.zeros_like(statistics.exp_sum)",
        _OPTIONS,
    ),
    Breakage(
        "JAX: label smoothing's gradient spreads over a chunk and not over V",
        "jax_impl/two_pass.py",
        "config.objective, statistics, codes, class_weight, vocab_size, cotangent",
        "config.objective, statistics, codes, class_weight, config.vocab_chunk, cotangent",
        _OPTIONS,
    ),
    Breakage(
        "JAX: the mean leaves token_weight out of its denominator",
        "jax_impl/reduction.py",
        "    weights = token_weight\n    if class_weight",
        "    weights = None\n    if class_weight",
        _OPTIONS,
    ),
    Breakage(
        "JAX: the mean leaves class_weight out of its denominator",
        "jax_impl/reduction.py",
        "    if class_weight is not None:\n        weights = class_weight",
        "    if class_weight is not None and token_weight is not None:\n"
        "        weights = class_weight",
        "tests/conformance/test_cases.py",
    ),
    # Ignored tokens and labels.
    Breakage(
        "JAX: the mean divides by all tokens, the ignored ones too",
        "jax_impl/reduction.py",
        "counted = codes != IGNORED\n",
        "counted = jnp.ones_like(codes, bool)\n",
        _AGAINST_REFERENCE,
    ),
    Breakage(
        "JAX: a mean over no token is 0 / 0",
        "jax_impl/reduction.py",
        "return jnp.maximum(num_tokens, 1).astype(dtype)",
        "return num_tokens.astype(dtype)",
        "tests/conformance/test_ignored_tokens.py",
    ),
    Breakage(
        "JAX: a NaN in the hidden of an ignored token reaches dW",
        "jax_impl/tokens.py",
        "return jnp.where((codes == IGNORED)[:, None], 0, block)",
        "return block",
        "tests/jax_impl/test_tokens.py",
    ),
    Breakage(
        "JAX: an ignore_index that is a class is not ignored",
        "jax_impl/labels.py",
        "where(ignored, IGNORED, where(in_range, code, OUT_OF_RANGE))",
        "where(in_range, code, where(ignored, IGNORED, OUT_OF_RANGE))",
        "tests/conformance/test_ignored_tokens.py",
    ),
    Breakage(
        "JAX: a label out of range is class 0",
        "jax_impl/labels.py",
        "where(in_range, code, OUT_OF_RANGE)",
        "code",
        "tests/jax_impl/test_under_jit.py",
    ),
    Breakage(
        "JAX: labels that can be read are not checked",
        "jax_impl/labels.py",
        "wrong = np.argwhere(~(ignored | in_range))",
        "wrong = np.argwhere(ignored & in_range)",
        "tests/conformance/test_labels.py",
    ),
    # By-products.
    Breakage(
        "JAX: the prediction is off by the start of the chunk",
        "jax_impl/statistics.py",
        "column = vocab.start + jnp.argmax(scores, axis=1).astype(jnp.int32)",
        "column = jnp.argmax(scores, axis=1).astype(jnp.int32)",
        _AUX,
    ),
    Breakage(
        "JAX: the prediction passes over a NaN",
        "jax_impl/statistics.py",
        "is_larger = (chunk_maximum > seen.maximum) | is_first_nan",
        "is_larger = chunk_maximum > seen.maximum",
        "tests/conformance/test_extreme_values.py",
    ),
    Breakage(
        "JAX: the prediction of an ignored token is class 0",
        "jax_impl/loss_aux.py",
        "jnp.where(ignored, -1, prediction)",
        "jnp.where(ignored, 0, prediction)",
        _AUX,
    ),
    Breakage(
        "JAX: num_tokens counts the ignored ones",
        "jax_impl/loss_aux.py",
        "num_tokens=jnp.sum(~ignored, dtype=jnp.int32),",
        "num_tokens=jnp.int32(ignored.size),",
        _AUX,
    ),
    # Derivatives.
    Breakage(
        "JAX: the sign of the cotangent is lost",
        "jax_impl/autodiff.py",
        "*arrays, statistics, cotangent)",
        "*arrays, statistics, jnp.abs(cotangent))",
        _AGAINST_REFERENCE,
    ),
    Breakage(
        "JAX: one_pass does not scale its gradients by the cotangent",
        "jax_impl/autodiff.py",
        "factor = cotangent * scale",
        "factor = scale",
        _OPTIONS,
    ),
    Breakage(
        "JAX: one_pass does not put back the power of two",
        "jax_impl/autodiff.py",
        "factor = cotangent * scale",
        "factor = cotangent",
        _OPTIONS,
    ),
    Breakage(
        "JAX: a second derivative is zero and no error",
        "jax_impl/autodiff.py",
        "cotangent = _once_differentiable((hidden, weight, bias, cotangent))",
        "cotangent = jax.lax.stop_gradient((hidden, weight, bias, cotangent))",
        "tests/jax_impl/test_derivatives_refused.py",
    ),
    Breakage(
        "JAX: one_pass keeps a tree for the backward that depends on what is needed",
        "jax_impl/autodiff.py",
        "sums = tuple(jnp.zeros(0, scale.dtype) if array is None else array for array in sums)",
        "sums = tuple(sums)",
        "tests/jax_impl/test_differentiated_twice.py",
    ),
    Breakage(
        "JAX: jax.checkpoint looks into the loops of two_pass",
        "jax_impl/autodiff.py",
        "losses, statistics = two_pass(config, *arrays)\n    return (losses",
        "losses, statistics = two_pass_forward(config, *arrays)\n    return (losses",
        "tests/jax_impl/test_checkpoint.py",
    ),
    Breakage(
        "JAX: precision does not reach the matmul of dW",
        "jax_impl/tile.py",
        "return matmul(*pair, contract=(0, 0), precision=config.precision)",
        "return matmul(*pair, contract=(0, 0), precision=None)",
        _MATMULS,
    ),
    # Work and memory.
    Breakage(
        "JAX: the gradient of a frozen weight is computed and thrown away",
        "jax_impl/autodiff.py",
        "return Needs(*(len(mark) == 1 for mark in marks))",
        "return Needs(True, True, len(marks[2]) == 1)",
        _MATMULS,
    ),
    Breakage(
        "JAX: the plan's vocab_chunk is not used, a tile has all classes",
        "jax_impl/loss.py",
        "        chosen.vocab_chunk,\n",
        "        problem.vocab_size,\n",
        _MEMORY,
    ),
    Breakage(
        "JAX: the whole 16-bit weight is widened and then sliced",
        "jax_impl/tile.py",
        "        as_operand(vocab.take(weight, config.vocab_axis)),\n        None if bias",
        "        vocab.take(as_operand(weight), config.vocab_axis),\n        None if bias",
        _WORKSPACE,
    ),
    Breakage(
        "JAX: 16-bit arrays are sliced as floats, which XLA copies whole",
        "jax_impl/chunks.py",
        'return is_16_bit and jax.default_backend() == "cpu"',
        "return False",
        _WORKSPACE,
    ),
    # Flax.
    Breakage(
        "Linen: the loss of LMHead leaves its bias out",
        "jax_impl/flax_linen.py",
        "*(hidden, kernel, labels, bias),",
        "*(hidden, kernel, labels, None),",
        "tests/jax_impl/flax_heads/test_head.py",
    ),
    Breakage(
        "NNX: the loss of LMHead is not computed in the head's dtype",
        "jax_impl/flax_nnx.py",
        "(hidden, self.kernel[...], bias), dtype=self.dtype",
        "(hidden, self.kernel[...], bias), dtype=None",
        "tests/jax_impl/flax_heads/test_head.py",
    ),
    Breakage(
        "Flax: the loss of a head leaves its softcap out",
        "jax_impl/flax_heads.py",
        "logit_softcap=head.logit_softcap,",
        "logit_softcap=None,",
        "tests/jax_impl/flax_heads/test_tied.py",
    ),
    Breakage(
        "Flax: a square table that may be transposed is accepted",
        "jax_impl/flax_heads.py",
        "if vocab_size == hidden_dim and not of_embed:",
        "if vocab_size < hidden_dim and not of_embed:",
        "tests/jax_impl/flax_heads/test_bad_input.py",
    ),
)
