// Sizes and strides of the bias gradient. Plain data, passed to kernels by value.
#pragma once

#include <cstdint>

namespace cuconv {

// gy is (N, K, Z, P, Q); all strides are in elements.
struct BiasGradProblem {
  std::int64_t size[5];
  std::int64_t stride[5];
  std::int64_t gb_stride;
};

}  // namespace cuconv
