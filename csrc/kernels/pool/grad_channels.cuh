// Gradients of pooling of channels that are neighbours in memory (NHWC), 16 bytes of them a thread
// (grad.cuh).
//
// A thread adds up what the windows over its position have for its channels. Neighbours along W, and along H
// in other warps, read the same outputs, from the L1 cache but for the first. Needs 16-byte alignment of gx,
// gy and indices, and all steps but that along C multiples of that.
//
// Floor: gy, and of maxima 8 bytes an index, read once; gx written once. Beyond it: outputs that several
// blocks read, mostly from the L2 cache.
#pragma once

#include "device/grid.cuh"
#include "device/vec.cuh"
#include "kernels/pool/grad.cuh"

namespace cuconv {

// The digits of an item: a vector of channels of a position.
struct ChannelVectors {
  std::int64_t items;
  FastDivisor vectors, size[kSpatial];
};

template <typename T, bool kMaxima>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS_FOR(kPoolThreads, 2)
    pool_grad_channels_kernel(PoolProblem p, ChannelVectors digits, WindowSteps steps, const T* gy,
                              const std::int64_t* indices, T* gx) {
  using Acc = accumulator_t<T>;
  constexpr int kWidth = 16 / int{sizeof(T)};
  constexpr int kIndexWidth = kWidth < 2 ? 1 : 2;  // 16 bytes

  for (std::int64_t item = first_item(); item < digits.items; item += item_step()) {
    auto n = static_cast<std::int32_t>(item);
    const std::int32_t channel = take_last(n, digits.vectors) * kWidth;
    const std::int32_t column = take_last(n, digits.size[2]);
    const std::int32_t row = take_last(n, digits.size[1]);
    const std::int32_t slice = take_last(n, digits.size[0]);
    const SmallWindows d = small_windows(p, steps, 0, slice), h = small_windows(p, steps, 1, row);
    const SmallWindows w = small_windows(p, steps, 2, column);
    const Coordinate in{n, channel, {slice, row, column}};
    const std::int64_t position =
        (std::int64_t{slice} * static_cast<std::int32_t>(p.in[1]) + row) * p.in[2] + column;

    Acc sum[kWidth] = {};
    for (std::int32_t z = d.first; z < d.last; ++z) {
      for (std::int32_t r = h.first; r < h.last; ++r) {
        std::int64_t of_row = 1;
        if constexpr (!kMaxima) of_row = std::int64_t{small_divisor(p, 0, z)} * small_divisor(p, 1, r);
        for (std::int32_t s = w.first; s < w.last; ++s) {
          const Coordinate out{n, channel, {z, r, s}};
          const Vec<T, kWidth> values = load_vec<kWidth>(gy + offset_of(out, p.y_stride));
          if constexpr (kMaxima) {
            const std::int64_t* of_values = indices + offset_of(out, p.index_stride);
            CUCONV_UNROLL
            for (int j = 0; j < kWidth; j += kIndexWidth) {
              const Vec<std::int64_t, kIndexWidth> at = load_vec<kIndexWidth>(of_values + j);
              CUCONV_UNROLL
              for (int k = 0; k < kIndexWidth; ++k) {
                if (at.at[k] == position) sum[j + k] = add(sum[j + k], widen(values.at[j + k]));
              }
            }
          } else {
            const std::int64_t divisor = of_row * small_divisor(p, 2, s);
            CUCONV_UNROLL
            for (int j = 0; j < kWidth; ++j) sum[j] = add(sum[j], divide(widen(values.at[j]), divisor));
          }
        }
      }
    }
    Vec<T, kWidth> result;
    CUCONV_UNROLL
    for (int j = 0; j < kWidth; ++j) result.at[j] = narrow<T>(sum[j]);
    store_vec(gx + offset_of(in, p.x_stride), result);
  }
}

}  // namespace cuconv
