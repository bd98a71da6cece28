// Which outputs of a convolution a position of its input takes part in, and through which taps. Of the taps,
// those that can hit position i lie stride / gcd(stride, dilation) apart, and the outputs they hit lie
// dilation / gcd(stride, dilation) apart, backwards.
#pragma once

#include "device/index.cuh"
#include "device/platform.cuh"
#include "problem.h"

namespace cuconv {

// From one pair (output, tap) that hits a position to the next, along each axis.
struct HitSteps {
  std::int64_t tap[kSpatial];
  std::int64_t out[kSpatial];
};

// The pairs that hit one position along one axis: (out - j*out_step, tap + j*tap_step) for 0 <= j < count.
struct Hits {
  std::int64_t tap;
  std::int64_t out;
  std::int64_t count;
};

CUCONV_DEVICE Hits hits_of(const ConvProblem& p, const HitSteps& step, int axis, std::int64_t position) {
  const std::int64_t padded = position + p.pad[axis];
  // The first tap that meets an output's grid, wherever that output lies.
  const std::int64_t candidates = step.tap[axis] < p.filter[axis] ? step.tap[axis] : p.filter[axis];
  std::int64_t tap = 0;
  while (tap < candidates && (padded - tap * p.dilation[axis]) % p.stride[axis] != 0) ++tap;
  if (tap == candidates) return {0, 0, 0};

  std::int64_t out = (padded - tap * p.dilation[axis]) / p.stride[axis];
  if (out >= p.out[axis]) {  // skip the taps whose outputs lie past the end
    const std::int64_t skip = (out - p.out[axis]) / step.out[axis] + 1;
    tap += skip * step.tap[axis];
    out -= skip * step.out[axis];
  }
  if (out < 0 || tap >= p.filter[axis]) return {0, 0, 0};
  const std::int64_t by_taps = (p.filter[axis] - 1 - tap) / step.tap[axis] + 1;
  const std::int64_t by_outputs = out / step.out[axis] + 1;
  return {tap, out, by_taps < by_outputs ? by_taps : by_outputs};
}

// An element of the input, and the pairs that hit it.
struct HitElement {
  std::int64_t n, group, c;
  std::int64_t in[kSpatial];
  Hits hits[kSpatial];
};

// By its flat index, with so many channels a group.
CUCONV_DEVICE HitElement hit_element(const ConvProblem& p, const HitSteps& step, std::int64_t index,
                                     std::int64_t channels) {
  HitElement at;
  for (int axis = kSpatial - 1; axis >= 0; --axis) {
    at.in[axis] = take_last(index, p.in[axis]);
    at.hits[axis] = hits_of(p, step, axis, at.in[axis]);
  }
  at.c = take_last(index, channels);
  at.group = take_last(index, p.groups);
  at.n = index;
  return at;
}

}  // namespace cuconv
