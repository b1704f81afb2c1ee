"""What both implementations promise, in NumPy alone.

The options and what they may be, what the arrays must look like, the plan (strategy,
tiles, workspace, flops), the float64 reference, and seeded inputs. Imports neither
framework, nor anything else of this project.
"""

from loss_spec.blocks import rest_block
from loss_spec.loss_aux import LossAux
from loss_spec.options import LossOptions, Objective, check_option_names
from loss_spec.plan import EVERYTHING, Plan, make_plan
from loss_spec.problem import DTYPE_BYTES, FLOAT_DTYPES, ArraySpec, Problem, check_arrays
from loss_spec.workspace import Backend, Needs

__all__ = [
    "DTYPE_BYTES",
    "EVERYTHING",
    "FLOAT_DTYPES",
    "ArraySpec",
    "Backend",
    "LossAux",
    "LossOptions",
    "Needs",
    "Objective",
    "Plan",
    "Problem",
    "check_arrays",
    "check_option_names",
    "make_plan",
    "rest_block",
]
