// Asynchronous products of a warpgroup on tensor cores (wgmma), sm_90a alone.
//
//   wgmma_fence();                          the sums are the warpgroup's registers no longer
//   wgmma_m64n128(sum, a, b, T{}, true);    sum += A B: 32 bytes of k; more of them
//   wgmma_commit();                         closes a group
//   wgmma_wait<1>();                        all groups but the last are done with shared memory
//   wgmma_wait(sum);                        all are done, and the sums are there
//
// All by the 128 threads of a warpgroup. Until the last wait nobody may touch the sums, nor write to A and B.
// A is 64 rows, B 128 columns, both in shared memory with k innermost (B by k: wgmma_m64n128_by_k; both by k:
// wgmma_m64n128_both_by_k), in lines of 128 bytes that TMA has swizzled. Thread 32w + 4g + t holds, in
// sum[4j] to sum[4j + 3], columns 8j + 2t and 8j + 2t + 1 of row 16w + g, then of row 16w + g + 8. Source:
// PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions".
#pragma once

#include <cstdint>

#include "device/mbarrier_sm90.cuh"
#include "device/numeric.cuh"
#include "device/platform.cuh"

namespace cuconv {

constexpr int kWarpgroupThreads = 128;

// Of a matrix whose rows are 128 bytes, at a multiple of 1024. kWgmmaStep more is the same 32 bytes further
// along k, within the line.
constexpr std::uint64_t kWgmmaStep = 32 / 16;
constexpr std::uint64_t kWgmma64Rows = 64 * 128 / 16;  // the same, 64 rows on

CUCONV_DEVICE std::uint64_t wgmma_descriptor(const void* shared) {
  constexpr std::uint64_t kUnit = 16;            // bytes
  constexpr std::uint64_t kEightRows = 8 * 128;  // bytes from eight rows to the next
  constexpr std::uint64_t kSwizzle128 = 1;
  constexpr std::uint64_t kUnused = 1;  // the other step, which swizzled lines do not have
  return (shared_address(shared) / kUnit & 0x3fff) | kUnused << 16 | kEightRows / kUnit << 32 |
         kSwizzle128 << 62;
}

// Of a B that lies by k, 64 of its columns a line of 128 bytes: 64 k of the first columns, at a multiple of
// 1024, and then 64 k of the others; or of an A, whose rows are one line. kWgmmaStepByK more is the same 16 k
// further.
CUCONV_DEVICE std::uint64_t wgmma_descriptor_by_k(const void* shared) {
  constexpr std::uint64_t kUnit = 16;
  constexpr std::uint64_t kColumns64 = 64 * 128;
  constexpr std::uint64_t kEightLines = 8 * 128;
  constexpr std::uint64_t kSwizzle128 = 1;
  return (shared_address(shared) / kUnit & 0x3fff) | kColumns64 / kUnit << 16 | kEightLines / kUnit << 32 |
         kSwizzle128 << 62;
}
constexpr std::uint64_t kWgmmaStepByK = 16 * 128 / 16;

#if defined(__CUDACC__)

#if defined(__CUDA_ARCH_FEAT_SM90_ALL) || !defined(__CUDA_ARCH__)
#define CUCONV_HAS_WGMMA 1
#endif

CUCONV_DEVICE void wgmma_fence() {
#if defined(CUCONV_HAS_WGMMA)
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#else
  __trap();
#endif
}

CUCONV_DEVICE void wgmma_commit() {
#if defined(CUCONV_HAS_WGMMA)
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#else
  __trap();
#endif
}

// Until at most the last kPending groups of this warpgroup are under way.
template <int kPending>
CUCONV_DEVICE void wgmma_wait() {
#if defined(CUCONV_HAS_WGMMA)
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
#else
  __trap();
#endif
}

// clang-format off
#define CUCONV_SUMS_4(i) "+f"(sum[i]), "+f"(sum[i + 1]), "+f"(sum[i + 2]), "+f"(sum[i + 3])
#define CUCONV_SUMS_16(i) CUCONV_SUMS_4(i), CUCONV_SUMS_4(i + 4), CUCONV_SUMS_4(i + 8), CUCONV_SUMS_4(i + 12)
#define CUCONV_SUMS_64 CUCONV_SUMS_16(0), CUCONV_SUMS_16(16), CUCONV_SUMS_16(32), CUCONV_SUMS_16(48)
#define CUCONV_REGISTERS_64 \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}"
// clang-format on

// Until all are done. Names the sums, so that no use of them can move before.
CUCONV_DEVICE void wgmma_wait(float (&sum)[64]) {
#if defined(CUCONV_HAS_WGMMA)
  asm volatile("wgmma.wait_group.sync.aligned 0;" : CUCONV_SUMS_64 : : "memory");
#else
  __trap();
#endif
}

// sum = A B, or sum += A B with `accumulate`. The last operands of the instruction: both with their own sign,
// and (of 16 bits) whether A and B lie by k instead of with k innermost.
#define CUCONV_WGMMA(shape_and_types, signs)                                                                \
  asm volatile(                                                                                             \
      "{ .reg .pred p; setp.ne.b32 p, %66, 0; "                                                             \
      "wgmma.mma_async.sync.aligned." shape_and_types " " CUCONV_REGISTERS_64 ", %64, %65, p, " signs "; }" \
      : CUCONV_SUMS_64                                                                                      \
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)))

