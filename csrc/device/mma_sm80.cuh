// Tensor-core instructions of sm_80 and up: products of float16, bfloat16 and tf32, summed in float.
//
// All are done by a whole warp, on fragments as in device/mma_sm75.cuh, which has the older instructions:
//   mma_m16n8k16      a[0], a[1]: rows g, g + 8 of columns 2t, 2t + 1;  a[2], a[3]: the same of columns + 8
//                     b[0], b[1]: rows 2t, 2t + 1 and those + 8 of column g
//   mma_m16n8k8_tf32  a[0], a[1]: rows g, g + 8 of column t;  a[2], a[3]: the same of column t + 4
//                     b[0], b[1]: rows t, t + 4 of column g
// Source: PTX ISA, "Warp-level matrix instructions: mma".
#pragma once

#include <cstdint>

#include "device/mma_sm75.cuh"
#include "device/numeric.cuh"
#include "device/platform.cuh"

namespace cuconv {

// round_to_tf32 gives the nearest number of tf32 (float's exponent, 10 bits of mantissa), ties away from
// zero, as the bits of the float with the same value. The mma itself would cut the lower bits off.

#if defined(__CUDACC__)

CUCONV_DEVICE void mma_m16n8k16(float (&sum)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                                half_t) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  __trap();
#endif
}

CUCONV_DEVICE void mma_m16n8k16(float (&sum)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                                bfloat16_t) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  __trap();
#endif
}

CUCONV_DEVICE void mma_m16n8k8_tf32(float (&sum)[4], const std::uint32_t (&a)[4],
                                    const std::uint32_t (&b)[2]) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  __trap();
#endif
}

CUCONV_DEVICE std::uint32_t round_to_tf32(float value) {
  std::uint32_t bits = 0;
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
#else
  __trap();
#endif
  return bits;
}

#else

CUCONV_DEVICE void mma_m16n8k16(float (&sum)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                                half_t, emu::Where where = emu::Where::current()) {
  emu::multiply_half_k16(sum, a, b, where);
}

CUCONV_DEVICE void mma_m16n8k16(float (&sum)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                                bfloat16_t, emu::Where where = emu::Where::current()) {
  emu::multiply_bfloat16_k16(sum, a, b, where);
}

CUCONV_DEVICE void mma_m16n8k8_tf32(float (&sum)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                                    emu::Where where = emu::Where::current()) {
  emu::multiply_tf32_k8(sum, a, b, where);
}

CUCONV_DEVICE std::uint32_t round_to_tf32(float value) {
  constexpr std::uint32_t kHalfUlp = 1 << 12;
  constexpr std::uint32_t kDropped = 2 * kHalfUlp - 1;
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (value != value) return (bits | 0x00400000) & ~kDropped;  // keep NaN a NaN
  return (bits + kHalfUlp) & ~kDropped;
}

#endif

}  // namespace cuconv
