"""English text that every Python has, as tokens: its language reference and its docstrings."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

_END = "<|end|>"
_NO_DOCUMENTATION = {"test", "tests", "idlelib", "site-packages"}
_HELD_OUT = 12  # one document of so many


class Text(NamedTuple):
    """Token ids, and the tokenizer that reads and writes them."""

    tokenizer: Tokenizer
    training: np.ndarray
    held_out: np.ndarray

    def batch(self, batch_size: int, length: int, seed: tuple[int, ...]) -> np.ndarray:
        """`[batch_size, length + 1]` windows of the training text, drawn from the seed alone."""
        return _windows(self.training, batch_size, length, seed)

    def held_out_batches(self, batch_size: int, length: int) -> list[np.ndarray]:
        """The same few whenever they are asked for."""
        return [_windows(self.held_out, batch_size, length, (0, each)) for each in range(4)]

    def decode(self, tokens: list[int]) -> str:
        return self.tokenizer.decode(tokens)


def draw_token(generator: np.random.Generator, logits: np.ndarray, choices: np.ndarray) -> int:
    """One of the choices, by the softmax of their logits."""
    shares = np.exp(logits.astype(np.float64) - logits.max())
    return int(generator.choice(choices, p=shares / shares.sum()))


def load_text(vocab_size: int) -> Text:
    """Trains a byte-level BPE of that many entries; a document is never in both parts."""
    documents = [*topics.values(), *_docstrings()]
    training = [text for index, text in enumerate(documents) if index % _HELD_OUT]
    held_out = documents[::_HELD_OUT]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training, trainer)
    if (found := tokenizer.get_vocab_size()) != vocab_size:
        raise ValueError(
            f"vocab_size: expected one that the text has merges for, got {vocab_size:,}: "
            f"{found:,} is the nearest"
        )
    return Text(tokenizer, _tokens(tokenizer, training), _tokens(tokenizer, held_out))


def _docstrings() -> Iterator[str]:
    """Those of each module of the standard library, parsed and never run."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        if _NO_DOCUMENTATION & set(path.relative_to(root).parts):
            continue
        nodes = ast.walk(ast.parse(path.read_bytes()))
        documented = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
        found = [ast.get_docstring(node) for node in nodes if isinstance(node, documented)]
        if text := "\n\n".join(filter(None, found)):
            yield text


def _tokens(tokenizer: Tokenizer, documents: list[str]) -> np.ndarray:
    encoded = tokenizer.encode_batch([text + _END for text in documents])
    return np.concatenate([np.asarray(each.ids, np.int32) for each in encoded])


def _windows(tokens: np.ndarray, count: int, length: int, seed: tuple[int, ...]) -> np.ndarray:
    if length >= len(tokens):
        raise ValueError(f"length: expected less than the text's {len(tokens):,}, got {length:,}")
    starts = np.random.default_rng(seed).integers(len(tokens) - length, size=count)
    return tokens[starts[:, None] + np.arange(length + 1)]
