"""Names of kernels as profiles of H100, A100 and older GPUs have them, and what they say."""

from __future__ import annotations

import pytest

from tests.gpu_profiles.kernels import is_matmul, matmul_operands, operand_dtype, uses_tensor_cores

# (operands, tensor cores); None where the name alone does not say.
MATMULS = {
    # cuBLAS on Hopper
    "nvjet_tst_256x128_64x4_1x2_h_bz_coopA_TNT": ("bfloat16", True),
    "nvjet_tss_128x256_64x4_2x1_v_badd_coopA_NTN": ("bfloat16", True),
    "nvjet_sm90_tss_64x8_64x16_4x1_v_bz_splitK_TNT": ("bfloat16", True),
    "nvjet_sm90_tst_192x192_64x4_2x1_v_bz_coopB_TNN": ("bfloat16", True),
    "nvjet_sm100_tst_64x32_64x16_2x1_2cta_h_bz_TNT": ("bfloat16", True),
    "nvjet_hsh_256x128_64x4_2x1_v_bz_TNN": ("float16", True),
    "nvjet_sm90_hss_320x128_64x3_1x2_h_bz_coopB_NNT": ("float16", True),
    "nvjet_qqtst_128x256_128x6_2x1_2cta_v_bz_TNT": ("8 bits", True),
    "nvjet_sss_tf32_128x256_TNT": ("tf32", True),
    "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_"
    "execute_segment_k_off_kernel__5x_cublas": ("bfloat16", True),
    "sm90_xmma_gemm_f16f16_f16f16_f16_nt_n_tilesize128x128x64_stage4_gmmastage2_"
    "warpgroupsize1x1x1_hgmma64x128x16": ("float16", True),
    "sm90_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize128x128x32_warpgroupsize1x1x1_"
    "execute_segment_k_off_kernel__5x_cublas": ("tf32", True),
    "sm80_xmma_gemm_f32f32_f32f32_f32_tn_n_tilesize256x64x8_stage3_warpsize2x2x1_ffma_"
    "aligna4_alignc4_execute_kernel__5x_cublas": ("float32", False),
    # CUTLASS, by itself or in cuBLAS
    "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_64x64_32x6_nn_align8>"
    "(cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_64x64_32x6_nn_align8::Params)": (
        "bfloat16", True
    ),
    "void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_16x16_128x2_tn_align8>"
    "(T1::Params)": ("bfloat16", True),
    "void cutlass::Kernel2<cutlass_80_tensorop_s1688gemm_256x64_16x4_nn_align4>(T1::Params)": (
        "tf32", True
    ),
    "cutlass_80_tensorop_f16_s16816gemm_relu_f16_128x128_32x4_tn_align8": ("float16", True),
    "void cutlass::Kernel2<cutlass_80_tensorop_z884gemm_32x32_16x4_tn_align1>(T1::Params)": (
        "float64", True
    ),
    "void cutlass::Kernel2<cutlass_80_simt_sgemm_64x64_8x5_tn_align1>"
    "(cutlass_80_simt_sgemm_64x64_8x5_tn_align1::Params)": ("float32", False),
    "_ZN7cutlass6KernelI42cutlass_80_simt_sgemm_128x32_8x5_nn_align1EEvNT_6ParamsE": (
        "float32", False
    ),
    "cutlass3x_sm100_simt_sgemm_f32_f32_f32_f32_f32_32x32x16_1x1x1_3_tnn_align1_bias_f32_relu": (
        "float32", False
    ),
    # cuBLAS on what came before
    "ampere_bf16_s16816gemm_bf16_128x256_ldg8_f2f_stages_64x3_tn": ("bfloat16", True),
    "ampere_bf16_s1688gemm_bf16_64x128_sliced1x2_ldg8_f2f_tn": ("bfloat16", True),
    "ampere_s1688gemm_bf16_128x128_ldg8": ("bfloat16", True),
    "ampere_fp16_s16816gemm_fp16_64x64_sliced1x2_ldg8_relu_f2f_stages_64x6_tn": ("float16", True),
    "volta_fp16_s884gemm_fp16_128x64_ldg8_f2f_nn": ("float16", True),
    "volta_h884gemm_64x128_ldg8_nn": ("float16", True),
    "ampere_sgemm_128x64_tn": ("float32", False),
    "ampere_sgemm_32x128_tn": ("float32", False),
    "maxwell_fp16_sgemm_fp16_128x32_nn": ("float16", False),
    "void gemmSN_NN_kernel<float, 256, 4, 2, 8, 3, 4, false, "
    "cublasGemvTensorStridedBatched<float const>, cublasGemvTensorStridedBatched<float> >"
    "(cublasGemmSmallNParams<cublasGemvTensorStridedBatched<float const>, float>)": (
        "float32", False
    ),
    "void gemmSN_TN_kernel<__nv_bfloat16, 256, 4, 2, 8, 4, 4, false>(int)": ("bfloat16", False),
    "void gemmk1_kernel<int, float, 256, 5, true, false, false, false, "
    "cublasGemvTensorStridedBatched<float const>, float, 0>(int)": ("float32", False),
    # XLA's own
    "gemm_fusion_dot_general_1": (None, None),
    "gemm_fusion_dot_76_0": (None, None),
    "triton_gemm_dot_1": (None, None),
    # of which we know nothing
    "some_new_gemm_kernel": (None, None),
}  # fmt: skip

