"""LM heads for Flax NNX: logits in inference, and in training the loss without them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes
from flax.typing import Dtype, Initializer, PrecisionLike
from jaxtyping import Array, Float, Integer

from jax_impl.flax_heads import (
    DOT_GENERALS,
    check_default_matmul,
    check_kernel,
    check_logit_options,
    check_loss_call,
    check_table,
    check_width,
    head_loss,
    shape_logits,
    table_type_error,
)
from jax_impl.matmul import accumulation_dtype


class LMHead(nnx.Linear):
    """`nnx.Linear` from features to classes, with the loss of its logits.

        head(hidden)              = cap(logit_scale * (hidden . kernel + bias))
        head.loss(hidden, labels) = linear_cross_entropy of the same logits, never formed
        cap(z)                    = logit_softcap * tanh(z / logit_softcap)        if given

    In a model, two lines change:

        self.head = LMHead(features, vocab_size, rngs=rngs)     # was nnx.Linear(...)
        loss = model.head.loss(hidden, labels)                  # was optax...(head(hidden), labels)

    **Arguments**: those of `nnx.Linear`, with its defaults, and

    - `logit_scale`, `logit_softcap`: as in `linear_cross_entropy`, for logits and loss.

    `kernel` `[D, V]` and `bias` `[V]` are named, initialised and typed as those of
    `nnx.Linear`, and there is no other state: a checkpoint of either loads into the other.
    For a table of `nnx.Embed` there is `TiedLMHead`: one that is assigned to `kernel` is
    transposed, and with V equal to D no shape would tell.

    **Raises** `TypeError` or `ValueError` for a `logit_scale` or `logit_softcap` that
    `linear_cross_entropy` refuses.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        logit_scale: float = 1.0,
        logit_softcap: float | None = None,
        **linear: Any,
    ) -> None:
        check_logit_options(logit_scale, logit_softcap)
        super().__init__(in_features, out_features, **linear)
        self.logit_scale = logit_scale
        self.logit_softcap = logit_softcap

    def __call__(self, inputs: Float[Array, "... D"], out_sharding: Any = None) -> Array:
        """The logits `[..., V]`, in the dtype in which `nnx.Linear` returns them.

        Raises `ValueError` where the last axis of inputs is not that of the kernel.
        """
        check_width(inputs, self.kernel.shape[0])
        # Flax 0.12.0 knows no such argument.
        sharded = {} if out_sharding is None else {"out_sharding": out_sharding}
        return shape_logits(self, super().__call__(inputs, **sharded))

    def loss(
        self,
        hidden: Float[Array, "... D"],
        labels: Integer[Array, "..."],
        *,
        class_weight: Float[Array, " V"] | None = None,
        token_weight: Float[Array, "..."] | None = None,
        **options: Any,
    ) -> Any:
        """`linear_cross_entropy` of the head's logits, without the logits.

        hidden, kernel and bias are promoted to the head's `dtype` as in `nnx.Linear`; as
        there, a kernel of another dtype is copied into it for the length of the call.

        **Arguments**

        - `hidden`: `[..., D]`.
        - `labels`: `[...]`, any integer dtype; classes in [0, V) or `ignore_index`.
        - `class_weight`, `token_weight`: `[V]` and `[...]`.
        - `options`: `ignore_index`, `reduction`, `label_smoothing`, `z_loss`, `strategy`,
            `vocab_chunk`, `token_chunk`, `memory_budget` and `return_aux`.

        **Returns** what `linear_cross_entropy` returns.

        **Raises** what that raises; `TypeError` for an option that it does not have or that
        belongs to the head; `ValueError` for shapes that do not fit the head, and for a
        head with another `dot_general` or `preferred_element_type` than the default.
        """
        check_loss_call(hidden, labels, self.out_features, options)
        check_kernel(hidden, self.kernel.shape, self.out_features)
        check_default_matmul("dot_general", self.dot_general, DOT_GENERALS)
        bias = None if self.bias is None else self.bias[...]
        hidden, kernel, bias = self.promote_dtype(
            (hidden, self.kernel[...], bias), dtype=self.dtype
        )
        self._check_preferred_element_type(hidden.dtype)
        return head_loss(
            self,
            *(hidden, kernel, labels, bias),
            vocab_axis=1,
            class_weight=class_weight,
            token_weight=token_weight,
            options=options,
        )

    def _check_preferred_element_type(self, dtype: jnp.dtype) -> None:
        """The loss's own logits are at least float32, so that asking for that is no change."""
        preferred = self.preferred_element_type
        if preferred is not None and jnp.dtype(preferred) != accumulation_dtype(dtype):
            check_default_matmul("preferred_element_type", preferred, (None,))


