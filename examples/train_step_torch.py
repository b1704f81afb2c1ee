"""One optimiser step of a language-model head in PyTorch.

From the root of a checkout: PYTHONPATH=. python examples/train_step_torch.py
"""

from __future__ import annotations

import torch

from torch_impl import linear_cross_entropy

BATCH, LENGTH, FEATURES, VOCAB = 4, 128, 64, 8192


def main() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(BATCH, LENGTH, FEATURES)  # what a model's body gives
    labels = torch.randint(0, VOCAB, (BATCH, LENGTH))
    head = torch.nn.Linear(FEATURES, VOCAB, bias=True)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)

    for step in range(5):
        loss = linear_cross_entropy(hidden, head.weight, labels, bias=head.bias)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step}  loss {loss:.4f}")


if __name__ == "__main__":
    main()