CUCONV_DEVICE void wgmma_m64n128(float (&sum)[64], std::uint64_t a, std::uint64_t b, half_t,
                                 bool accumulate) {
#if defined(CUCONV_HAS_WGMMA)
  CUCONV_WGMMA("m64n128k16.f32.f16.f16", "1, 1, 0, 0");
#else
  __trap();
#endif
}

CUCONV_DEVICE void wgmma_m64n128_by_k(float (&sum)[64], std::uint64_t a, std::uint64_t b, half_t,
                                      bool accumulate) {
#if defined(CUCONV_HAS_WGMMA)
  CUCONV_WGMMA("m64n128k16.f32.f16.f16", "1, 1, 0, 1");
#else
  __trap();
#endif
}

CUCONV_DEVICE void wgmma_m64n128_both_by_k(float (&sum)[64], std::uint64_t a, std::uint64_t b, half_t,
                                           bool accumulate) {
#if defined(CUCONV_HAS_WGMMA)
  CUCONV_WGMMA("m64n128k16.f32.f16.f16", "1, 1, 1, 1");
#else
  __trap();
#endif
}

CUCONV_DEVICE void wgmma_m64n128(float (&sum)[64], std::uint64_t a, std::uint64_t b, bfloat16_t,
                                 bool accumulate) {
#if defined(CUCONV_HAS_WGMMA)
  CUCONV_WGMMA("m64n128k16.f32.bf16.bf16", "1, 1, 0, 0");
#else
  __trap();
#endif
}

CUCONV_DEVICE void wgmma_m64n128_by_k(float (&sum)[64], std::uint64_t a, std::uint64_t b, bfloat16_t,
                                      bool accumulate) {
#if defined(CUCONV_HAS_WGMMA)
  CUCONV_WGMMA("m64n128k16.f32.bf16.bf16", "1, 1, 0, 1");
#else
  __trap();
#endif
}

CUCONV_DEVICE void wgmma_m64n128_both_by_k(float (&sum)[64], std::uint64_t a, std::uint64_t b, bfloat16_t,
                                           bool accumulate) {
#if defined(CUCONV_HAS_WGMMA)
  CUCONV_WGMMA("m64n128k16.f32.bf16.bf16", "1, 1, 1, 1");
#else
  __trap();
#endif
}

// Of tf32: the lower bits of float's mantissa are ignored.
CUCONV_DEVICE void wgmma_m64n128(float (&sum)[64], std::uint64_t a, std::uint64_t b, float, bool accumulate) {
#if defined(CUCONV_HAS_WGMMA)
  CUCONV_WGMMA("m64n128k8.f32.tf32.tf32", "1, 1");
#else
  __trap();
#endif
}

