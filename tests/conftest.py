"""The suite is about the CPU, also on a machine with a GPU: set before a framework loads."""

from __future__ import annotations

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
