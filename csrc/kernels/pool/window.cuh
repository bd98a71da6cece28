// The geometry all pooling kernels share: which taps of a window lie where, and what an average divides by.
//
// Along one axis, tap t of window o reads position o*stride - pad_low + t*dilation. Positions at or past
// in + pad_high exist in ceil mode only.
#pragma once

#include <cstdint>

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

// The taps [first, last) of a window along one axis read the input proper; none where first >= last.
struct Taps {
  std::int64_t start;  // position of tap 0, negative in the padding
  std::int64_t first;
  std::int64_t last;
};

// Written without `+ dilation`, which could overflow.
CUCONV_DEVICE std::int64_t taps_before(std::int64_t limit, std::int64_t start, std::int64_t window,
                                       std::int64_t dilation) {
  if (limit <= start) return 0;
  const std::int64_t fit = (limit - start - 1) / dilation + 1;
  return fit < window ? fit : window;
}

CUCONV_DEVICE Taps taps_of(const PoolProblem& p, int axis, std::int64_t out) {
  const std::int64_t start = out * p.stride[axis] - p.pad_low[axis];
  return {start, taps_before(0, start, p.window[axis], p.dilation[axis]),
          taps_before(p.in[axis], start, p.window[axis], p.dilation[axis])};
}

// What one axis contributes to the divisor of an average: its taps on the input, with count_include_pad those
// in the padding too, but never those past it, where ceil mode lets a window end.
CUCONV_DEVICE std::int64_t divisor_of(const PoolProblem& p, int axis, const Taps& taps) {
  if (!p.count_include_pad) return taps.last - taps.first;
  return taps_before(p.in[axis] + p.pad_high[axis], taps.start, p.window[axis], p.dilation[axis]);
}

}  // namespace cuconv