#undef CUCONV_WGMMA
#undef CUCONV_REGISTERS_64
#undef CUCONV_SUMS_64
#undef CUCONV_SUMS_16
#undef CUCONV_SUMS_4

// Registers that each thread of the warpgroup has from now on: fewer, so that another warpgroup can have
// more.
template <int kRegisters>
CUCONV_DEVICE void release_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256,
                "multiples of 8 from 24 to 256");
#if defined(CUCONV_HAS_WGMMA)
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
#else
  __trap();
#endif
}

template <int kRegisters>
CUCONV_DEVICE void claim_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256,
                "multiples of 8 from 24 to 256");
#if defined(CUCONV_HAS_WGMMA)
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
#else
  __trap();
#endif
}

#else

CUCONV_DEVICE void wgmma_fence(emu::Where where = emu::Where::current()) { emu::wgmma_fence(where); }
CUCONV_DEVICE void wgmma_commit(emu::Where where = emu::Where::current()) { emu::wgmma_commit(where); }

template <int kPending>
CUCONV_DEVICE void wgmma_wait(emu::Where where = emu::Where::current()) {
  emu::wgmma_wait(kPending, where);
}
CUCONV_DEVICE void wgmma_wait(float (&)[64], emu::Where where = emu::Where::current()) {
  emu::wgmma_wait(0, where);
}

CUCONV_DEVICE void wgmma_m64n128(float (&sum)[64], std::uint64_t a, std::uint64_t b, half_t, bool accumulate,
                                 emu::Where where = emu::Where::current()) {
  emu::wgmma_half(sum, a, b, 128, accumulate, false, false, where);
}
CUCONV_DEVICE void wgmma_m64n128_by_k(float (&sum)[64], std::uint64_t a, std::uint64_t b, half_t,
                                      bool accumulate, emu::Where where = emu::Where::current()) {
  emu::wgmma_half(sum, a, b, 128, accumulate, false, true, where);
}
CUCONV_DEVICE void wgmma_m64n128_both_by_k(float (&sum)[64], std::uint64_t a, std::uint64_t b, half_t,
                                           bool accumulate, emu::Where where = emu::Where::current()) {
  emu::wgmma_half(sum, a, b, 128, accumulate, true, true, where);
}
CUCONV_DEVICE void wgmma_m64n128(float (&sum)[64], std::uint64_t a, std::uint64_t b, bfloat16_t,
                                 bool accumulate, emu::Where where = emu::Where::current()) {
  emu::wgmma_bfloat16(sum, a, b, 128, accumulate, false, false, where);
}
CUCONV_DEVICE void wgmma_m64n128_by_k(float (&sum)[64], std::uint64_t a, std::uint64_t b, bfloat16_t,
                                      bool accumulate, emu::Where where = emu::Where::current()) {
  emu::wgmma_bfloat16(sum, a, b, 128, accumulate, false, true, where);
}
CUCONV_DEVICE void wgmma_m64n128_both_by_k(float (&sum)[64], std::uint64_t a, std::uint64_t b, bfloat16_t,
                                           bool accumulate, emu::Where where = emu::Where::current()) {
  emu::wgmma_bfloat16(sum, a, b, 128, accumulate, true, true, where);
}
CUCONV_DEVICE void wgmma_m64n128(float (&sum)[64], std::uint64_t a, std::uint64_t b, float, bool accumulate,
                                 emu::Where where = emu::Where::current()) {
  emu::wgmma_tf32(sum, a, b, 128, accumulate, where);
}

template <int kRegisters>
CUCONV_DEVICE void release_registers(emu::Where where = emu::Where::current()) {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256,
                "multiples of 8 from 24 to 256");
  emu::warpgroup_registers(where);
}

template <int kRegisters>
CUCONV_DEVICE void claim_registers(emu::Where where = emu::Where::current()) {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256,
                "multiples of 8 from 24 to 256");
  emu::warpgroup_registers(where);
}

#endif

}  // namespace cuconv
