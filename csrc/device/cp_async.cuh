// Asynchronous copies from global to shared memory (cp.async), sm_80 and up.
//
//   cp_async<16>(tile + i, x + i, inside);   ... more copies
//   cp_async_commit();                       closes a group of them
//   cp_async_wait<1>();                      all but the last group are there, for this thread alone
//   __syncthreads();                         ... and now for the others
//
// Until then nobody may touch the bytes. A group may be empty, so that loops count groups by steps.
// Source: PTX ISA, "Data Movement and Conversion Instructions: cp.async".
#pragma once

#include <cstdint>

#include "device/platform.cuh"

namespace cuconv {

// kBytes at `global` to `shared`, both multiples of kBytes; without `copy` zeros, and `global` is not read.
// Copies of 16 bytes pass by the L1 cache.
template <int kBytes>
CUCONV_DEVICE void cp_async(void* shared, const void* global, bool copy) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16, "cp.async moves 4, 8 or 16 bytes");
#if !defined(__CUDACC__)
  emu::copy_async(shared, global, kBytes, copy);
#elif !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  const auto to = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  const auto from = __cvta_generic_to_global(global);
  const int read = copy ? kBytes : 0;
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(read) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(kBytes), "r"(read)
                 : "memory");
  }
#else
  __trap();
#endif
}

CUCONV_DEVICE void cp_async_commit() {
#if !defined(__CUDACC__)
  emu::commit_copies();
#elif !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  __trap();
#endif
}

// Waits until at most the last kPending groups of this thread are in flight.
template <int kPending>
CUCONV_DEVICE void cp_async_wait() {
  static_assert(kPending >= 0, "a number of groups");
#if !defined(__CUDACC__)
  emu::wait_for_copies(kPending);
#elif !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#else
  __trap();
#endif
}

}  // namespace cuconv
