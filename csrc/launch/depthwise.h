// What the launchers of depthwise convolution share: axes without dilation, who runs what.
#pragma once

#include <cstdint>
#include <numeric>

#include "kernels/direct/tap_axis.cuh"
#include "launch/registry.h"
#include "problem.h"

namespace cuconv {

inline TapAxis tap_axis_of(const ConvProblem& p, int axis) {
  // With one tap its distance to the next means nothing; with one output, neither does the stride.
  const std::int64_t unit = p.filter[axis] > 1 ? p.dilation[axis] : 1;
  const std::int64_t stride = p.out[axis] > 1 ? p.stride[axis] : unit;
  const std::int64_t common = std::gcd(stride, unit);
  const std::int64_t apart = unit / common;
  return {apart < p.out[axis] ? apart : (p.out[axis] > 1 ? p.out[axis] : 1), unit, stride / common};
}

// Neighbours in memory are channels of one group each: direct/depthwise_channels.cuh takes it.
inline bool has_channels_innermost(const ConvProblem& p) {
  return p.c == 1 && p.groups > 1 && p.x_stride[1] == 1 && p.x_stride[5] != 1;
}

// Forward convolutions with outputs, by the kernel for the layout that x has.
void run_depthwise_channels(const ConvProblem& p, const ConvArguments& args);
template <typename Tile>
void run_depthwise_rows(const ConvProblem& p, const ConvArguments& args);

// Why tiles of planes cannot do p; empty if they can.
template <typename Tile>
std::string refuse_depthwise_rows(const ConvProblem& p, DType dtype);

// What tiles of planes do for one image.
struct DepthwiseWork {
  double multiply_adds;  // with those past the edges of threads' outputs
  double fetched;        // elements to shared memory
};
template <typename Tile>
DepthwiseWork depthwise_rows_work(const ConvProblem& p, DType dtype);

}  // namespace cuconv
