// Depthwise convolution where channels are neighbours in memory (NHWC), some of them a thread:
//
//   y[n,g,k,o] = act(bias[g,k] + sum over t of x[n, g, o*stride - pad + t*dilation] * w[g,k,t])
//
// depthwise_rows.cuh is the sibling for planes, and for groups of several channels; by its loads a warp would
// fetch 32 bytes for each element here. A thread computes kStripOutputs neighbouring outputs along W of
// 16 bytes of channels, or 8 bytes of 16-bit ones (16 would leave registers for half as many outputs, which
// share what is loaded). A warp's threads are neighbours along the channels, then along W. It walks along
// each row of taps through a window of kStripOutputs + 3 vectors in registers, so each tap takes one load of
// x, from the L1 cache where windows of neighbours or of the row above have brought it, one 16-byte load of w
// (of floats) from shared memory, and kStripOutputs * kLaneChannels multiply-adds. Taps of one residue modulo
// `step` (see tap_axis.cuh) come after each other, so the window slides by one vector whatever the stride.
//
// The taps of the block's channels come to shared memory as many as fit at a time, and turned over: in memory
// a channel's taps are neighbours. Channels that no vector fits (C = 257, views) are moved one by one, to the
// same bits. Outputs in the border skip the rows of the padding and multiply by zeros in its columns.
//
// Floor: n*g*k*out*taps multiply-adds, x and w read once, y written once. Beyond it, mostly from L1: x for
// every row of taps, and 7 of every kStripOutputs + 7 vectors for windows that overlap (of 8 taps).
//
// A sum runs over depth taps, chunks of taps, residues of columns, rows, columns.
#pragma once

#include <cstddef>

#include "device/index.cuh"
#include "device/numeric.cuh"
#include "device/vec.cuh"
#include "kernels/direct/tap_axis.cuh"
#include "kernels/epilogue.cuh"
#include "problem.h"

namespace cuconv {

constexpr int kStripThreads = 128;
constexpr int kStripOutputs = 8;
constexpr int kStripTaps = 4;  // of a row at a time

// A multiprocessor: 168 registers a thread. The eleven loads that a thread has in flight take the place of
// more blocks.
constexpr int kStripBlocks = 3;

// Channels a thread.
template <typename T>
constexpr int kLaneChannels = sizeof(T) <= 4 ? 4 : 16 / int{sizeof(T)};

struct DepthwiseStrips {
  std::int64_t blocks;           // all there are
  std::int64_t channel_tiles;    // of so many lanes
  std::int64_t strips;           // of all images, for one lane
  std::int64_t strips_q;         // of a row of one phase
  TapAxis w;                     //
  int lanes;                     // threads along the channels, a power of two
  int all_rows, all_cols;        // of taps
  int filter_rows, filter_cols;  // of those, at a time
  int residues, residue_step;    // of columns of taps; columns from one tap of a residue to the next
  bool vectors_x, vectors_y;
};

// The strip of a thread, in few numbers, for registers are scarce: where it begins in x (which may be in the
// padding) and y, and how many outputs and channels it has; none past the last.
struct Strip {
  std::int64_t x, d, h, w;  // image and channel, in elements; positions of the first tap
  std::int64_t y;           // in elements
  int outs;
};

CUCONV_DEVICE Strip strip_of(const ConvProblem& p, const DepthwiseStrips& t, std::int64_t index,
                             std::int64_t group, std::int64_t k) {
  const bool exists = index < t.strips && group < p.groups;
  const std::int64_t first = take_last(index, t.strips_q) * kStripOutputs;
  const std::int64_t phase = take_last(index, t.w.phases);
  const std::int64_t row = take_last(index, p.out[1]);
  const std::int64_t z = take_last(index, p.out[0]);
  const std::int64_t left = exists ? outputs_of_phase(t.w, p.out[2], phase) - first : 0;
  Strip strip;
  strip.x = index * p.x_stride[0] + group * p.x_stride[1];
  strip.d = z * p.stride[0] - p.pad[0];
  strip.h = row * p.stride[1] - p.pad[1];
  strip.w = phase * p.stride[2] - p.pad[2] + first * t.w.step * t.w.unit;
  strip.y = index * p.y_stride[0] + group * p.y_stride[1] + k * p.y_stride[2] + z * p.y_stride[3] +
            row * p.y_stride[4] + (phase + first * t.w.phases) * p.y_stride[5];
  strip.outs = left < kStripOutputs ? static_cast<int>(left) : kStripOutputs;
  return strip;
}

// Neighbouring channels, those past the last as zeros.
template <int kWidth, typename T>
CUCONV_DEVICE void load_lane(const T* from, std::int64_t step, int count, bool vectors,
                             accumulator_t<T> (&values)[kWidth]) {
  Vec<T, kWidth> loaded{};
  if (vectors) {
    loaded = load_vec<kWidth>(from);
  } else {
    CUCONV_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      if (i < count) loaded.at[i] = from[i * step];
    }
  }
  CUCONV_UNROLL
  for (int i = 0; i < kWidth; ++i) values[i] = widen(loaded.at[i]);
}

