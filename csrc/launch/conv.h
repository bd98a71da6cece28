// Small things all convolution launchers need.
#pragma once

#include <cstdint>
#include <numeric>

#include "kernels/epilogue.cuh"
#include "kernels/hits.cuh"
#include "launch/registry.h"
#include "problem.h"

namespace cuconv {

inline std::int64_t volume(const std::int64_t (&size)[kSpatial]) { return size[0] * size[1] * size[2]; }

inline std::int64_t outputs_of(const ConvProblem& p) { return p.n * p.groups * p.k * volume(p.out); }
inline std::int64_t inputs_of(const ConvProblem& p) { return p.n * p.groups * p.c * volume(p.in); }
inline std::int64_t weights_of(const ConvProblem& p) { return p.groups * p.k * p.c * volume(p.filter); }

// Of one image: costs must not depend on the batch.
inline double multiply_adds(const ConvProblem& p) {
  return static_cast<double>(weights_of(p)) * static_cast<double>(volume(p.out));
}

inline HitSteps hit_steps(const ConvProblem& p) {
  HitSteps step;
  for (int axis = 0; axis < kSpatial; ++axis) {
    const std::int64_t common = std::gcd(p.stride[axis], p.dilation[axis]);
    step.tap[axis] = p.stride[axis] / common;
    step.out[axis] = p.dilation[axis] / common;
  }
  return step;
}

constexpr int accumulator_bytes(DType dtype) {
  return dtype == DType::kFloat16 || dtype == DType::kBfloat16 ? 4 : size_of(dtype);
}

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

template <typename T>
Epilogue<T> epilogue_of(const ConvArguments& args) {
  return {static_cast<const T*>(args.bias), args.bias_stride, args.activation};
}

}  // namespace cuconv
