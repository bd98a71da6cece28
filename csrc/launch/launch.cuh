// The one way to launch a kernel, on a GPU or in emulation. Never `<<<>>>`.
//
//   launch("relu", relu_kernel<float>, {grid, block, shared_bytes}, stream, args...);
//
// Arguments are converted to the kernel's parameter types, checked limits and a failed launch throw
// cuconv::LaunchError with the kernel's name and the launch's shape.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

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

inline std::string describe(const LaunchShape& s) {
  const auto triple = [](const Extent& e) {
    return "(" + std::to_string(e.x) + ", " + std::to_string(e.y) + ", " + std::to_string(e.z) + ")";
  };
  return "grid " + triple(s.grid) + ", block " + triple(s.block) + ", " + std::to_string(s.shared_bytes) +
         " bytes of shared memory";
}

// The limits that all GPUs share, checked before sizes are narrowed to CUDA's 32 bits.
inline void check_limits(const char* name, const LaunchShape& s) {
  const auto within = [](const Extent& e, const Extent& most) {
    return e.x >= 1 && e.y >= 1 && e.z >= 1 && e.x <= most.x && e.y <= most.y && e.z <= most.z;
  };
  if (within(s.grid, {(std::int64_t{1} << 31) - 1, 65535, 65535}) && within(s.block, {1024, 1024, 64}) &&
      s.block.x * s.block.y * s.block.z <= 1024) {
    return;
  }
  throw LaunchError(std::string("cudaErrorInvalidConfiguration: invalid configuration argument in ") + name +
                    ", " + describe(s));
}

}  // namespace cuconv

#if defined(__CUDACC__)
#include "launch/launch_cuda.cuh"
#else
#include "emu/launch.h"
#endif
