"""JAX against PyTorch on the same arrays: no further apart than both may be from float64."""

from __future__ import annotations

from harness.conformance.problem import make_problem, solve
from loss_spec.reference import fair_error, relative_error
from tests.conformance.evaluation import CHUNKED, evaluate
from tests.tables import grid

OPTIONS = {
    "none": {},
    "all": {
        "label_smoothing": 0.1,
        "logit_scale": 0.7,
        "logit_softcap": 5.0,
        "z_loss": 1e-2,
        "has_class_weight": True,
        "has_token_weight": True,
    },
}


@grid(
    dtype=("float16", "bfloat16", "float32", "float64"),
    reduction=("mean", "sum", "none"),
    options=OPTIONS,
)
def test_losses_and_gradients_agree(both_frameworks, dtype, reduction, options):
    problem = make_problem(dtype=dtype, reduction=reduction, **options)
    jax_result, torch_result = (evaluate(f, CHUNKED, problem) for f in both_frameworks)
    for name, standard_error in solve(problem).standard_errors.items():
        one, other = getattr(jax_result, name), getattr(torch_result, name)
        assert one.dtype == other.dtype
        limit = 2 * fair_error(standard_error, one.dtype)
        assert relative_error(one, other) <= limit, name
