// The one way to launch a kernel, on a GPU or in emulation. Never `<<<>>>`.
//
//   launch("relu", relu_kernel<float>, {grid, block, shared_bytes}, stream, args...);
//
// Arguments are converted to the kernel's parameter types, checked limits and a failed launch throw
// cuconv::LaunchError with the kernel's name and the launch's shape.
#pragma once

#include <cstddef>
#include <cstdint>

#include "launch/check.h"

namespace cuconv {

struct Extent {
  std::int64_t x = 1, y = 1, z = 1;
};

struct LaunchShape {
  Extent grid;
  Extent block;
  std::size_t shared_bytes = 0;
};

using Stream = std::uintptr_t;  // a cudaStream_t as CuPy hands it over; ignored in emulation

}  // namespace cuconv

#if defined(__CUDACC__)
#include "launch/launch_cuda.cuh"
#else
#include "emu/launch.h"
#endif