// The products of a piece of a row of taps with what lies under it: `taps` taps of one residue, each `step`
// elements further in x, those in [inside.first, inside.last) of the input proper, and `weight_step` in w.
template <typename T>
struct StripSums {
  using Acc = accumulator_t<T>;
  static constexpr int kWidth = kLaneChannels<T>;
  static constexpr int kWindow = kStripOutputs + kStripTaps - 1;

  Acc sum[kStripOutputs][kWidth] = {};

  CUCONV_DEVICE void add_row(const T* under, std::int64_t step, std::int64_t channel_step, int count,
                             bool vectors, int first, int last, const Acc* weights, int weight_step,
                             int taps) {
    Acc window[kWindow][kWidth];
    const auto fetch = [&](int at, Acc(&values)[kWidth]) {
      const bool inside = at >= first && at < last;
      load_lane<kWidth>(under, channel_step, inside ? count : 0, inside && vectors, values);
      under += step;
    };
    CUCONV_UNROLL
    for (int v = 0; v < kStripOutputs - 1; ++v) fetch(v, window[v]);
    for (int s = 0; s < taps; s += kStripTaps) {
      CUCONV_UNROLL
      for (int v = kStripOutputs - 1; v < kWindow; ++v) fetch(s + v, window[v]);
      CUCONV_UNROLL
      for (int tap = 0; tap < kStripTaps; ++tap) {
        if (s + tap >= taps) continue;
        Acc weight[kWidth];
        load_weights(weights, weight);
        weights += weight_step;
        CUCONV_UNROLL
        for (int j = 0; j < kStripOutputs; ++j) {
          CUCONV_UNROLL
          for (int i = 0; i < kWidth; ++i) {
            sum[j][i] = multiply_add(window[j + tap][i], weight[i], sum[j][i]);
          }
        }
      }
      CUCONV_UNROLL
      for (int v = 0; v < kStripOutputs - 1; ++v) {
        CUCONV_UNROLL
        for (int i = 0; i < kWidth; ++i) window[v][i] = window[v + kStripTaps][i];
      }
    }
  }

  CUCONV_DEVICE static void load_weights(const Acc* from, Acc (&weight)[kWidth]) {
    constexpr int kPart = 16 / int{sizeof(Acc)} < kWidth ? 16 / int{sizeof(Acc)} : kWidth;
    CUCONV_UNROLL
    for (int i = 0; i < kWidth; i += kPart) {
      const Vec<Acc, kPart> part = load_vec<kPart>(from + i);
      CUCONV_UNROLL
      for (int j = 0; j < kPart; ++j) weight[i + j] = part.at[j];
    }
  }
};

// `rows` x `cols` taps of the block's channels, from those at `taps`: [row][column][channel].
template <typename T>
CUCONV_DEVICE void fetch_lane_taps(const ConvProblem& p, const T* taps, std::int64_t first_group,
                                   int channels, int rows, int cols, bool conjugate,
                                   accumulator_t<T>* weights) {
  for (int i = threadIdx.x; i < rows * cols * channels; i += kStripThreads) {
    int r = i;
    const std::int64_t group = first_group + take_last(r, channels);
    const int s = take_last(r, cols);
    accumulator_t<T> weight{};
    if (group < p.groups) {
      weight = widen(taps[group * p.w_stride[0] + r * p.w_stride[4] + s * p.w_stride[5]]);
    }
    weights[i] = conjugate_if(weight, conjugate);
  }
}

