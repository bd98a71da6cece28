// Tensor-core instructions of sm_75 and up: fragments from shared memory, and products of float16.
//
// All are done by a whole warp. Lane 4g + t of it holds, in every register of a fragment, the elements 2t and
// 2t + 1 (low half first) of row g of a matrix of 8 by 8; of column g for the right operand B.
// Source: PTX ISA, "Warp-level matrix instructions: ldmatrix, mma".
#pragma once

#include <cstdint>

#include "device/numeric.cuh"
#include "device/platform.cuh"

namespace cuconv {

// ldmatrix_x4        four matrices of 8 by 8 elements of 16 bits: lane i gives the address, a multiple of 16,
//                    of row i % 8 of matrix i / 8 in shared memory; r[m] becomes the lane's part of matrix m
// ldmatrix_x4_trans  the same, with every matrix transposed
// mma_m16n8k8        sum += A B; a[0] and a[1] are of rows g and g + 8 of A; sum[0] and sum[1] are columns
//                    2t and 2t + 1 of row g, sum[2] and sum[3] those of row g + 8

#if defined(__CUDACC__)

CUCONV_DEVICE void ldmatrix_x4(std::uint32_t (&r)[4], const void* shared_row) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 750
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(shared_row)))
               : "memory");
#else
  __trap();
#endif
}

CUCONV_DEVICE void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* shared_row) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 750
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(shared_row)))
               : "memory");
#else
  __trap();
#endif
}

CUCONV_DEVICE void mma_m16n8k8(float (&sum)[4], const std::uint32_t (&a)[2], const std::uint32_t (&b)[1],
                               half_t) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 750
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(b[0]));
#else
  __trap();
#endif
}

#else

CUCONV_DEVICE void ldmatrix_x4(std::uint32_t (&r)[4], const void* shared_row,
                               emu::Where where = emu::Where::current()) {
  emu::load_matrices(r, shared_row, where);
}

CUCONV_DEVICE void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* shared_row,
                                     emu::Where where = emu::Where::current()) {
  emu::load_matrices_transposed(r, shared_row, where);
}

CUCONV_DEVICE void mma_m16n8k8(float (&sum)[4], const std::uint32_t (&a)[2], const std::uint32_t (&b)[1],
                               half_t, emu::Where where = emu::Where::current()) {
  emu::multiply_half_k8(sum, a, b, where);
}

#endif

}  // namespace cuconv
