// The geometry all pooling kernels share: which taps of a window lie where, and what an average divides by.
//
// Along one axis, tap t of window o reads position o*stride - pad_low + t*dilation. Positions at or past
// in + pad_high exist in ceil mode only.
#pragma once

#include <cstdint>

#include "device/index.cuh"
#include "device/platform.cuh"
#include "problem.h"

namespace cuconv {

constexpr int kPoolThreads = 256;

// Where an element stands in a tensor (N, C, D, H, W).
struct Coordinate {
  std::int64_t n, c, at[kSpatial];
};

CUCONV_DEVICE Coordinate unflatten(std::int64_t index, std::int64_t channels, const std::int64_t* size) {
  Coordinate result;
  for (int axis = kSpatial - 1; axis >= 0; --axis) {
    result.at[axis] = index % size[axis];
    index /= size[axis];
  }
  result.c = index % channels;
  result.n = index / channels;
  return result;
}

CUCONV_DEVICE std::int64_t offset_of(const Coordinate& i, const std::int64_t* stride) {
  return i.n * stride[0] + i.c * stride[1] + i.at[0] * stride[2] + i.at[1] * stride[3] + i.at[2] * stride[4];
}

CUCONV_DEVICE Taps taps_of(const PoolProblem& p, int axis, std::int64_t out) {
  return taps_inside(out * p.stride[axis] - p.pad_low[axis], p.in[axis], p.window[axis], p.dilation[axis]);
}

// The taps of one window, along all axes, and the plane they read.
template <typename T>
struct Window {
  Coordinate out;
  const T* plane;
  Taps d, h, w;
};

// The window of the i-th output.
template <typename T>
CUCONV_DEVICE Window<T> window_of(const PoolProblem& p, const T* x, std::int64_t i) {
  const Coordinate out = unflatten(i, p.c, p.out);
  return {out, x + out.n * p.x_stride[0] + out.c * p.x_stride[1], taps_of(p, 0, out.at[0]),
          taps_of(p, 1, out.at[1]), taps_of(p, 2, out.at[2])};
}

// What one axis contributes to the divisor of an average: its taps on the input, with count_include_pad those
// in the padding too, but never those past it, where ceil mode lets a window end.
CUCONV_DEVICE std::int64_t divisor_of(const PoolProblem& p, int axis, const Taps& taps) {
  if (!p.count_include_pad) return taps.last - taps.first;
  return taps_before(p.in[axis] + p.pad_high[axis], taps.start, p.window[axis], p.dilation[axis]);
}

}  // namespace cuconv
