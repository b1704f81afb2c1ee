"""What the name of a GPU kernel says: whether it multiplies matrices, of what, and on which units.

cuBLAS and CUTLASS write it into the names of their kernels, each family in its own way:

    nvjet_sm90_tss_256x128_...                       t: bfloat16, h: float16, q: 8 bits, s: tf32
    sm90_xmma_gemm_bf16bf16_bf16f32_f32_...          operands, what is multiplied and added up in
    cutlass_80_tensorop_bf16_s16816gemm_bf16_...     with the shape of a tensor core's product
    ampere_sgemm_128x64_tn, cutlass_80_simt_sgemm    none: on the ordinary units

The kernels that XLA has Triton write (`gemm_fusion_dot_3`) multiply matrices as well; of what,
the program says that they belong to (`matmul_operands`), and not their name.
"""

from __future__ import annotations

import re

BFLOAT16, FLOAT16, FLOAT32, TF32 = "bfloat16", "float16", "float32", "tf32"

_NVJET = re.compile(r"nvjet_(?:sm\d+_)?(?P<operand>[a-z])")
_OF_NVJET = {"t": BFLOAT16, "h": FLOAT16, "q": "8 bits", "s": TF32, "d": "float64"}

_XMMA = re.compile(r"xmma_gemm_[a-z0-9]+_(?P<operand>bf16|tf32|f16|f32|f64|e4m3|e5m2|i8)")

# "s16816" is a product of 16 x 8 x 16 that is added up in float32; the dtype of its operands
# stands beside it, or is TF32.
_TENSOR_OP = re.compile(
    r"(?P<sum>[shdzi])(?:884|1684|1688|16816|16832|161616|\d+x\d+x\d+)(?:gemm|cudnn)"
)
_OF_SUM = {"s": TF32, "h": FLOAT16, "d": "float64", "z": "float64", "i": "8 bits"}
_OPERAND = re.compile(r"(?<![a-z0-9])(?P<operand>bf16|bfloat16|tf32|fp16|f16|f32|e4m3|e5m2)")

_ORDINARY = re.compile(r"simt|ffma|[sdcz]gemm|gemmSN|gemmk1")
_OF_ORDINARY = re.compile(r"bfloat16|bf16|__half|fp16|double|dgemm")

_OF_XLA = re.compile(r"gemm_fusion|triton_gemm")
_OTHER = re.compile(r"gemm|cutlass|cublas|nvjet|xmma|matmul|_mm_", re.IGNORECASE)
# Beside a matmul: what adds up its parts, and a matrix by a vector, which waits for memory
# whatever multiplies.
_NO_MATMUL = re.compile(r"splitk_?reduce|gemv|dot_kernel", re.IGNORECASE)

_WORDS = {
    "bf16": BFLOAT16, "bfloat16": BFLOAT16, "f16": FLOAT16, "fp16": FLOAT16, "__half": FLOAT16,
    "tf32": TF32, "f32": FLOAT32, "f64": "float64", "double": "float64", "dgemm": "float64",
    "e4m3": "8 bits", "e5m2": "8 bits", "i8": "8 bits",
}  # fmt: skip


def is_matmul(name: str) -> bool:
    """Whether the kernel multiplies matrices."""
    return bool(_OTHER.search(name)) and not _NO_MATMUL.search(_function(name))


def operand_dtype(name: str) -> str | None:
    """What a matmul multiplies: "bfloat16", "float16", "tf32", "float32", "float64" or "8 bits".

    TF32 is what tensor cores make of float32. None where the name does not say.
    """
    if _OF_XLA.search(name):
        return None
    if found := _NVJET.search(name):
        return _OF_NVJET.get(found["operand"])
    if found := _XMMA.search(name):
        return _WORDS[found["operand"]]
    if found := _TENSOR_OP.search(name):
        beside = _OPERAND.search(name)
        return _WORDS[beside["operand"]] if beside else _OF_SUM[found["sum"]]
    if _ORDINARY.search(name):
        beside = _OF_ORDINARY.search(name)
        return _WORDS[beside[0]] if beside else FLOAT32
    return None


def uses_tensor_cores(name: str) -> bool | None:
    """Whether a matmul runs on tensor cores; None where the name does not say."""
    if _OF_XLA.search(name):
        return None
    if _NVJET.search(name) or _TENSOR_OP.search(name):
        return True
    if found := _XMMA.search(name):
        return found["operand"] != "f32"
    return False if _ORDINARY.search(name) else None


_INSTRUCTION = re.compile(r"^ *(?:ROOT )?%?(?P<name>[\w.-]+) = (?P<dtype>\w+)\[")
_MATMUL = re.compile(r" dot\((?P<dot>[^)]*)\)| custom-call\((?P<call>[^)]*)\).*\"__cublas")
_NAME = re.compile(r"%([\w.-]+)")


def matmul_operands(hlo: str) -> set[tuple[str, str]]:
    """The dtypes of both operands of every matmul of a compiled program, in HLO's words."""
    found = set()
    for computation in hlo.split("\n}\n"):  # within which the names of instructions are unique
        lines = computation.splitlines()
        dtypes = {
            made["name"]: made["dtype"] for line in lines if (made := _INSTRUCTION.match(line))
        }
        for line in lines:
            if matmul := _MATMUL.search(line):
                left, right = _NAME.findall(matmul["dot"] or matmul["call"])[:2]
                found.add((dtypes[left], dtypes[right]))
    return found


def _function(name: str) -> str:
    """Without the arguments of its template, which name other things."""
    return name.partition("<")[0]
