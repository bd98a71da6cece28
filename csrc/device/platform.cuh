// One source, two compilers: under nvcc these names are CUDA's own; under g++ they are the emulator's
// (csrc/emu), which runs the same kernels on the CPU. Kernels see no other difference.
//
//   CUCONV_GLOBAL            a kernel
//   CUCONV_DEVICE            a function of the device alone
//   CUCONV_HOST_DEVICE       a function of both
//   CUCONV_LAUNCH_BOUNDS(n)  most threads a block; one block at a time will do, so that registers are not
//                            spilled for the sake of more
//   CUCONV_LAUNCH_BOUNDS_FOR(n, b)  the same, with registers for b blocks at a time
//   CUCONV_UNROLL            unrolls the loop that follows, so that arrays indexed by it stay in registers
//   CUCONV_GRID_CONSTANT     a const parameter that is read where it lies, by a run-time index without a copy
//   threadIdx, blockIdx, blockDim, gridDim, __syncthreads(), __syncwarp(), __shfl_*_sync(): as in CUDA
//   dynamic_shared()         start of the block's dynamic shared memory, the only shared memory there is
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)

#define CUCONV_GLOBAL __global__
#define CUCONV_DEVICE __device__ __forceinline__
#define CUCONV_HOST_DEVICE __host__ __device__ __forceinline__
#define CUCONV_LAUNCH_BOUNDS(threads) __launch_bounds__(threads, 1)
#define CUCONV_LAUNCH_BOUNDS_FOR(threads, blocks) __launch_bounds__(threads, blocks)
#define CUCONV_UNROLL _Pragma("unroll")
#define CUCONV_GRID_CONSTANT __grid_constant__

namespace cuconv {

// 1024 bytes: the strictest alignment any instruction asks of shared memory.
CUCONV_DEVICE std::byte* dynamic_shared() {
  extern __shared__ __align__(1024) unsigned char cuconv_dynamic_shared[];
  return reinterpret_cast<std::byte*>(cuconv_dynamic_shared);
}

}  // namespace cuconv

#else

#include "emu/device_api.h"

#endif
