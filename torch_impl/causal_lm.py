"""The loss of a Hugging Face causal language model, without its logits."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn import functional as F

from loss_spec import LossOptions, check_option_names
from torch_impl.causal_lm_head import head_of
from torch_impl.loss import linear_cross_entropy

_OF_THE_MODEL = dict.fromkeys(
    ("bias", "vocab_axis", "logit_scale", "logit_softcap"), "that of the model counts; leave it out"
)
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def causal_lm_loss(
    model: nn.Module,
    input_ids: Integer[Tensor, "batch length"],
    labels: Integer[Tensor, "batch length"],
    *,
    attention_mask: Tensor | None = None,
    position_ids: Integer[Tensor, "batch length"] | None = None,
    token_weight: Float[Tensor, "batch length"] | None = None,
    **options: Any,
) -> Any:
    """`model(input_ids, labels=labels).loss`, without the [batch, length, V] logits.

        hidden = model.base_model(input_ids).last_hidden_state
        loss   = linear_cross_entropy(hidden_i, W, label_(i+1), bias=b, logit_scale=s, ...)

    W, b, the scale and the softcap of the logits are those of the model, found by its
    public methods: `base_model`, `get_output_embeddings()` and `config`. Nothing is patched.
    A weight that is tied to the embedding gets the sum of both gradients.

        loss = causal_lm_loss(model, **batch)          # input_ids, labels, attention_mask
        loss.backward()

    **Arguments**

    - `model`: a causal language model of `transformers` whose logits are a linear map of its
        last hidden states, on any device, in any mode and dtype; its head not sharded, not
        quantised, its loss without a router's. With PEFT, `model.get_base_model()`. To
        compile its body: `model.base_model.compile()`.
    - `input_ids`, `attention_mask`, `position_ids`: as the model takes them.
    - `labels`: `[batch, length]`, not shifted: token i is trained to predict label i + 1.
        -100 (`ignore_index`) does not count.
    - `token_weight`: `[batch, length]`, a weight for each label, shifted with it.
    - `options`: those of `linear_cross_entropy` that are not the model's. For gradients
        accumulated over batches, `reduction="sum"` divided by the number of labels in all
        of them: what `transformers` does with `num_items_in_batch`.

    The first call for a model, in training and in evaluation, runs two tokens through it and
    compares: its logits must be the linear map that was found, and its loss the mean
    cross-entropy of the next token. A batch of padding alone tells nothing, and is not held
    against the model. Under `torch.compile` that breaks the graph once; for
    `fullgraph=True`, call it once before.

    **Returns** the loss in float32 (float64 for a float64 model). What is returned for each
    token (`reduction="none"`, `return_aux`) stands where its prediction is made: [i] is
    about label i + 1, and the last one of a sequence does not count.

    **Raises** `TypeError` or `ValueError` naming the argument: a model whose logits are not
    understood, labels that do not fit, and all that `linear_cross_entropy` raises.
    """
    check_option_names(options, beside=["class_weight", "token_weight"], elsewhere=_OF_THE_MODEL)
    plain = {name: value for name, value in options.items() if name != "class_weight"}
    ignore_index = LossOptions(**plain).ignore_index
    _check_shape("labels", labels, input_ids)
    if labels.dtype not in _INTEGERS:
        raise TypeError(f"labels: expected an integer dtype, got {labels.dtype}")
    if token_weight is not None:
        _check_shape("token_weight", token_weight, input_ids)
    head = head_of(model, input_ids)
    given = {"attention_mask": attention_mask, "position_ids": position_ids}
    body: Any = model.base_model
    hidden = body(
        input_ids=input_ids,
        use_cache=False,  # keys and values would be kept for a next token that never comes
        return_dict=True,
        **{name: value for name, value in given.items() if value is not None},
    ).last_hidden_state
    # The last token has nothing to predict. It stays, as a token that does not count: to cut
    # it off would copy the hidden states.
    hidden = head.operand(hidden)
    labels = F.pad(labels[:, 1:].long(), (0, 1), value=ignore_index).to(hidden.device)
    if token_weight is not None:
        token_weight = F.pad(token_weight[:, 1:], (0, 1)).to(hidden.device)
    return linear_cross_entropy(
        hidden,
        head.weight,
        labels,
        bias=head.bias,
        logit_scale=head.logit_scale,
        logit_softcap=head.logit_softcap,
        token_weight=token_weight,
        **options,
    )


def _check_shape(name: str, tensor: Any, input_ids: Tensor) -> None:
    for each, value in (("input_ids", input_ids), (name, tensor)):
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"{each}: expected a torch.Tensor, got {type(value).__name__}")
    if input_ids.ndim != 2:
        raise ValueError(f"input_ids: expected shape [batch, length], got {list(input_ids.shape)}")
    if tensor.shape != input_ids.shape:
        raise ValueError(
            f"{name}: expected shape {list(input_ids.shape)} (that of input_ids, not shifted), "
            f"got {list(tensor.shape)}"
        )
