"""Models of `transformers` that nobody here wrote: their own loss against ours."""
