"""What both implementations promise, in NumPy alone.

The options and what they may be, what the arrays must look like, how the work is
cut into tiles, the float64 reference, and seeded inputs. Imports neither
framework, nor anything else of this project.
"""

from loss_spec.loss_aux import LossAux
from loss_spec.options import LossOptions, Objective
from loss_spec.plan import Plan, make_plan
from loss_spec.problem import DTYPE_BYTES, FLOAT_DTYPES, ArraySpec, Problem, check_arrays

__all__ = [
    "DTYPE_BYTES",
    "FLOAT_DTYPES",
    "ArraySpec",
    "LossAux",
    "LossOptions",
    "Objective",
    "Plan",
    "Problem",
    "check_arrays",
    "make_plan",
]
