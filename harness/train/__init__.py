"""Whole training runs: the same model in both frameworks, with the logits and without them."""
