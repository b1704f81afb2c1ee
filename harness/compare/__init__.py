"""Two runs of the same cases: what got slower, larger, or broke between them."""
