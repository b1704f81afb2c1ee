"""Named shapes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Shapes of one sweep, and how often each is measured."""

    about: str
    batch_size: int
    seq_len: int
    hidden_dim: int
    vocab_sizes: tuple[int, ...]
    dtype: str = "float32"
    warmup: int = 1
    repeats: int = 5


PRESETS = {
    "smoke": Preset(
        about="seconds: does everything run?",
        batch_size=2,
        seq_len=256,
        hidden_dim=64,
        vocab_sizes=(4096, 8192),
        repeats=3,
    ),
    "cpu": Preset(
        about="minutes on two cores (the default without a GPU)",
        batch_size=4,
        seq_len=512,
        hidden_dim=512,
        vocab_sizes=(8192, 16384, 32768),
    ),
    "seed": Preset(
        about="the sweep of the seed project (the default with a GPU)",
        batch_size=4,
        seq_len=2048,
        hidden_dim=2048,
        vocab_sizes=(10_000, 25_000, 50_000, 75_000, 100_000),
        repeats=10,
    ),
    "gpt2": Preset(
        about="head of GPT-2",
        batch_size=1,
        seq_len=1024,
        hidden_dim=768,
        vocab_sizes=(50_257,),
    ),
    "llama3_8b": Preset(
        about="head of Llama 3 8B",
        batch_size=4,
        seq_len=2048,
        hidden_dim=4096,
        vocab_sizes=(128_256,),
        dtype="bfloat16",
    ),
    "gemma2_2b": Preset(
        about="head of Gemma 2 2B",
        batch_size=4,
        seq_len=2048,
        hidden_dim=2304,
        vocab_sizes=(256_000,),
        dtype="bfloat16",
    ),
    "long_batch": Preset(
        about="32768 tokens at once, with Llama 3's vocabulary",
        batch_size=4,
        seq_len=8192,
        hidden_dim=2560,
        vocab_sizes=(128_256,),
        dtype="bfloat16",
    ),
    "qwen3_8b": Preset(
        about="head of Qwen 3 8B",
        batch_size=4,
        seq_len=2048,
        hidden_dim=4096,
        vocab_sizes=(151_936,),
        dtype="bfloat16",
    ),
}
