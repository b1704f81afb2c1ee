"""JAX as careful programs run it: strict promotion, with 64-bit types on and off, no NaN.

Each mode is one fresh process, with its settings where users have them: in the
environment, before JAX is imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

# Prints what every call returned, for the test to judge. A dtype that JAX does not have in
# this mode is left out; a promotion or a NaN ends the process.
PROGRAM = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
from jax_impl import linear_cross_entropy
from loss_spec.inputs import make_inputs

x64 = jax.config.jax_enable_x64
floats = ["float16", "bfloat16", "float32"] + ["float64"] * x64
integers = [sign + "int" + bits for sign in ("", "u") for bits in ("8", "16", "32", "64")]
V, N = 51, 9

def inputs(dtype, labels_dtype="int32"):
    hidden, weight, labels = make_inputs(
        seed=0, num_tokens=N, hidden_dim=8, vocab_size=V, dtype=dtype
    )
    return jnp.asarray(hidden), jnp.asarray(weight), np.asarray(labels, labels_dtype)

def record(name, dtype, labels_dtype="int32", **options):
    hidden, weight, labels = inputs(dtype, labels_dtype)
    labels[3] = options.get("ignore_index", -100)
    def loss(hidden, weight, bias):
        losses, aux = linear_cross_entropy(
            hidden, weight, labels, bias=bias, vocab_chunk=20, token_chunk=4,
            return_aux=True, **options,
        )
        return jnp.sum(losses), (losses, aux)
    step = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)
    (_, (losses, aux)), gradients = step(hidden, weight, jnp.zeros(V, dtype))
    print(json.dumps({
        "name": name, "dtype": dtype,
        "loss": str(losses.dtype), "value": float(jnp.sum(losses)),
        "gradients": [str(array.dtype) for array in gradients],
        "size": [float(jnp.max(jnp.abs(array.astype(jnp.float32)))) for array in gradients],
        "aux": [str(array.dtype) for array in aux],
    }))

every_option = {
    "reduction": "none", "label_smoothing": 0.1, "logit_scale": 0.5, "logit_softcap": 5.0,
    "z_loss": 1e-2, "ignore_index": -100,
}
for dtype in floats:
    record("defaults", dtype)
    # Its own, and another in turn.
    for weight_dtype in {dtype, floats[floats.index(dtype) - 1]}:
        class_weight, token_weight = (
            jnp.asarray(np.linspace(0.5, 2, n), weight_dtype) for n in (V, N)
        )
        for reduction in ("mean", "none") if weight_dtype == dtype else ("none",):
            record("all", dtype, **every_option | dict(
                class_weight=class_weight, token_weight=token_weight, reduction=reduction,
            ))
for labels_dtype in integers:
    if x64 or "64" not in labels_dtype:
        record("labels", "float32", labels_dtype, ignore_index=7)
"""


@pytest.mark.parametrize("x64", [True, False], ids=["64 bits", "32 bits"])
def test_every_option_and_dtype(x64, pytestconfig):
    settings = {
        "JAX_ENABLE_X64": str(int(x64)),
        "JAX_NUMPY_DTYPE_PROMOTION": "strict",
        "JAX_DEBUG_NANS": "1",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        cwd=pytestconfig.rootpath,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    for record in records:
        # 64-bit types being there widens nothing that was not given in 64 bits.
        wide = "float64" if record["dtype"] == "float64" else "float32"
        assert record["loss"] == wide, record
        assert record["gradients"] == [record["dtype"]] * 3, record
        assert record["aux"] == [wide, wide, "int32", "int32"], record
        assert record["value"] > 0, record
        assert min(record["size"]) > 0, record
    num_floats, num_integers = (4, 8) if x64 else (3, 6)
    assert len(records) == num_floats * (1 + 2 + 1) + num_integers
    labels = [record["value"] for record in records if record["name"] == "labels"]
    assert len(set(labels)) == 1
