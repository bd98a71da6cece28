// The input gradient at stride 1 as a forward convolution of gy: x(n, c) and y(n, k) change places, and the
// filter runs backwards. It moves nothing but strides, so every forward launcher has an input gradient.
#pragma once

#include <algorithm>
#include <string>
#include <utility>

#include "launch/registry.h"
#include "problem.h"

namespace cuconv {

inline ConvProblem adjoint(const ConvProblem& p) {
  ConvProblem q = p;
  std::swap(q.c, q.k);
  for (int axis = 0; axis < kSpatial; ++axis) {
    q.in[axis] = p.out[axis];
    q.out[axis] = p.in[axis];
    q.pad[axis] = p.dilation[axis] * (p.filter[axis] - 1) - p.pad[axis];
    q.w_stride[3 + axis] = -p.w_stride[3 + axis];
  }
  std::swap(q.w_stride[1], q.w_stride[2]);
  std::copy(std::begin(p.y_stride), std::end(p.y_stride), std::begin(q.x_stride));
  std::copy(std::begin(p.x_stride), std::end(p.x_stride), std::begin(q.y_stride));
  return q;
}

template <typename Forward>
struct Adjoint {
  static Suitability suits(const ConvProblem& p, const ConvRequest& request) {
    for (int axis = 0; axis < kSpatial; ++axis) {
      if (p.stride[axis] != 1) return {"it takes stride 1, not " + std::to_string(p.stride[axis]), 0, 0};
    }
    return Forward::suits(adjoint(p), request);
  }

  static void run(const ConvProblem& p, const ConvArguments& args) {
    ConvArguments reversed = args;
    // The adjoint's first tap is the filter's last.
    std::int64_t last = 0;
    for (int axis = 0; axis < kSpatial; ++axis) last += (p.filter[axis] - 1) * p.w_stride[3 + axis];
    reversed.b = static_cast<const char*>(args.b) + last * size_of(args.request.dtype);
    Forward::run(adjoint(p), reversed);
  }
};

}  // namespace cuconv
