"""Measures the losses: PyTorch against XLA, standard against chunked, on the same arrays.

run -> cases -> scheduler -> one fresh worker per case -> record -> store -> report.
"""
