"""LM heads for Flax Linen: logits in inference, and in training the loss without them."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
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


class LMHead(nn.Dense):
    """`nn.Dense` from features to classes, with the loss of its logits.

        head(hidden)              = cap(logit_scale * (hidden . kernel + bias))
        head.loss(hidden, labels) = linear_cross_entropy of the same logits, never formed
        cap(z)                    = logit_softcap * tanh(z / logit_softcap)        if given

    In a model, two lines change:

        self.head = LMHead(vocab_size)                          # was nn.Dense(vocab_size)
        loss = self.head.loss(hidden, labels)                   # was optax...(head(hidden), labels)

    In a `nn.compact` method a head without a name is `LMHead_0`: for a checkpoint in which
    it was `Dense_0`, call it so, `LMHead(vocab_size, name="Dense_0")`.

    **Fields**: those of `nn.Dense`, with its defaults, and

    - `logit_scale`, `logit_softcap`: as in `linear_cross_entropy`, for logits and loss.

    `kernel` `[D, V]` and `bias` `[V]` are named, initialised and typed as those of
    `nn.Dense`, whichever method initialises them, and there is no other variable: a
    checkpoint of either loads into the other.

    **Raises** `TypeError` or `ValueError` for a `logit_scale` or `logit_softcap` that
    `linear_cross_entropy` refuses.
    """

    logit_scale: float = 1.0
    logit_softcap: float | None = None

    def __post_init__(self) -> None:
        check_logit_options(self.logit_scale, self.logit_softcap)
        super().__post_init__()

    def __call__(self, inputs: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """The logits `[..., V]`, in the dtype in which `nn.Dense` returns them.

        Raises `ValueError` where the last axis of inputs is not that of the kernel.
        """
        self._check_shapes(inputs)
        return shape_logits(self, super().__call__(inputs))

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

            variables = head.init(key, hidden, labels, method="loss")
            loss = head.apply(variables, hidden, labels, method="loss")

        hidden, kernel and bias are promoted to the head's `dtype` as in `nn.Dense`; as
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
        head with another `dot_general` or `dot_general_cls` than the default.
        """
        check_loss_call(hidden, labels, self.features, options)
        check_default_matmul("dot_general", self.dot_general, DOT_GENERALS)
        check_default_matmul("dot_general_cls", self.dot_general_cls, (None,))
        operands = hidden, *self._parameters(hidden)
        promoted: Any = self.promote_dtype(*operands, dtype=self.dtype)
        hidden, kernel, bias = promoted
        return head_loss(
            self,
            *(hidden, kernel, labels, bias),
            vocab_axis=1,
            class_weight=class_weight,
            token_weight=token_weight,
            options=options,
        )

    # Linen wants one compact method a class. The inherited `__call__`, which is the other one,
    # declares the same parameters in the same order, so that either may create them.
    @nn.compact
    def _parameters(self, hidden: Any) -> tuple[Array, Array | None]:
        self._check_shapes(hidden)
        shape = jnp.shape(hidden)[-1], self.features
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        if not self.use_bias:
            return kernel, None
        return kernel, self.param("bias", self.bias_init, (self.features,), self.param_dtype)

    @nn.nowrap
    def _check_shapes(self, hidden: Any) -> None:
        """Before Linen's own check, which takes hidden at its word and blames the kernel."""
        if self.scope is not None and self.has_variable("params", "kernel"):
            (kernel,) = jax.tree.leaves(self.get_variable("params", "kernel"))  # it may be boxed
            check_kernel(hidden, kernel.shape, self.features)


class TiedLMHead(nn.Module):
    """A head that borrows the embedding of the model, with the loss of its logits.

        head(hidden, embedding)              = cap(logit_scale * (hidden . embedding_v + bias_v))
        head.loss(hidden, labels, embedding) = linear_cross_entropy of the same logits

    In a model with `self.embed = nn.Embed(vocab_size, features)`:

        self.head = TiedLMHead(vocab_size, features)
        logits = self.head(hidden, self.embed)                  # was self.embed.attend(hidden)
        loss = self.head.loss(hidden, labels, self.embed)

    It owns nothing but the bias `[V]`, if there is one. The gradient of the embedding is
    the sum over both its uses.

    **Fields**

    - `num_embeddings`, `features`: V and D, as in `nn.Embed`.
    - `use_bias`, `bias_init`, `param_dtype`: of the bias, as in `nn.Dense`; none unless
        asked for.
    - `dtype`: of the product. None: that in which `nn.Embed.attend` computes; of a bare
        array, the one that hidden and it promote to.
    - `precision`, `logit_scale`, `logit_softcap`: as in `linear_cross_entropy`, for logits
        and loss.

    **Raises** `TypeError` or `ValueError` for a `logit_scale` or `logit_softcap` that
    `linear_cross_entropy` refuses.
    """

    num_embeddings: int
    features: int
    use_bias: bool = False
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    precision: PrecisionLike = None
    bias_init: Initializer = nn.initializers.zeros
    logit_scale: float = 1.0
    logit_softcap: float | None = None

    def __post_init__(self) -> None:
        check_logit_options(self.logit_scale, self.logit_softcap)
        super().__post_init__()

    def setup(self) -> None:
        shape = (self.num_embeddings,)
        self.bias = (
            self.param("bias", self.bias_init, shape, self.param_dtype) if self.use_bias else None
        )

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

        - `embedding`: the `nn.Embed` module, bound as it is in the methods of its model, or
            its table `[V, D]`; with V equal to D the module, since a shape could not tell.

        **Raises** `ValueError` for a table that is not `[V, D]`, such as a transposed one,
        and for a module that is not bound; `TypeError` for what is neither.
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

    @nn.nowrap
    def _operands(self, hidden: Any, embedding: Any) -> tuple[Array, Array, Array | None]:
        """hidden `[..., D]`, table `[V, D]` and bias, in the dtype of their product."""
        table, promote, dtype = nn.unbox(embedding), promote_dtype, self.dtype
        of_embed = isinstance(embedding, nn.Embed)
        if of_embed:
            if embedding.scope is None:
                raise ValueError(
                    "embedding: expected a bound nn.Embed, got one without variables; pass it in "
                    "a method of the model that holds it, or pass its table [V, D]"
                )
            table, promote = embedding.embedding, embedding.promote_dtype
            dtype = embedding.dtype if dtype is None else dtype
        if not hasattr(table, "shape"):
            raise table_type_error(embedding, "nn.Embed")
        sizes = tuple(table.shape), self.num_embeddings, self.features
        check_table(*sizes, of_embed=of_embed, embed_type="nn.Embed")
        check_width(hidden, self.features)
        # The bias apart: the promotion of an Embed is made for two.
        hidden, table = promote(hidden, table, dtype=dtype)
        return hidden, table, None if self.bias is None else self.bias.astype(hidden.dtype)
