// Weight gradient of depthwise convolution and image filtering, several taps a thread, in two passes:
//
//   gw[g,k,c,t] = sum over n, o of gy[n,g,k,o] * x[n, g, c, o*stride - pad + t*dilation]     (x conjugated on
//   request)
//
// direct/weight_grad.cuh, the sibling for everything, has a block for each filter element: with 3x3 taps it
// reads x and gy nine times. Here a thread keeps the sums of kRows x kCols taps. It takes a column of gy and
// walks down some of its rows with a window of kRows rows of x in registers: at stride 1 a step loads one
// element of gy and a new row of kCols of x for kRows * kCols multiply-adds (at other strides all of the
// window anew). What neighbours share comes from the L1 cache. Threads of a warp are neighbours along W
// (NCHW), or along the channels and then along W (NHWC): the launcher says which by `lanes`, and both fetch
// neighbours in memory together.
//
// A block takes a piece of the columns of all images. Its threads add up by halves, in an order fixed by the
// launch; where there are several pieces their sums are stored, and a second kernel adds them in order. No
// atomics: the same bits on every run.
//
// Floor: the multiply-adds of the forward convolution, x and gy read once. Beyond it, from cache: both again
// for every tile of taps; (kRows - 1) / kBandRows more rows of x, and kCols loads a new row, mostly from L1.
#pragma once

#include <cstddef>

#include "device/grid.cuh"
#include "device/index.cuh"
#include "device/numeric.cuh"
#include "problem.h"

