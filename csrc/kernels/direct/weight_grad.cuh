// Weight gradient of a direct convolution, one block per filter element:
//
//   gw[k,c,t] = sum over n, o of gy[n,k,o] * x[n, c, o*stride - pad + t*dilation]     (x conjugated on
//   request)
//
// The outputs whose tap t reads the input proper form a box, found by two divisions an axis; the block's
// threads share it out, thread j taking its elements j, j + kThreads, ... in order, and then add up in a
// fixed order: the same bits on every run.
//
// Floor: the multiply-adds of the forward convolution. Every filter element reads its part of gy and x anew,
// from cache where the planes fit, and a thread divides thrice for each product. Few filter elements leave
// most of a GPU idle.
#pragma once

#include "device/index.cuh"
#include "device/numeric.cuh"
#include "device/reduce.cuh"
#include "problem.h"

namespace cuconv {

constexpr int kWeightGradThreads = 128;

template <typename T>
constexpr std::size_t kWeightGradShared = (kWeightGradThreads / kWarpSize) * sizeof(accumulator_t<T>);

// The outputs [first, first + count) of one axis whose tap reads the input proper.
struct OutputRange {
  std::int64_t first;
  std::int64_t count;
};

CUCONV_DEVICE OutputRange outputs_reading(const ConvProblem& p, int axis, std::int64_t tap) {
  // Outputs step through the input as taps do, `stride` apart, starting where this tap starts.
  const Taps met = taps_inside(tap * p.dilation[axis] - p.pad[axis], p.in[axis], p.out[axis], p.stride[axis]);
  return {met.first, met.last - met.first};
}

template <typename T>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS(kWeightGradThreads)
    direct_weight_grad_kernel(ConvProblem p, const T* gy, const T* x, bool conjugate, T* gw) {
  using Acc = accumulator_t<T>;
  auto* partial = reinterpret_cast<Acc*>(dynamic_shared());
  const std::int64_t elements = p.groups * p.k * p.c * p.filter[0] * p.filter[1] * p.filter[2];

  for (std::int64_t element = blockIdx.x; element < elements; element += gridDim.x) {
    std::int64_t rest = element;
    std::int64_t tap[kSpatial];
    OutputRange range[kSpatial];
    for (int axis = kSpatial - 1; axis >= 0; --axis) {
      tap[axis] = take_last(rest, p.filter[axis]);
      range[axis] = outputs_reading(p, axis, tap[axis]);
    }
    const std::int64_t c = take_last(rest, p.c);
    const std::int64_t k = take_last(rest, p.k);
    const std::int64_t group = rest;
    const T* gradients = gy + group * p.y_stride[1] + k * p.y_stride[2];
    const T* inputs = x + group * p.x_stride[1] + c * p.x_stride[2];

    Acc sum{};
    const std::int64_t count = p.n * range[0].count * range[1].count * range[2].count;
    for (std::int64_t i = threadIdx.x; i < count; i += kWeightGradThreads) {
      std::int64_t item = i;
      std::int64_t y_offset = 0;
      std::int64_t x_offset = 0;
      for (int axis = kSpatial - 1; axis >= 0; --axis) {
        const std::int64_t o = range[axis].first + take_last(item, range[axis].count);
        y_offset += o * p.y_stride[3 + axis];
        x_offset += (o * p.stride[axis] - p.pad[axis] + tap[axis] * p.dilation[axis]) * p.x_stride[3 + axis];
      }
      sum = multiply_add(widen(gradients[item * p.y_stride[0] + y_offset]),
                         conjugate_if(widen(inputs[item * p.x_stride[0] + x_offset]), conjugate), sum);
    }
    sum = block_sum(sum, partial);
    if (threadIdx.x == 0) {
      T* target = gw + group * p.w_stride[0] + k * p.w_stride[1] + c * p.w_stride[2] +
                  tap[0] * p.w_stride[3] + tap[1] * p.w_stride[4] + tap[2] * p.w_stride[5];
      *target = narrow<T>(sum);
    }
  }
}

}  // namespace cuconv
