"""One Optax training step of a language-model head in JAX.

From the root of a checkout: PYTHONPATH=. python examples/train_step_jax.py
"""

from __future__ import annotations

from typing import Any

import jax
import optax

from jax_impl import linear_cross_entropy

BATCH, LENGTH, FEATURES, VOCAB = 4, 128, 64, 8192


def main() -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    hidden = jax.random.normal(keys[0], (BATCH, LENGTH, FEATURES))  # what a model's body gives
    labels = jax.random.randint(keys[1], (BATCH, LENGTH), 0, VOCAB)
    kernel = jax.random.normal(keys[2], (FEATURES, VOCAB)) * FEATURES**-0.5  # as a Flax Dense has
    optimizer = optax.adam(1e-2)

    @jax.jit
    def train_step(kernel: jax.Array, state: optax.OptState) -> Any:
        loss, gradient = jax.value_and_grad(
            lambda kernel: linear_cross_entropy(hidden, kernel, labels, vocab_axis=1)
        )(kernel)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(kernel, updates), state, loss

    state = optimizer.init(kernel)
    for step in range(5):
        kernel, state, loss = train_step(kernel, state)
        print(f"step {step}  loss {loss:.4f}")


if __name__ == "__main__":
    main()