namespace cuconv {

constexpr int kTapThreads = 128;
constexpr int kBandRows = 32;  // of gy that a thread walks down
constexpr int kTapSumThreads = 256;

// Blocks a multiprocessor: 128 registers a thread, or 168 where sums are wider than four bytes.
template <typename Acc>
constexpr int kTapBlocks = sizeof(Acc) > 4 ? 3 : 4;

struct DepthwiseTaps {
  std::int64_t blocks;            // all there are
  std::int64_t tiles_r, tiles_s;  // of taps
  std::int64_t channel_tiles;     // of `lanes` groups
  std::int64_t bands;             // of a column of gy
  std::int64_t items;             // bands of all columns, for one group
  std::int64_t pieces, items_a_piece;
  int lanes;  // threads along the groups, a power of two
};

// Columns of taps a thread: half of a tile's where sums are so wide that they would not fit the registers.
template <typename T, typename Tile>
constexpr int kTapCols = sizeof(accumulator_t<T>) > 8 ? Tile::kCols / 2 : Tile::kCols;

// Where a tap's sum lies among all filters' in a plain array.
CUCONV_DEVICE std::int64_t filter_element(const ConvProblem& p, std::int64_t group, std::int64_t k,
                                          std::int64_t c, std::int64_t t, std::int64_t r, std::int64_t s) {
  return ((((group * p.k + k) * p.c + c) * p.filter[0] + t) * p.filter[1] + r) * p.filter[2] + s;
}

CUCONV_DEVICE std::int64_t filter_offset(const ConvProblem& p, std::int64_t group, std::int64_t k,
                                         std::int64_t c, std::int64_t t, std::int64_t r, std::int64_t s) {
  return group * p.w_stride[0] + k * p.w_stride[1] + c * p.w_stride[2] + t * p.w_stride[3] +
         r * p.w_stride[4] + s * p.w_stride[5];
}

// With `partial`, sums of piece i go to partial[i * filters' elements ...]; without, to gw.
template <typename T, typename Tile>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS_FOR(kTapThreads, (kTapBlocks<accumulator_t<T>>))
    depthwise_weight_grad_kernel(ConvProblem p, DepthwiseTaps t, const T* gy, const T* x, bool conjugate,
                                 accumulator_t<T>* partial, T* gw) {
  using Acc = accumulator_t<T>;
  constexpr int kRows = Tile::kRows;
  constexpr int kCols = kTapCols<T, Tile>;
  constexpr int kSums = kRows * kCols;
  auto* shared = reinterpret_cast<Acc*>(dynamic_shared());  // [sum][thread]
  const int lane = threadIdx.x % t.lanes;
  const int worker = threadIdx.x / t.lanes;
  const int workers = kTapThreads / t.lanes;
  const bool slides = p.stride[1] == p.dilation[1];

  for (std::int64_t block = blockIdx.x; block < t.blocks; block += gridDim.x) {
    std::int64_t rest = block;
    const std::int64_t s0 = take_last(rest, t.tiles_s) * kCols;
    const std::int64_t r0 = take_last(rest, t.tiles_r) * kRows;
    const std::int64_t tap_d = take_last(rest, p.filter[0]);
    const std::int64_t c = take_last(rest, p.c);
    const std::int64_t k = take_last(rest, p.k);
    const std::int64_t group = take_last(rest, t.channel_tiles) * t.lanes + lane;
    const std::int64_t piece = rest;
    const std::int64_t end =
        t.items - piece * t.items_a_piece < t.items_a_piece ? t.items : (piece + 1) * t.items_a_piece;
    const int rows = p.filter[1] - r0 < kRows ? static_cast<int>(p.filter[1] - r0) : kRows;
    const int cols = p.filter[2] - s0 < kCols ? static_cast<int>(p.filter[2] - s0) : kCols;

    Acc sum[kRows][kCols] = {};
    for (std::int64_t item = piece * t.items_a_piece + worker; item < end && group < p.groups;
         item += workers) {
      std::int64_t n = item;
      const std::int64_t q = take_last(n, p.out[2]);
      const std::int64_t first = take_last(n, t.bands) * kBandRows;
      const std::int64_t z = take_last(n, p.out[0]);
      const std::int64_t d = z * p.stride[0] - p.pad[0] + tap_d * p.dilation[0];
      if (d < 0 || d >= p.in[0]) continue;
      const std::int64_t last = p.out[1] - first < kBandRows ? p.out[1] : first + kBandRows;
      const T* gradient = gy + n * p.y_stride[0] + group * p.y_stride[1] + k * p.y_stride[2] +
                          z * p.y_stride[3] + first * p.y_stride[4] + q * p.y_stride[5];
      const std::int64_t w0 = q * p.stride[2] - p.pad[2] + s0 * p.dilation[2];
      const Taps inside = taps_inside(w0, p.in[2], cols, p.dilation[2]);
      const int first_col = static_cast<int>(inside.first), last_col = static_cast<int>(inside.last);
      const T* column = x + n * p.x_stride[0] + group * p.x_stride[1] + c * p.x_stride[2] +
                        d * p.x_stride[3] + w0 * p.x_stride[5];
      std::int64_t h = first * p.stride[1] - p.pad[1] + r0 * p.dilation[1];  // of the window's first row

      Acc window[kRows][kCols];
      const auto load_row = [&](int i, Acc(&values)[kCols]) {
        const std::int64_t row = h + i * p.dilation[1];
        // A row past the taps' last comes to be one of theirs when the window slides.
        const bool row_inside = (slides || i < rows) && row >= 0 && row < p.in[1];
        const T* at = column + row * p.x_stride[4];
        CUCONV_UNROLL
        for (int j = 0; j < kCols; ++j, at += p.dilation[2] * p.x_stride[5]) {
          values[j] = Acc{};
          if (row_inside && j >= first_col && j < last_col) {
            values[j] = conjugate_if(widen(*at), conjugate);
          }
        }
      };
      // Row i of the window at step o lies in slot (o + i) % kRows: a step replaces one row and moves none.
      if (slides) {
        CUCONV_UNROLL
        for (int i = 0; i < kRows - 1; ++i) load_row(i, window[i]);
      }
      for (std::int64_t o = first; o < last; o += kRows) {
        CUCONV_UNROLL
        for (int u = 0; u < kRows; ++u) {
          if (o + u >= last) continue;
          if (slides) {
            load_row(kRows - 1, window[(u + kRows - 1) % kRows]);
          } else {
            CUCONV_UNROLL
            for (int i = 0; i < kRows; ++i) load_row(i, window[(u + i) % kRows]);
          }
          const Acc value = widen(*gradient);
          CUCONV_UNROLL
          for (int i = 0; i < kRows; ++i) {
            CUCONV_UNROLL
            for (int j = 0; j < kCols; ++j) {
              sum[i][j] = multiply_add(value, window[(u + i) % kRows][j], sum[i][j]);
            }
          }
          gradient += p.y_stride[4];
          h += p.stride[1];
        }
      }
    }

    // The workers of a lane add up by halves.
    for (int half = workers / 2; half > 0; half /= 2) {
      if (worker >= half && worker < 2 * half) {
        CUCONV_UNROLL
        for (int i = 0; i < kSums; ++i) shared[i * kTapThreads + threadIdx.x] = sum[i / kCols][i % kCols];
      }
      __syncthreads();  // the upper half's sums are there
      if (worker < half) {
        CUCONV_UNROLL
        for (int i = 0; i < kSums; ++i) {
          Acc& mine = sum[i / kCols][i % kCols];
          mine = add(mine, shared[i * kTapThreads + threadIdx.x + half * t.lanes]);
        }
      }
      __syncthreads();  // ... and have been read
    }
    if (worker > 0 || group >= p.groups) continue;
    CUCONV_UNROLL
    for (int i = 0; i < kRows; ++i) {
      CUCONV_UNROLL
      for (int j = 0; j < kCols; ++j) {
        if (i >= rows || j >= cols) continue;
        if (partial != nullptr) {
          const std::int64_t elements = p.groups * p.k * p.c * p.filter[0] * p.filter[1] * p.filter[2];
          partial[piece * elements + filter_element(p, group, k, c, tap_d, r0 + i, s0 + j)] = sum[i][j];
        } else {
          gw[filter_offset(p, group, k, c, tap_d, r0 + i, s0 + j)] = narrow<T>(sum[i][j]);
        }
      }
    }
  }
}

// The second pass: adds the pieces of each filter element in order.
template <typename T>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS(kTapSumThreads)
    depthwise_tap_sums_kernel(ConvProblem p, std::int64_t pieces, const accumulator_t<T>* partial, T* gw) {
  const std::int64_t elements = p.groups * p.k * p.c * p.filter[0] * p.filter[1] * p.filter[2];
  for (std::int64_t i = first_item(); i < elements; i += item_step()) {
    accumulator_t<T> sum = partial[i];
    for (std::int64_t piece = 1; piece < pieces; ++piece) sum = add(sum, partial[piece * elements + i]);
    std::int64_t group = i;
    const std::int64_t s = take_last(group, p.filter[2]);
    const std::int64_t r = take_last(group, p.filter[1]);
    const std::int64_t t = take_last(group, p.filter[0]);
    const std::int64_t c = take_last(group, p.c);
    const std::int64_t k = take_last(group, p.k);
    gw[filter_offset(p, group, k, c, t, r, s)] = narrow<T>(sum);
  }
}

}  // namespace cuconv
