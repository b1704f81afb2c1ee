"""What a run will need, worked out before anything runs.

speed, packing -> full_logits, memory, duration -> fit (of one case) -> run (of all).
"""
