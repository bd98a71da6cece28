// Input gradient of a direct convolution, one thread per element of gx:
//
//   gx[n,c,i] = act(bias[c] + sum over k and the pairs (o, t) with o*stride - pad + t*dilation = i
//                   of gy[n,k,o] * w[k,c,t])
//
// (w conjugated on request; bias and activation because transposed convolution is this sum). Of the taps,
// those that can hit position i lie stride / gcd(stride, dilation) apart, and the outputs they hit lie
// dilation / gcd(stride, dilation) apart, backwards. The kernel finds the first pair along each axis and then
// steps from hit to hit: no zeros between the outputs are ever multiplied, and nothing is scattered.
//
// Floor: the multiply-adds of the forward convolution. Like direct/naive.cuh it is bound by its loads.
#pragma once

#include "device/grid.cuh"
#include "device/index.cuh"
#include "device/numeric.cuh"
#include "kernels/direct/naive.cuh"
#include "kernels/epilogue.cuh"
#include "kernels/hits.cuh"
#include "problem.h"

namespace cuconv {

template <typename T>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS(kDirectThreads)
    direct_input_grad_kernel(ConvProblem p, HitSteps step, const T* gy, const T* w, bool conjugate,
                             Epilogue<T> epilogue, T* gx) {
  using Acc = accumulator_t<T>;
  const std::int64_t count = p.n * p.groups * p.c * p.in[0] * p.in[1] * p.in[2];

  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    const auto [n, group, c, in, hits] = hit_element(p, step, i, p.c);

    // From hit to hit along the columns, in memory; where there are not two, a step can be anything.
    const bool steps = hits[2].count > 1;
    const std::int64_t y_step = steps ? -step.out[2] * p.y_stride[5] : 0;
    const std::int64_t w_step = steps ? step.tap[2] * p.w_stride[5] : 0;
    const T* images = gy + n * p.y_stride[0] + group * p.y_stride[1] + hits[2].out * p.y_stride[5];
    const T* filters = w + group * p.w_stride[0] + c * p.w_stride[2] + hits[2].tap * p.w_stride[5];

    Acc sum{};
    for (std::int64_t k = 0; k < p.k; ++k) {
      for (std::int64_t a = 0; a < hits[0].count; ++a) {
        for (std::int64_t b = 0; b < hits[1].count; ++b) {
          const T* value = images + k * p.y_stride[2] + (hits[0].out - a * step.out[0]) * p.y_stride[3] +
                           (hits[1].out - b * step.out[1]) * p.y_stride[4];
          const T* weight = filters + k * p.w_stride[1] + (hits[0].tap + a * step.tap[0]) * p.w_stride[3] +
                            (hits[1].tap + b * step.tap[1]) * p.w_stride[4];
          for (std::int64_t j = 0; j < hits[2].count; ++j, value += y_step, weight += w_step) {
            sum = multiply_add(widen(*value), conjugate_if(widen(*weight), conjugate), sum);
          }
        }
      }
    }
    T* target = gx + n * p.x_stride[0] + group * p.x_stride[1] + c * p.x_stride[2] + in[0] * p.x_stride[3] +
                in[1] * p.x_stride[4] + in[2] * p.x_stride[5];
    *target = epilogue(sum, group * p.c + c);
  }
}

}  // namespace cuconv
