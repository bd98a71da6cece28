// From a flat element number to the memory offset of each operand.
#pragma once

#include <cstdint>

#include "device/platform.cuh"
#include "kernels/activation/problem.h"

namespace cuconv {

template <int kOperands>
struct Offsets {
  std::int64_t of[kOperands];
};

// Contiguous arrays arrive here with one axis and cost no division.
template <int kOperands>
CUCONV_DEVICE Offsets<kOperands> offsets_of(const ElementwiseProblem& p, std::int64_t index) {
  static_assert(kOperands <= kMaxOperands, "an element-wise problem has strides for kMaxOperands operands");
  Offsets<kOperands> result{};
  for (int axis = p.rank - 1; axis > 0; --axis) {
    const std::int64_t rest = index / p.size[axis];
    const std::int64_t at = index - rest * p.size[axis];
    for (int i = 0; i < kOperands; ++i) result.of[i] += at * p.stride[i][axis];
    index = rest;
  }
  for (int i = 0; i < kOperands; ++i) result.of[i] += index * p.stride[i][0];
  return result;
}

}  // namespace cuconv
