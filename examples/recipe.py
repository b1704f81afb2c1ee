"""What both training loops share: options, sizes, first weights, learning rate.

The same weights and the same batches in both frameworks, whatever the loss: what differs
between two runs is what their code does with them.
"""

from __future__ import annotations

import argparse
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from examples.metrics import METRICS, read_metrics

LOSSES = ("standard", "chunked")
BETAS, WEIGHT_DECAY, LARGEST_NORM = (0.9, 0.95), 0.1, 1.0
_WARMUP_STEPS = 20
_ABOUT = {
    "steps": "optimizer steps",
    "batch_size": "sequences in a batch",
    "length": "tokens in a sequence",
    "vocab_size": "entries of the tokenizer",
    "dim": "width of the hidden states",
    "layers": "blocks",
    "heads": "attention heads of a block",
    "learning_rate": "its highest value",
    "seed": "of the first weights and of the batches",
    "every": "steps from one look at the held-out text, and one checkpoint, to the next",
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One run; the defaults take two to five minutes on two cores."""

    loss: str = "chunked"
    steps: int = 200
    batch_size: int = 32
    length: int = 128
    vocab_size: int = 16384
    dim: int = 128
    layers: int = 2
    heads: int = 2
    learning_rate: float = 2e-3
    seed: int = 0
    every: int = 50
    output_dir: Path
    resume: bool = False

    def rate(self, step: int) -> float:
        """Learning rate of a step: a short rise, then half a cosine."""
        rise = (step + 1) / _WARMUP_STEPS
        return self.learning_rate * min(rise, 0.5 + 0.5 * math.cos(math.pi * step / self.steps))

    def first_weights(self, name: str, shape: Sequence[int]) -> np.ndarray:
        """Of a parameter by its name in Flax, such as "blocks.0.up.kernel" [in, out]."""
        if name.endswith("scale"):
            return np.ones(shape, np.float32)
        generator = np.random.default_rng((self.seed, zlib.crc32(name.encode())))
        return generator.normal(0, 0.02, shape).astype(np.float32)


def parse(arguments: Sequence[str] | None, about: str | None, output_dir: str) -> Recipe:
    """The recipe of a command line; ends the process with a usage message if it has none.

    `output_dir` is where the run leaves its metrics and checkpoints unless told otherwise.
    """
    parser = argparse.ArgumentParser(
        description=(about or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--loss", choices=LOSSES, default=Recipe.loss, help="of the LM head")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument(
        "--output_dir", type=Path, default=Path(output_dir), help="checkpoint, metrics"
    )
    for name, help_text in _ABOUT.items():
        default = getattr(Recipe, name)
        parser.add_argument(f"--{name}", type=type(default), default=default, help=help_text)
    recipe = Recipe(**vars(parser.parse_args(arguments)))
    for name in ("steps", "batch_size", "length", "vocab_size", "dim", "layers", "heads", "every"):
        if (value := getattr(recipe, name)) <= 0:
            parser.error(f"--{name}: expected an integer > 0, got {value}")
    if recipe.resume:
        _check_resumed(parser, recipe)
    if not 0 < recipe.learning_rate < math.inf:
        parser.error(f"--learning_rate: expected a number > 0, got {recipe.learning_rate}")
    if recipe.seed < 0:
        parser.error(f"--seed: expected an integer >= 0, got {recipe.seed}")
    if recipe.dim % recipe.heads:
        parser.error(f"--dim: expected a multiple of --heads={recipe.heads}, got {recipe.dim}")
    return recipe


def _check_resumed(parser: argparse.ArgumentParser, recipe: Recipe) -> None:
    """There is a run to go on with, and it is the same one, or its curve would be of neither."""
    lines = read_metrics(recipe.output_dir / METRICS)
    if not lines:
        parser.error(f"--resume: expected a run to go on with, got none in {recipe.output_dir}")
    for name in ("loss", *(name for name in _ABOUT if name not in ("steps", "every"))):
        if (own := getattr(recipe, name)) != (before := lines[0]["recipe"][name]):
            parser.error(f"--{name}: expected {before}, that of the run to go on with, got {own}")
