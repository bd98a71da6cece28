// The CUDA names that kernels use, for g++: the host side of device/platform.cuh.
//
// A kernel runs as one fiber per CUDA thread (emu/block.h). Only what shipped kernels use is here.
#pragma once

#include <math.h>  // the C header, because CUDA has fmaf, isnan and the like without std::

#include <bit>
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <type_traits>

#define CUCONV_GLOBAL __attribute__((noinline))
// Inlined always, as under nvcc; a shared out-of-line copy could also come from a file compiled without the
// checks.
#define CUCONV_DEVICE inline __attribute__((always_inline))
#define CUCONV_HOST_DEVICE inline __attribute__((always_inline))
#define CUCONV_LAUNCH_BOUNDS(threads)
#define CUCONV_LAUNCH_BOUNDS_FOR(threads, blocks)
#define CUCONV_UNROLL
#define CUCONV_GRID_CONSTANT
#define __shared__ static_assert(false, "shared memory is what dynamic_shared() returns, nothing else");

// For the few variables read all the time: a fixed offset from the thread's own register, no call (which made
// kernels 1.5 times slower). The dynamic linker has little room for a library that has such variables, and
// all its thread-local ones count: what is large goes on the heap.
#define CUCONV_EMU_THREAD_LOCAL constinit thread_local __attribute__((tls_model("initial-exec")))

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};

extern CUCONV_EMU_THREAD_LOCAL dim3 threadIdx;
extern CUCONV_EMU_THREAD_LOCAL dim3 blockIdx;
extern CUCONV_EMU_THREAD_LOCAL dim3 blockDim;
extern CUCONV_EMU_THREAD_LOCAL dim3 gridDim;

namespace cuconv::emu {

using Where = std::source_location;

constexpr int kLanes = 32;

// What every lane of the calling thread's warp brought to one warp-wide operation.
struct WarpValues {
  const std::uint64_t* of_lane;
  int lane;  // the caller's
};

void wait_for_block(Where where);
WarpValues wait_for_warp(unsigned mask, std::uint64_t value, const char* operation, Where where);

extern CUCONV_EMU_THREAD_LOCAL std::byte* shared_memory;

// Behind device/cp_async.cuh: asynchronous copies of the calling thread. Without `copy`, zeros.
void copy_async(void* shared, const void* global, int bytes, bool copy);
void commit_copies();
void wait_for_copies(int pending_groups);

// Behind device/mma_sm75.cuh and device/mma_sm80.cuh: what a whole warp does together.
void load_matrices(std::uint32_t* registers, const void* shared_row, Where where);
void load_matrices_transposed(std::uint32_t* registers, const void* shared_row, Where where);
void multiply_half_k8(float* sum, const std::uint32_t* a, const std::uint32_t* b, Where where);
void multiply_half_k16(float* sum, const std::uint32_t* a, const std::uint32_t* b, Where where);
void multiply_bfloat16_k16(float* sum, const std::uint32_t* a, const std::uint32_t* b, Where where);
void multiply_tf32_k8(float* sum, const std::uint32_t* a, const std::uint32_t* b, Where where);

// Behind device/mbarrier_sm90.cuh, tma_sm90.cuh and wgmma_sm90.cuh.
void mbarrier_init(void* mbarrier, unsigned count);
void mbarrier_fence_init();
void mbarrier_arrive(void* mbarrier, unsigned expected_bytes, const char* operation);
void mbarrier_wait(void* mbarrier, unsigned parity, Where where);
void tma_load_tile(void* shared, const void* map, void* mbarrier, const int* at, int rank);
void tma_load_im2col(void* shared, const void* map, void* mbarrier, const int* at,
                     const std::uint16_t* offset, int rank);
void wgmma_half(float* sum, std::uint64_t a, std::uint64_t b, int n, bool accumulate, bool a_by_k,
                bool b_by_k, Where where);
void wgmma_bfloat16(float* sum, std::uint64_t a, std::uint64_t b, int n, bool accumulate, bool a_by_k,
                    bool b_by_k, Where where);
void wgmma_tf32(float* sum, std::uint64_t a, std::uint64_t b, int n, bool accumulate, Where where);
void wgmma_fence(Where where);
void wgmma_commit(Where where);
void wgmma_wait(int pending_groups, Where where);
void warpgroup_registers(Where where);

// One __shfl_*_sync. As in CUDA, a source outside the caller's group of `width` lanes gives the caller's own
// value.
template <typename T, typename Source>
T shuffle(unsigned mask, T value, int width, const char* operation, Where where, Source source) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8),
                "shuffles move arithmetic types of 4 or 8 bytes");
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  const WarpValues values = wait_for_warp(mask, std::bit_cast<Bits>(value), operation, where);
  const int group = values.lane / width * width;
  const int from = source(values.lane - group);
  if (from < 0 || from >= width) return value;
  return std::bit_cast<T>(static_cast<Bits>(values.of_lane[group + from]));
}

}  // namespace cuconv::emu

inline void __syncthreads(cuconv::emu::Where where = cuconv::emu::Where::current()) {
  cuconv::emu::wait_for_block(where);
}

inline void __syncwarp(unsigned mask = 0xffffffffu,
                       cuconv::emu::Where where = cuconv::emu::Where::current()) {
  cuconv::emu::wait_for_warp(mask, 0, "__syncwarp", where);
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32,
              cuconv::emu::Where where = cuconv::emu::Where::current()) {
  return cuconv::emu::shuffle(mask, value, width, "__shfl_sync", where,
                              [=](int) { return lane & (width - 1); });
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   cuconv::emu::Where where = cuconv::emu::Where::current()) {
  return cuconv::emu::shuffle(mask, value, width, "__shfl_down_sync", where,
                              [=](int own) { return own + static_cast<int>(delta); });
}

template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 cuconv::emu::Where where = cuconv::emu::Where::current()) {
  return cuconv::emu::shuffle(mask, value, width, "__shfl_up_sync", where,
                              [=](int own) { return own - static_cast<int>(delta); });
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32,
                  cuconv::emu::Where where = cuconv::emu::Where::current()) {
  return cuconv::emu::shuffle(mask, value, width, "__shfl_xor_sync", where,
                              [=](int own) { return own ^ lanes; });
}

namespace cuconv {

inline std::byte* dynamic_shared() { return emu::shared_memory; }

}  // namespace cuconv