class TiedLMHead(nnx.Module):
    """A head that borrows the embedding of the model, with the loss of its logits.

        head(hidden, embedding)              = cap(logit_scale * (hidden . embedding_v + bias_v))
        head.loss(hidden, labels, embedding) = linear_cross_entropy of the same logits

    In a model with `self.embed = nnx.Embed(vocab_size, features, rngs=rngs)`:

        self.head = TiedLMHead(vocab_size, features)
        logits = self.head(hidden, self.embed)                  # was self.embed.attend(hidden)
        loss = self.head.loss(hidden, labels, self.embed)

    It owns nothing but the bias `[V]`, if there is one. The gradient of the embedding is
    the sum over both its uses.

    **Arguments**

    - `num_embeddings`, `features`: V and D, as in `nnx.Embed`.
    - `use_bias`, `bias_init`, `bias_metadata`, `param_dtype`, `rngs`: of the bias, as in
        `nnx.Linear`; no bias and no `rngs` unless asked for.
    - `dtype`: of the product. None: that in which `nnx.Embed.attend` computes; of a bare
        array, the one that hidden and it promote to.
    - `precision`, `logit_scale`, `logit_softcap`: as in `linear_cross_entropy`, for logits
        and loss.

    **Raises** `TypeError` or `ValueError` for a `logit_scale` or `logit_softcap` that
    `linear_cross_entropy` refuses, and for a bias without `rngs`.
    """

    def __init__(
        self,
        num_embeddings: int,
        features: int,
        *,
        use_bias: bool = False,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        precision: PrecisionLike = None,
        bias_init: Initializer = nnx.initializers.zeros,
        logit_scale: float = 1.0,
        logit_softcap: float | None = None,
        rngs: nnx.Rngs | None = None,
        bias_metadata: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        check_logit_options(logit_scale, logit_softcap)
        self.bias: nnx.Param[Array] | None
        if not use_bias:
            self.bias = nnx.data(None)
        elif rngs is None:
            raise TypeError("rngs: expected nnx.Rngs for the bias (use_bias=True), got None")
        else:
            bias = bias_init(rngs.params(), (num_embeddings,), param_dtype)
            self.bias = nnx.Param(bias, **bias_metadata)
        self.num_embeddings = num_embeddings
        self.features = features
        self.use_bias = use_bias
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.precision = precision
        self.logit_scale = logit_scale
        self.logit_softcap = logit_softcap

    def __call__(self, hidden: Float[Array, "... D"], embedding: Any) -> Float[Array, "... V"]:
        """The logits `[..., V]`, those of `embedding.attend(hidden)` but for scale and cap.

        `embedding` and what is raised for it as in `loss`.
        """
        hidden, table, bias = self._operands(hidden, embedding)
        product = jnp.dot(hidden, table.T, precision=self.precision)
        return shape_logits(self, product if bias is None else product + bias)

    def loss(
        self,
        hidden: Float[Array, "... D"],
        labels: Integer[Array, "..."],
        embedding: Any,
        *,
        class_weight: Float[Array, " V"] | None = None,
        token_weight: Float[Array, "..."] | None = None,
        **options: Any,
    ) -> Any:
        """`linear_cross_entropy` of the head's logits, without the logits.

        Arguments, result and errors are those of `LMHead.loss`, and

        - `embedding`: the `nnx.Embed` module, or its table `[V, D]` as an array or
            `nnx.Param`; with V equal to D the module, since a shape could not tell.

        **Raises** `ValueError` for a table that is not `[V, D]`, such as a transposed one,
        and `TypeError` for what is neither module nor array.
        """
        check_loss_call(hidden, labels, self.num_embeddings, options)
        hidden, table, bias = self._operands(hidden, embedding)
        return head_loss(
            self,
            *(hidden, table, labels, bias),
            vocab_axis=0,
            class_weight=class_weight,
            token_weight=token_weight,
            options=options,
        )

    def _operands(self, hidden: Any, embedding: Any) -> tuple[Array, Array, Array | None]:
        """hidden `[..., D]`, table `[V, D]` and bias, in the dtype of their product."""
        table, promote, dtype = embedding, dtypes.promote_dtype, self.dtype
        of_embed = isinstance(embedding, nnx.Embed)
        if of_embed:
            table, promote = embedding.embedding, embedding.promote_dtype
            dtype = embedding.dtype if dtype is None else dtype
        if isinstance(table, nnx.Variable):
            table = table[...]
        if not hasattr(table, "shape"):
            raise table_type_error(embedding, "nnx.Embed")
        sizes = tuple(table.shape), self.num_embeddings, self.features
        check_table(*sizes, of_embed=of_embed, embed_type="nnx.Embed")
        check_width(hidden, self.features)
        # The bias apart: the promotion of an Embed is made for two.
        hidden, table = promote((hidden, table), dtype=dtype)
        return hidden, table, None if self.bias is None else self.bias[...].astype(hidden.dtype)
