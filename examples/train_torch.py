"""Trains a small language model in PyTorch, with and without the logits.

    python -m examples.train_torch --loss=chunked
    python -m examples.train_torch --loss=standard
    python -m examples.train_torch --resume

The model, its first weights and its batches are those of examples/train_flax.py. What the
loss needs is in `loss_of`; the rest is an ordinary training loop.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from examples.journal import Journal
from examples.recipe import BETAS, LARGEST_NORM, WEIGHT_DECAY, Recipe, parse
from examples.text import Text, draw_token, load_text
from torch_impl import LinearCrossEntropyLoss

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
chunked = LinearCrossEntropyLoss()


class Block(nn.Module):
    """Attention, then two linear maps; both add to what comes in."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.RMSNorm(dim, eps=1e-6)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.mlp_norm = nn.RMSNorm(dim, eps=1e-6)
        self.up = nn.Linear(dim, 4 * dim, bias=False)
        self.down = nn.Linear(4 * dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, dim = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, length, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, dim))
        return x + self.down(F.gelu(self.up(self.mlp_norm(x)), approximate="tanh"))


class Decoder(nn.Module):
    """Tokens [batch, length] to hidden states [batch, length, dim]; `head` makes logits of them."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.tokens = nn.Embedding(recipe.vocab_size, recipe.dim)
        self.positions = nn.Embedding(recipe.length, recipe.dim)
        self.blocks = nn.ModuleList(Block(recipe.dim, recipe.heads) for _ in range(recipe.layers))
        self.norm = nn.RMSNorm(recipe.dim, eps=1e-6)
        self.head = nn.Linear(recipe.dim, recipe.vocab_size, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def loss_of(model: Decoder, tokens: Tensor, loss: str) -> Tensor:
    """Mean cross-entropy of the next token."""
    hidden, labels = model(tokens[:, :-1]), tokens[:, 1:]
    if loss == "chunked":
        return chunked(hidden, model.head.weight, labels)
    logits = model.head(hidden)
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


@torch.no_grad()
def set_first_weights(model: Decoder, recipe: Recipe) -> None:
    """The same numbers as in Flax, whose kernels are [in, out]."""
    kinds = {nn.Linear: "kernel", nn.Embedding: "embedding", nn.RMSNorm: "scale"}
    for name, module in model.named_modules():
        if type(module) in kinds:
            weight = module.weight.T if isinstance(module, nn.Linear) else module.weight
            drawn = recipe.first_weights(f"{name}.{kinds[type(module)]}", weight.shape)
            weight.copy_(torch.from_numpy(drawn))


def to_tensor(tokens: np.ndarray) -> Tensor:
    return torch.from_numpy(tokens).long().to(DEVICE)


TrainStep = Callable[[Decoder, torch.optim.Optimizer, np.ndarray], Tensor]


def make_train_step(loss: str) -> TrainStep:
    def train_step(model: Decoder, optimizer: torch.optim.Optimizer, tokens: np.ndarray) -> Tensor:
        value = loss_of(model, to_tensor(tokens), loss)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
        optimizer.step()
        return value.detach()

    return train_step


def held_out_loss(model: Decoder, text: Text, recipe: Recipe) -> float:
    batches = text.held_out_batches(recipe.batch_size, recipe.length)
    with torch.no_grad():
        losses = [loss_of(model, to_tensor(batch), recipe.loss).item() for batch in batches]
    return sum(losses) / len(losses)


def generate(model: Decoder, text: Text, recipe: Recipe, prompt: str, count: int = 60) -> str:
    """Continues the prompt; logits of one position at a time are all that it needs."""
    generator, tokens = np.random.default_rng(recipe.seed), text.tokenizer.encode(prompt).ids
    for _ in range(count):
        window = to_tensor(np.array([tokens[-recipe.length :]]))
        with torch.no_grad():
            logits = model.head(model(window)[0, -1])
        values, choices = logits.topk(20)
        tokens.append(draw_token(generator, values.cpu().numpy(), choices.cpu().numpy()))
    return text.decode(tokens)


def save(path: Path, model: Decoder, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Whole or not at all: a run that is killed meanwhile finds the one before."""
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    torch.save(state, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


def restore(path: Path, model: Decoder, optimizer: torch.optim.Optimizer) -> int:
    """The step to go on with."""
    if not path.exists():
        return 0  # killed before its first checkpoint
    state = torch.load(path, map_location=DEVICE)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


def main(
    arguments: Sequence[str] | None = None,
) -> tuple[Decoder, torch.optim.Optimizer, TrainStep, np.ndarray]:
    """Trains, and returns what one more step takes: (model, optimizer, train_step, tokens)."""
    recipe = parse(arguments, __doc__, "results/train_torch")
    text = load_text(recipe.vocab_size)
    model = Decoder(recipe)
    set_first_weights(model, recipe)
    model.to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), betas=BETAS, weight_decay=WEIGHT_DECAY)
    checkpoint = recipe.output_dir / "checkpoint.pt"
    if not recipe.resume:
        checkpoint.unlink(missing_ok=True)  # of an earlier run: it would pass for this one's
    first = restore(checkpoint, model, optimizer)
    train_step = make_train_step(recipe.loss)

    def batch(step: int) -> np.ndarray:
        return text.batch(recipe.batch_size, recipe.length, (1, recipe.seed, step))

    with Journal(recipe, first) as journal:
        for step in range(first, recipe.steps):
            start = time.perf_counter()
            optimizer.param_groups[0]["lr"] = recipe.rate(step)
            loss = float(train_step(model, optimizer, batch(step)))
            journal.step(step, loss, time.perf_counter() - start)
            if (step + 1) % recipe.every == 0 or step + 1 == recipe.steps:
                journal.held_out(step, held_out_loss(model, text, recipe))
                save(checkpoint, model, optimizer, step + 1)
        sample = generate(model, text, recipe, "The value of the")
        journal.close(sample)
    return model, optimizer, train_step, batch(recipe.steps)


if __name__ == "__main__":
    main()
