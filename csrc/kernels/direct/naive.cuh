// Direct convolution by its definition, one thread per output:
//
//   y[n,k,o] = act(bias[k] + sum over c, t of x[n, c, o*stride - pad + t*dilation] * w[k,c,t])
//
// Everything legal in one to three dimensions: any strides, groups, dilation, padding. The taps that read
// padding are cut off beforehand, so they cost nothing and a weight that is not finite meets no zero there.
// A sum runs over the channels, for each over the taps in order: the same bits whatever the grid.
//
// Floor: n*k*out*c*taps multiply-adds. This kernel loads two elements for each of them, mostly from the L1
// cache, and so is bound by load instructions; direct/tiled.cuh shares its loads.
#pragma once

#include "device/grid.cuh"
#include "device/index.cuh"
#include "device/numeric.cuh"
#include "kernels/epilogue.cuh"
#include "problem.h"

namespace cuconv {

constexpr int kDirectThreads = 256;

template <typename T>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS(kDirectThreads)
    direct_naive_kernel(ConvProblem p, const T* x, const T* w, Epilogue<T> epilogue, T* y) {
  using Acc = accumulator_t<T>;
  const std::int64_t count = p.n * p.groups * p.k * p.out[0] * p.out[1] * p.out[2];

  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    std::int64_t rest = i;
    std::int64_t out[kSpatial];
    Taps taps[kSpatial];
    for (int axis = kSpatial - 1; axis >= 0; --axis) {
      out[axis] = take_last(rest, p.out[axis]);
      taps[axis] =
          taps_inside(out[axis] * p.stride[axis] - p.pad[axis], p.in[axis], p.filter[axis], p.dilation[axis]);
    }
    const std::int64_t k = take_last(rest, p.k);
    const std::int64_t group = take_last(rest, p.groups);
    const std::int64_t n = rest;

    // From tap to tap along the columns, in memory. Of what reads padding alone no address may be formed:
    // its position can be anything up to 2^63.
    const std::int64_t columns = taps[2].last - taps[2].first;
    const std::int64_t column = columns > 0 ? taps[2].start + taps[2].first * p.dilation[2] : 0;
    const std::int64_t x_step = columns > 1 ? p.dilation[2] * p.x_stride[5] : 0;
    const T* images = x + n * p.x_stride[0] + group * p.x_stride[1] + column * p.x_stride[5];
    const T* filters = w + group * p.w_stride[0] + k * p.w_stride[1] + taps[2].first * p.w_stride[5];

    Acc sum{};
    for (std::int64_t c = 0; c < p.c; ++c) {
      for (std::int64_t t = taps[0].first; t < taps[0].last; ++t) {
        for (std::int64_t r = taps[1].first; r < taps[1].last; ++r) {
          const T* value = images + c * p.x_stride[2] + (taps[0].start + t * p.dilation[0]) * p.x_stride[3] +
                           (taps[1].start + r * p.dilation[1]) * p.x_stride[4];
          const T* weight = filters + c * p.w_stride[2] + t * p.w_stride[3] + r * p.w_stride[4];
          for (std::int64_t s = 0; s < columns; ++s, value += x_step, weight += p.w_stride[5]) {
            sum = multiply_add(widen(*value), widen(*weight), sum);
          }
        }
      }
    }
    T* target = y + n * p.y_stride[0] + group * p.y_stride[1] + k * p.y_stride[2] + out[0] * p.y_stride[3] +
                out[1] * p.y_stride[4] + out[2] * p.y_stride[5];
    *target = epilogue(sum, group * p.k + k);
  }
}

}  // namespace cuconv
