// Barriers in shared memory that count arrivals and bytes (mbarrier), sm_90 and up.
//
//   one thread:   mbarrier_init(bar, n); fence_mbarrier_init();   then __syncthreads() for the others
//   a phase       is complete after n arrivals and as many bytes of TMA copies as arrivals have announced
//   a waiter      mbarrier_wait(bar, parity): until the phase of that parity is complete. Phases count 0, 1,
//   0,
//                 ...; waiting for 1 before anything has happened returns at once.
//
// Whoever has waited sees what the arriving threads had done, and what the copies have brought.
//
// Each lane of a warp waits by itself, and may leave the wait before its neighbours. Operations that are
// sync.aligned, as those of wgmma are, need no __syncwarp between: they wait for the warp's lanes themselves.
// One lane that speaks for its warp, in an arrival say, needs one of either kind before it.
// Source: PTX ISA, "Parallel Synchronization and Communication Instructions: mbarrier".
#pragma once

#include <cstdint>

#include "device/platform.cuh"

namespace cuconv {

struct alignas(8) Mbarrier {
  std::uint64_t opaque;
};

#if defined(__CUDACC__)

CUCONV_DEVICE std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

CUCONV_DEVICE void mbarrier_init(Mbarrier* bar, std::uint32_t arrivals) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(bar)), "r"(arrivals)
               : "memory");
#else
  __trap();
#endif
}

// Makes initialisations by this thread visible to TMA copies.
CUCONV_DEVICE void fence_mbarrier_init() {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#else
  __trap();
#endif
}

CUCONV_DEVICE void mbarrier_arrive(Mbarrier* bar) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(bar)) : "memory");
#else
  __trap();
#endif
}

// Arrives, and announces bytes that copies will bring in this phase.
CUCONV_DEVICE void mbarrier_arrive_expect(Mbarrier* bar, std::uint32_t bytes) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(bar)), "r"(bytes)
               : "memory");
#else
  __trap();
#endif
}

CUCONV_DEVICE bool mbarrier_try_wait(Mbarrier* bar, std::uint32_t parity) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  std::uint32_t complete;
  asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.b32 %0, 1, 0, p; }"
               : "=r"(complete)
               : "r"(shared_address(bar)), "r"(parity)
               : "memory");
  return complete != 0;
#else
  __trap();
  return true;
#endif
}

CUCONV_DEVICE void mbarrier_wait(Mbarrier* bar, std::uint32_t parity) {
  while (!mbarrier_try_wait(bar, parity)) {
  }
}

#else

// From the start of shared memory.
CUCONV_DEVICE std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(static_cast<const std::byte*>(pointer) - dynamic_shared());
}

CUCONV_DEVICE void mbarrier_init(Mbarrier* bar, std::uint32_t arrivals) { emu::mbarrier_init(bar, arrivals); }
CUCONV_DEVICE void fence_mbarrier_init() { emu::mbarrier_fence_init(); }
CUCONV_DEVICE void mbarrier_arrive(Mbarrier* bar) { emu::mbarrier_arrive(bar, 0, "mbarrier_arrive"); }
CUCONV_DEVICE void mbarrier_arrive_expect(Mbarrier* bar, std::uint32_t bytes) {
  emu::mbarrier_arrive(bar, bytes, "mbarrier_arrive_expect");
}
CUCONV_DEVICE void mbarrier_wait(Mbarrier* bar, std::uint32_t parity,
                                 emu::Where where = emu::Where::current()) {
  emu::mbarrier_wait(bar, parity, where);
}

#endif

}  // namespace cuconv
