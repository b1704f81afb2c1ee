"""Trains a small language model in Flax NNX with Optax, with and without the logits.

    python -m examples.train_flax --loss=chunked
    python -m examples.train_flax --loss=standard
    python -m examples.train_flax --resume

The model, its first weights and its batches are those of examples/train_torch.py. What the
loss needs is `LMHead` instead of `nnx.Linear`, and `loss_of`; the rest is an ordinary
training loop.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx

from examples.journal import Journal
from examples.recipe import BETAS, LARGEST_NORM, WEIGHT_DECAY, Recipe, parse
from examples.text import Text, draw_token, load_text
from jax_impl.flax_nnx import LMHead


class Block(nnx.Module):
    """Attention, then two linear maps; both add to what comes in."""

    def __init__(self, dim: int, heads: int, rngs: nnx.Rngs) -> None:
        self.heads = heads
        self.attention_norm = nnx.RMSNorm(dim, rngs=rngs)
        self.qkv = nnx.Linear(dim, 3 * dim, use_bias=False, rngs=rngs)
        self.out = nnx.Linear(dim, dim, use_bias=False, rngs=rngs)
        self.mlp_norm = nnx.RMSNorm(dim, rngs=rngs)
        self.up = nnx.Linear(dim, 4 * dim, use_bias=False, rngs=rngs)
        self.down = nnx.Linear(4 * dim, dim, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        batch, length, dim = x.shape
        qkv = self.qkv(self.attention_norm(x)).reshape(batch, length, 3, self.heads, -1)
        query, key, value = jnp.moveaxis(qkv, 2, 0)
        mixed = jax.nn.dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.reshape(batch, length, dim))
        return x + self.down(jax.nn.gelu(self.up(self.mlp_norm(x)), approximate=True))


class Decoder(nnx.Module):
    """Tokens [batch, length] to hidden states [batch, length, dim]; `head` makes logits of them."""

    def __init__(self, recipe: Recipe, rngs: nnx.Rngs) -> None:
        self.tokens = nnx.Embed(recipe.vocab_size, recipe.dim, rngs=rngs)
        self.positions = nnx.Embed(recipe.length, recipe.dim, rngs=rngs)
        self.blocks = nnx.List(
            [Block(recipe.dim, recipe.heads, rngs) for _ in range(recipe.layers)]
        )
        self.norm = nnx.RMSNorm(recipe.dim, rngs=rngs)
        self.head = LMHead(recipe.dim, recipe.vocab_size, use_bias=False, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = self.tokens(tokens) + self.positions.embedding[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def loss_of(model: Decoder, tokens: Any, loss: str) -> jax.Array:
    """Mean cross-entropy of the next token."""
    hidden, labels = model(tokens[:, :-1]), tokens[:, 1:]
    if loss == "chunked":
        return model.head.loss(hidden, labels)
    # Flat: XLA's CPU compiler takes twice as long for the gradients of [batch, length, V] logits.
    logits = model.head(hidden.reshape(-1, hidden.shape[-1]))
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels.reshape(-1)).mean()


evaluate = nnx.jit(loss_of, static_argnums=2)


def set_first_weights(model: Decoder, recipe: Recipe) -> None:
    """The same numbers as in PyTorch."""
    state = nnx.state(model, nnx.Param)
    for path, param in nnx.to_flat_state(state):
        name = ".".join(map(str, path))
        param[...] = jnp.asarray(recipe.first_weights(name, param.shape))
    nnx.update(model, state)


def make_optimizer(model: Decoder, recipe: Recipe) -> nnx.Optimizer:
    rates = np.array([recipe.rate(step) for step in range(recipe.steps + 1)], np.float32)
    transform = optax.chain(
        optax.clip_by_global_norm(LARGEST_NORM),
        optax.adamw(jnp.asarray(rates).__getitem__, *BETAS, weight_decay=WEIGHT_DECAY),
    )
    return nnx.Optimizer(model, transform, wrt=nnx.Param)


def make_train_step(loss: str) -> Any:
    # The new weights and moments take the place of the old ones.
    @nnx.jit(donate_argnums=(0, 1))
    def train_step(model: Decoder, optimizer: nnx.Optimizer, tokens: jax.Array) -> jax.Array:
        value, gradients = nnx.value_and_grad(loss_of)(model, tokens, loss)
        optimizer.update(model, gradients)
        return value

    return train_step


def held_out_loss(model: Decoder, text: Text, recipe: Recipe) -> float:
    batches = text.held_out_batches(recipe.batch_size, recipe.length)
    losses = [float(evaluate(model, batch, recipe.loss)) for batch in batches]
    return sum(losses) / len(losses)


def generate(model: Decoder, text: Text, recipe: Recipe, prompt: str, count: int = 60) -> str:
    """Continues the prompt; logits of one position at a time are all that it needs."""

    @nnx.jit
    def logits_at(model: Decoder, window: Any, position: Any) -> jax.Array:
        return model.head(model(window[None])[0, position])

    generator, tokens = np.random.default_rng(recipe.seed), text.tokenizer.encode(prompt).ids
    for _ in range(count):
        window = tokens[-recipe.length :]
        padded = np.array(window + [0] * (recipe.length - len(window)))  # one shape, one program
        logits = logits_at(model, padded, len(window) - 1)
        values, choices = jax.lax.top_k(logits, 20)
        tokens.append(draw_token(generator, np.asarray(values), np.asarray(choices)))
    return text.decode(tokens)


def checkpoints(recipe: Recipe) -> ocp.CheckpointManager:
    directory = Path(recipe.output_dir).resolve() / "checkpoints"
    return ocp.CheckpointManager(directory, options=ocp.CheckpointManagerOptions(max_to_keep=1))


def save(manager: Any, model: Decoder, optimizer: nnx.Optimizer, step: int) -> None:
    """Whole or not at all: a run that is killed meanwhile finds the one before."""
    manager.save(step, args=ocp.args.StandardSave(_pure(model, optimizer)))
    manager.wait_until_finished()


def restore(manager: Any, model: Decoder, optimizer: nnx.Optimizer) -> int:
    """The step to go on with."""
    step = manager.latest_step()
    if step is None:
        return 0  # killed before its first checkpoint
    restored = manager.restore(step, args=ocp.args.StandardRestore(_pure(model, optimizer)))
    for node, values in zip((model, optimizer), restored, strict=True):
        state = nnx.state(node)
        nnx.replace_by_pure_dict(state, values)
        nnx.update(node, state)
    return step


def _pure(model: Decoder, optimizer: nnx.Optimizer) -> list[Any]:
    return [nnx.to_pure_dict(nnx.state(node)) for node in (model, optimizer)]


def main(
    arguments: Sequence[str] | None = None,
) -> tuple[Decoder, nnx.Optimizer, Any, np.ndarray]:
    """Trains, and returns what one more step takes: (model, optimizer, train_step, tokens)."""
    recipe = parse(arguments, __doc__, "results/train_flax")
    text = load_text(recipe.vocab_size)
    model = Decoder(recipe, nnx.Rngs(recipe.seed))
    set_first_weights(model, recipe)
    optimizer = make_optimizer(model, recipe)
    manager = checkpoints(recipe)
    if not recipe.resume:
        for step in manager.all_steps():  # of an earlier run: they would pass for this one's
            manager.delete(step)
    first = restore(manager, model, optimizer)
    train_step = make_train_step(recipe.loss)

    def batch(step: int) -> np.ndarray:
        return text.batch(recipe.batch_size, recipe.length, (1, recipe.seed, step))

    with Journal(recipe, first) as journal:
        for step in range(first, recipe.steps):
            start = time.perf_counter()
            loss = float(train_step(model, optimizer, batch(step)))
            journal.step(step, loss, time.perf_counter() - start)
            if (step + 1) % recipe.every == 0 or step + 1 == recipe.steps:
                journal.held_out(step, held_out_loss(model, text, recipe))
                save(manager, model, optimizer, step + 1)
        sample = generate(model, text, recipe, "The value of the")
        journal.close(sample)
    return model, optimizer, train_step, batch(recipe.steps)


if __name__ == "__main__":
    main()
