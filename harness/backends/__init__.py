"""What the worker asks of a framework: the same functions in both modules."""
