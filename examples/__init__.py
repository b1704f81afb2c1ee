"""Training loops to read and to copy from; run them from the root of a checkout."""
