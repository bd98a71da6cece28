// The CUDA half of launch/launch.cuh.
#pragma once

#include <cuda_runtime.h>

#include <string>
#include <utility>

#include "launch/launch.cuh"

namespace cuconv {

inline void check_cuda(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // the error is reported here: leave no stale one to the next caller
  throw LaunchError(std::string(cudaGetErrorName(error)) + ": " + cudaGetErrorString(error) + " in " + what);
}

template <typename... Params, typename... Args>
void launch(const char* name, void (*kernel)(Params...), const LaunchShape& shape, Stream stream,
            Args&&... args) {
  check_limits(name, shape);
  constexpr std::size_t kDefaultSharedLimit = 48 * 1024;  // above it a kernel must opt in
  if (shape.shared_bytes > kDefaultSharedLimit) {
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shape.shared_bytes)),
               std::string(name) + ", " + describe(shape));
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(shape.grid.x), static_cast<unsigned>(shape.grid.y),
                        static_cast<unsigned>(shape.grid.z));
  config.blockDim = dim3(static_cast<unsigned>(shape.block.x), static_cast<unsigned>(shape.block.y),
                         static_cast<unsigned>(shape.block.z));
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = reinterpret_cast<cudaStream_t>(stream);
  check_cuda(cudaLaunchKernelEx(&config, kernel, static_cast<Params>(std::forward<Args>(args))...),
             std::string(name) + ", " + describe(shape));
}

}  // namespace cuconv
