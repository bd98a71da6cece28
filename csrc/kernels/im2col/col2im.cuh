// The adjoint of im2col: adds up all columns that an element of the input was lowered to.
//
//   gx[n,c,i] = act(bias[c] + sum over the pairs (o, t) with o*stride - pad + t*dilation = i
//                   of columns[group, tap t, c, (n,o)])
//
// Gathered, one thread an element, in the order of the taps: nothing is scattered, so there are no atomics
// and the bits are the same on every run. The columns are accumulators: the sum is rounded once.
//
// Floor: each column read once, gx written once.
#pragma once

#include "device/grid.cuh"
#include "device/index.cuh"
#include "device/numeric.cuh"
#include "kernels/epilogue.cuh"
#include "kernels/hits.cuh"
#include "problem.h"

namespace cuconv {

constexpr int kCol2imThreads = 256;

// Of the channels [channel, channel + channels) of each group of p's n images.
struct Columns {
  std::int64_t channel, channels;
  std::int64_t group_step, tap_step, channel_step, image_step;  // outputs are innermost, side by side
};

template <typename T>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS(kCol2imThreads)
    col2im_kernel(ConvProblem p, HitSteps step, Columns lowered, const accumulator_t<T>* columns,
                  Epilogue<T> epilogue, T* gx) {
  using Acc = accumulator_t<T>;
  const std::int64_t count = p.n * p.groups * lowered.channels * p.in[0] * p.in[1] * p.in[2];
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    const auto [n, group, c, in, hits] = hit_element(p, step, i, lowered.channels);
    const Acc* images =
        columns + group * lowered.group_step + c * lowered.channel_step + n * lowered.image_step;

    Acc sum{};
    for (std::int64_t a = 0; a < hits[0].count; ++a) {
      for (std::int64_t b = 0; b < hits[1].count; ++b) {
        const std::int64_t plane = hits[0].out - a * step.out[0];
        const std::int64_t line = plane * p.out[1] + hits[1].out - b * step.out[1];
        const std::int64_t slice =
            (hits[0].tap + a * step.tap[0]) * p.filter[1] + hits[1].tap + b * step.tap[1];
        for (std::int64_t j = 0; j < hits[2].count; ++j) {
          const std::int64_t tap = slice * p.filter[2] + hits[2].tap + j * step.tap[2];
          const std::int64_t output = line * p.out[2] + hits[2].out - j * step.out[2];
          sum = add(sum, images[tap * lowered.tap_step + output]);
        }
      }
    }
    const std::int64_t channel = lowered.channel + c;
    T* target = gx + n * p.x_stride[0] + group * p.x_stride[1] + channel * p.x_stride[2] +
                in[0] * p.x_stride[3] + in[1] * p.x_stride[4] + in[2] * p.x_stride[5];
    *target = epilogue(sum, group * p.c + channel);
  }
}

}  // namespace cuconv
