// Pooling of channels that are neighbours in memory (NHWC), 16 bytes of them a thread:
//
//   y[n,o,c] = max or average over taps t of x[n, o*stride - pad_low + t*dilation, c]
//
// The window's meaning is that of max_pool.cuh and avg_pool.cuh, the simpler siblings, which take any
// strides. Here a thread computes kStrip outputs, one below the other. It walks down their rows of the input
// once: the taps of a row are reduced to one value a channel, which is then merged into every window that
// holds the row. So overlapping windows load no row twice (but at the ends of strips), and neighbours along W
// share what they load in the L1 cache. Needs 16-byte alignment of both arrays and all steps but that along
// C, and no dilation along H.
//
// Floor: x read once, y (and 8 bytes a position) written once. Beyond it: the rows that strips share, (window
// - stride) of kStrip * stride rows, mostly from cache. Positions are not computed where none are wanted.
#pragma once

#include "device/grid.cuh"
#include "device/vec.cuh"
#include "kernels/pool/reduction.cuh"

namespace cuconv {

// The digits of an item: a vector of channels of a strip.
struct ChannelStrips {
  std::int64_t items;
  FastDivisor vectors, columns, strips, slices;
};

// Outputs a thread. Two where a vector's states would otherwise not fit the registers.
template <typename Reduction>
constexpr int kStrip = Reduction::kPositions ? 2 : 4;

template <typename T, template <typename> typename Kind>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS_FOR(kPoolThreads, 2)
    pool_channels_kernel(PoolProblem p, ChannelStrips strips, const T* x, T* y, std::int64_t* indices) {
  using Reduction = Kind<T>;
  using State = typename Reduction::State;
  constexpr int kWidth = 16 / int{sizeof(T)};
  constexpr int kOutputs = kStrip<Reduction>;
  const auto height = static_cast<std::int32_t>(p.in[1]);
  const auto width = static_cast<std::int32_t>(p.in[2]);
  const auto rows = static_cast<std::uint32_t>(p.window[1]);
  const auto step = static_cast<std::int32_t>(p.stride[1]);

  for (std::int64_t item = first_item(); item < strips.items; item += item_step()) {
    auto n = static_cast<std::int32_t>(item);
    const std::int32_t channel = take_last(n, strips.vectors) * kWidth;
    const std::int32_t q = take_last(n, strips.columns);
    const std::int32_t first = take_last(n, strips.strips) * kOutputs;
    const std::int32_t z = take_last(n, strips.slices);
    const auto left = static_cast<std::int32_t>(p.out[1]) - first;
    const std::int32_t outputs = left < kOutputs ? left : kOutputs;

    const SmallTaps d = small_taps(p, 0, z);
    const SmallTaps w = small_taps(p, 2, q);
    const std::int32_t top = first * step - static_cast<std::int32_t>(p.pad_low[1]);
    const std::int32_t bottom = top + (outputs - 1) * step + static_cast<std::int32_t>(rows);
    const T* image = x + n * p.x_stride[0] + channel;
    State state[kOutputs][kWidth];

    for (std::int32_t t = d.first; t < d.last; ++t) {
      const std::int32_t at_d = d.start + t * static_cast<std::int32_t>(p.dilation[0]);
      for (std::int32_t at_h = top < 0 ? 0 : top; at_h < bottom && at_h < height; ++at_h) {
        const T* row = image + at_d * p.x_stride[2] + at_h * p.x_stride[3];
        State line[kWidth];
        for (std::int32_t s = w.first; s < w.last; ++s) {
          const std::int32_t at_w = w.start + s * static_cast<std::int32_t>(p.dilation[2]);
          const Vec<T, kWidth> values = load_vec<kWidth>(row + at_w * p.x_stride[4]);
          const std::int32_t position = (at_d * height + at_h) * width + at_w;
          CUCONV_UNROLL
          for (int i = 0; i < kWidth; ++i) Reduction::take(line[i], widen(values.at[i]), position);
        }
        CUCONV_UNROLL
        for (int o = 0; o < kOutputs; ++o) {
          if (static_cast<std::uint32_t>(at_h - top - o * step) >= rows) continue;
          CUCONV_UNROLL
          for (int i = 0; i < kWidth; ++i) Reduction::merge(state[o][i], line[i]);
        }
      }
    }

    CUCONV_UNROLL
    for (int o = 0; o < kOutputs; ++o) {
      if (o >= outputs) continue;
      const WindowTaps taps{d, small_taps(p, 1, first + o), w};
      const Coordinate out{n, channel, {z, first + o, q}};
      Vec<T, kWidth> values;
      CUCONV_UNROLL
      for (int i = 0; i < kWidth; ++i) values.at[i] = Reduction::result(p, taps, state[o][i]);
      store_vec(y + offset_of(out, p.y_stride), values);
      if constexpr (Reduction::kPositions) {
        std::int64_t* target = indices + offset_of(out, p.index_stride);
        CUCONV_UNROLL
        for (int i = 0; i < kWidth; ++i) {
          target[i * p.index_stride[1]] = Reduction::position(p, taps, state[o][i]);
        }
      }
    }
  }
}

}  // namespace cuconv