OTHERS = [
    "void cublasLt::splitKreduce_kernel<32, 16, int, float, __nv_bfloat16, float, __nv_bfloat16, "
    "true, false, false>(cublasLt::cublasSplitKParams<float>)",
    "void gemv2T_kernel_val<int, int, float, float, float, float, 128, 16, 4, 4, false, false, "
    "cublasGemvParamsEx<int, cublasGemvTensorStridedBatched<float const>, float> >(float)",
    "void gemvNSP_kernel<float, float, float, float, 1, 32, 4, 1024, false, "
    "cublasGemvParamsEx<int, cublasGemvTensorStridedBatched<float const>, float> >(float)",
    "std::enable_if<!T7, void>::type internal::gemvx::kernel<int, int, float, float>(float)",
    "void dot_kernel<float, 128, 0, cublasDotParams<cublasGemvTensor<float const>, float> >(float)",
    "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float>, "
    "std::array<char*, 1ul> >(int, at::native::FillFunctor<float>, std::array<char*, 1ul>)",
    "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, "
    "at::native::MaxOps<float>, unsigned int, float, 4, 4> >(float)",
    "loop_multiply_fusion",
    "input_reduce_fusion_92",
    "wrapped_transpose",
    "MemcpyD2H",
    "Memcpy DtoH (Device -> Pageable)",
    "Memset (Device)",
]


@pytest.mark.parametrize(("name", "expected"), MATMULS.items(), ids=lambda value: str(value)[:60])
def test_matmuls(name, expected):
    assert is_matmul(name)
    assert (operand_dtype(name), uses_tensor_cores(name)) == expected


@pytest.mark.parametrize("name", OTHERS, ids=lambda name: name[:60])
def test_what_multiplies_no_matrices(name):
    assert not is_matmul(name)


# Of a step that XLA compiled for an H100, shortened: one matmul by Triton, and as cuBLAS has it.
HLO = """
HloModule jit_step, is_scheduled=true

%gemm_fusion_dot_general.0_computation (parameter_0: bf16[2048,2304]) -> f32[2048,2048] {
  %parameter_0 = bf16[2048,2304]{1,0} parameter(0), metadata={scheduling_name="parameter_0"}
  %parameter_1 = DTYPE[2048,2304]{1,0} parameter(1)
  ROOT %dot_general.4 = f32[2048,2048]{1,0} dot(%parameter_0, %parameter_1), \
lhs_contracting_dims={1}, rhs_contracting_dims={1}, backend_config={"sizes":["16"]}
}

ENTRY %main.1 (parameter_0: f32[2048,2304]) -> f32[2048,2048] {
  %parameter_0 = f32[2048,2304]{1,0} parameter(0)
  %loop_convert_fusion = f16[2048,2304]{1,0} fusion(%parameter_0), kind=kLoop
  %custom-call.3 = (f32[2048,2048]{1,0}, s8[33554432]{0}) custom-call(%loop_convert_fusion, \
%loop_convert_fusion), custom_call_target="__cublas$lt$matmul", backend_config={}
  %custom-call.4 = (f32[2048]{0}, s32[2048]{0}) custom-call(%parameter_0), \
custom_call_target="__topk"
  ROOT %get-tuple-element = f32[2048,2048]{1,0} get-tuple-element(%custom-call.3), index=0
}
"""


@pytest.mark.parametrize("dtype", ["bf16", "f32"])
def test_what_the_matmuls_of_a_program_multiply(dtype):
    """An operand has the dtype that it has in its own computation."""
    assert matmul_operands(HLO.replace("DTYPE", dtype)) == {("bf16", dtype), ("f16", "f16")}


def test_of_a_program_that_was_compiled_here():
    """In the words of the XLA that is installed, whatever it compiles for."""
    import jax
    import jax.numpy as jnp

    def double(left, right):
        return jnp.matmul(left, right.T, preferred_element_type=jnp.float32)

    array = jax.ShapeDtypeStruct((512, 512), jnp.float32)
    compiled = jax.jit(double).lower(array, array).compile()
    assert matmul_operands(compiled.as_text()) == {("f32", "f32")}
