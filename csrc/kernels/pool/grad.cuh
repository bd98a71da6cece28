// What the gradients of pooling that know the windows share: which windows hold a position, and what a window
// gives back.
//
//   maxima     gx[n,c,i] = sum of gy[n,c,o] over the windows o that hold i with indices[n,c,o] == i
//   averages   gx[n,c,i] = sum of gy[n,c,o] / divisor(o) over the windows o that hold i
//
// The windows over a position are a box of outputs, so there is nothing to scatter. Sums run over the outputs
// in their order: the bits of max_pool_grad.cuh and avg_pool.cuh, which do not know the windows or take any
// strides. All positions of the tensors fit 31 bits.
#pragma once

#include <cstdint>

#include "kernels/pool/reduction.cuh"

namespace cuconv {

// Of the windows along each axis.
struct WindowSteps {
  FastDivisor stride[kSpatial];
};

// The windows [first, last) along one axis that hold a position. Between the taps of dilated windows, those
// whose reach holds it: there no index names it.
struct SmallWindows {
  std::int32_t first, last;
};

CUCONV_DEVICE SmallWindows small_windows(const PoolProblem& p, const WindowSteps& steps, int axis,
                                         std::int32_t position) {
  const std::int32_t padded = position + static_cast<std::int32_t>(p.pad_low[axis]);
  const std::int32_t before = padded - static_cast<std::int32_t>((p.window[axis] - 1) * p.dilation[axis]) - 1;
  const auto by_stride = [&](std::int32_t value) {
    return static_cast<std::int32_t>(steps.stride[axis].divide(static_cast<std::uint32_t>(value)));
  };
  const auto outputs = static_cast<std::int32_t>(p.out[axis]);
  const std::int32_t last = by_stride(padded) + 1;
  return {before < 0 ? 0 : by_stride(before) + 1, last < outputs ? last : outputs};
}

// The divisor of an average along one axis.
CUCONV_DEVICE std::int32_t small_divisor(const PoolProblem& p, int axis, std::int32_t out) {
  return small_divisor(p, axis, small_taps(p, axis, out));
}

}  // namespace cuconv
