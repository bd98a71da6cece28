// Gradient of the bias, one block per channel:
//
//   gb[k] = sum over n, z, p, q of gy[n,k,z,p,q]
//
// Floor: gy read once. Thread t sums the elements t, t + kThreads, ... of its channel, then the block adds
// its threads' sums in a fixed order: the same bits on every run and on every GPU. There are only as many
// blocks as channels, so few channels leave part of a GPU idle.
#pragma once

#include "device/numeric.cuh"
#include "device/reduce.cuh"
#include "kernels/reduce/problem.h"

namespace cuconv {

constexpr int kBiasGradThreads = 256;

template <typename T>
constexpr std::size_t kBiasGradShared = (kBiasGradThreads / kWarpSize) * sizeof(accumulator_t<T>);

template <typename T>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS(kBiasGradThreads)
    bias_grad_kernel(BiasGradProblem p, const T* gy, T* gb) {
  using Acc = accumulator_t<T>;
  auto* partial = reinterpret_cast<Acc*>(dynamic_shared());
  const std::int64_t count = p.size[0] * p.size[2] * p.size[3] * p.size[4];

  for (std::int64_t k = blockIdx.x; k < p.size[1]; k += gridDim.x) {
    Acc sum{};
    for (std::int64_t i = threadIdx.x; i < count; i += kBiasGradThreads) {
      const std::int64_t row = i / p.size[4];
      const std::int64_t plane = row / p.size[3];
      sum = add(
          sum,
          widen(gy[(plane / p.size[2]) * p.stride[0] + k * p.stride[1] + (plane % p.size[2]) * p.stride[2] +
                   (row % p.size[3]) * p.stride[3] + (i % p.size[4]) * p.stride[4]]));
    }
    sum = block_sum(sum, partial);
    if (threadIdx.x == 0) gb[k * p.gb_stride] = narrow<T>(sum);
  }
}

}  // namespace cuconv