template <typename T>
CUCONV_DEVICE void store_strip(const ConvProblem& p, const DepthwiseStrips& t, int outs, std::int64_t group,
                               std::int64_t k, int count, const StripSums<T>& sums,
                               const Epilogue<T>& epilogue, T* target) {
  constexpr int kWidth = kLaneChannels<T>;
  CUCONV_UNROLL
  for (int j = 0; j < kStripOutputs; ++j, target += t.w.phases * p.y_stride[5]) {
    if (j >= outs) continue;
    Vec<T, kWidth> values;
    CUCONV_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      if (i < count) values.at[i] = epilogue(sums.sum[j][i], (group + i) * p.k + k);
    }
    if (t.vectors_y) {
      store_vec(target, values);
    } else {
      CUCONV_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        if (i < count) target[i * p.y_stride[1]] = values.at[i];
      }
    }
  }
}

template <typename T>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS_FOR(kStripThreads, kStripBlocks)
    depthwise_channels_kernel(ConvProblem p, DepthwiseStrips t, const T* x, const T* w, bool conjugate,
                              Epilogue<T> epilogue, T* y) {
  constexpr int kWidth = kLaneChannels<T>;
  auto* weights = reinterpret_cast<accumulator_t<T>*>(dynamic_shared());  // [row][column][channel]
  const int channels = t.lanes * kWidth;
  const int lane_channel = threadIdx.x % t.lanes * kWidth;

  for (std::int64_t block = blockIdx.x; block < t.blocks; block += gridDim.x) {
    std::int64_t rest = block;
    const std::int64_t k = take_last(rest, p.k);
    const std::int64_t first_group = take_last(rest, t.channel_tiles) * channels;
    const std::int64_t group = first_group + lane_channel;
    const Strip strip = strip_of(p, t, rest * (kStripThreads / t.lanes) + threadIdx.x / t.lanes, group, k);
    const int count = p.groups - group < kWidth ? static_cast<int>(p.groups - group) : kWidth;

    StripSums<T> sums;
    for (std::int64_t d = 0; d < p.filter[0]; ++d) {
      const std::int64_t at_d = strip.d + d * p.dilation[0];
      for (int r0 = 0; r0 < t.all_rows; r0 += t.filter_rows) {
        const int rows = t.all_rows - r0 < t.filter_rows ? t.all_rows - r0 : t.filter_rows;
        for (int s0 = 0; s0 < t.all_cols; s0 += t.filter_cols) {
          const int cols = t.all_cols - s0 < t.filter_cols ? t.all_cols - s0 : t.filter_cols;
          __syncthreads();  // everyone is done with the taps before
          fetch_lane_taps(p,
                          w + k * p.w_stride[1] + d * p.w_stride[3] + r0 * p.w_stride[4] + s0 * p.w_stride[5],
                          first_group, channels, rows, cols, conjugate, weights);
          __syncthreads();  // the taps are complete
          if (strip.outs <= 0 || at_d < 0 || at_d >= p.in[0]) continue;

          for (int residue = 0; residue < t.residues && residue < cols; ++residue) {
            // Outside the loop over rows, or each would look for the padding's columns anew.
            const int taps = (cols - residue - 1) / t.residue_step + 1;
            const std::int64_t start = strip.w + (s0 + residue) * t.w.unit;
            const std::int64_t unit = t.w.step * t.w.unit;
            const Taps inside = taps_inside(start, p.in[2], taps + kStripOutputs - 1, unit);
            const auto* of_residue = weights + residue * channels + lane_channel;
            for (int r = 0; r < rows; ++r, of_residue += cols * channels) {
              const std::int64_t h = strip.h + (r0 + r) * p.dilation[1];
              if (h < 0 || h >= p.in[1]) continue;
              sums.add_row(x + strip.x + at_d * p.x_stride[3] + h * p.x_stride[4] + start * p.x_stride[5],
                           unit * p.x_stride[5], p.x_stride[1], count, t.vectors_x,
                           static_cast<int>(inside.first), static_cast<int>(inside.last), of_residue,
                           t.residue_step * channels, taps);
            }
          }
        }
      }
    }
    if (strip.outs > 0) store_strip(p, t, strip.outs, group, k, count, sums, epilogue, y + strip.y);
  }
}

}  // namespace cuconv
