// Depthwise convolution and image filtering by tiles of planes, where neighbours along W are neighbours in
// memory (NCHW), and for any other strides:
//
//   y[n,g,k,o] = act(bias[g,k] + sum over c, t of x[n, g, c, o*stride - pad + t*dilation] * w[g,k,c,t])
//
// A plane of y is an image's, a group's and a filter's: one input channel and one filter, or several of
// either. A block computes a tile of a plane, or of several planes where they are small. It brings the part
// of x under the tile, with its halo and zeros for the padding, and the filter's taps to shared memory, a
// channel, a depth tap and as many rows of taps as fit at a time. A thread keeps kRows x kCols outputs. It
// walks down the rows under them, and along each through a window of kCols + 4 registers: four taps take
// one 16-byte load of x (of four floats), and for each of the kRows outputs that the row concerns one of w
// and 4 * kCols multiply-adds.
//
// direct/tiled.cuh is the sibling for dense convolution: there a load of x serves eight filters, here (where
// there are none to share it) it serves the neighbouring outputs of one.
//
// In shared memory a row is cut by its columns' residues modulo `step` (see tap_axis.cuh), so a window slides
// by one element whatever the stride; each piece is skewed by 16 bytes in 128, so threads that are kCols
// elements apart load 16 bytes each without bank conflicts.
//
// Floor: n*g*k*out*c*taps multiply-adds, x and w read once, y written once. Beyond it: the halo, from the L2
// cache, as x is for each filter of its channel and for each tap along the depth. With four rows by four
// columns of float 5 shared loads serve 64 multiply-adds: 8 of a multiprocessor's load cycles in the 16
// that it takes to issue them from all four schedulers.
//
// A sum runs over channels, taps along depth, chunks of taps, rows, residues of columns, columns: in an order
// that tiles along the plane, other planes and the batch do not change.
#pragma once

#include <cstddef>

#include "device/index.cuh"
#include "device/numeric.cuh"
#include "device/vec.cuh"
#include "kernels/direct/tap_axis.cuh"
#include "kernels/epilogue.cuh"
#include "problem.h"

namespace cuconv {

constexpr int kTapsALoad = 4;  // taps of w, and elements of x, that a thread fetches at a time

// Where an element of a piece of a row lies.
template <typename Acc>
CUCONV_HOST_DEVICE int skewed(int index) {
  constexpr int kLine = 128 / int{sizeof(Acc)};
  return index + index / kLine * (16 / int{sizeof(Acc)});
}

// How a launch cuts its problem up. What lies in shared memory is counted in 32 bits, which saves registers.
struct DepthwiseTiling {
  std::int64_t tiles;  // all there are
  std::int64_t tiles_p, tiles_q;
  std::int64_t planes;                     // of y, over images, groups and filters
  TapAxis h, w;                            //
  int across, down, planes_a_block;        // threads along a tile's columns and rows; planes
  int all_rows, all_cols;                  // of taps
  int filter_rows, filter_cols;            // of those, at a time
  int residues, step_w, step_h;            // pieces a row is cut into; steps as far as they are taken
  int rows, cells;                         // of x under a tile; elements of a piece
  int piece_pitch, row_pitch, plane_size;  // in shared memory
  int taps_pitch, filter_size;             // of a row of taps of one residue; of all
  bool vectors;                            // rows of x are one piece of memory: fetched by 16 bytes
  FastDivisor fetches_by, rows_by;         // digits of what is fetched: fetches a row, rows
  FastDivisor step_by;                     // step_w
  FastDivisor cells_by, residues_by;
};

// Of a plane of y: where it, its channels and its filter begin, and its number among an image's.
struct PlanePlace {
  std::int64_t x, w, y, channel;
};

// What a chunk of taps reads of x under a tile: so many rows and columns from (h, w).
struct PatchRange {
  int planes, rows;
  std::int64_t cols, h, w;
};

// Of a tile, worked out by one thread and read by all, for registers are scarce.
struct TilePlace {
  std::int64_t h, w;                 // position in x of its first tap, in the padding perhaps
  std::int64_t slice;                // of x, that the first depth tap inside reads, in elements
  std::int64_t first_tap, last_tap;  // along the depth
  std::int64_t y, step_p, step_q;    // in y: its first output from a plane's; to the next
  int planes, outs_p, outs_q;        // that there are, of this tile
};

// Rows of x, 16 bytes at a time whatever their alignment: element i of a row comes to piece i % step.
template <typename T, typename Acc>
CUCONV_DEVICE void fetch_by_vectors(const ConvProblem& p, const DepthwiseTiling& t, const T* x,
                                    const PlanePlace* places, const PatchRange& range, int threads,
                                    Acc* patch) {
  constexpr int kWidth = 16 / int{sizeof(T)};
  const int fetches = range.planes * t.rows * static_cast<int>(t.fetches_by.divisor);
  for (int i = threadIdx.x; i < fetches; i += threads) {
    int plane = i;
    const int chunk = take_last(plane, t.fetches_by);
    const int row = take_last(plane, t.rows_by);
    if (row >= range.rows) continue;
    const std::int64_t h = range.h + row * t.h.unit;
    const bool row_inside = h >= 0 && h < p.in[1];
    const T* source = x + places[plane].x + (row_inside ? h : 0) * p.x_stride[4];
    // The first element may lie in the padding, before the array: its place modulo 16 bytes is a number.
    const auto past = static_cast<int>(
        (static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(source) / sizeof(T)) + range.w) &
        (kWidth - 1));
    const int begin = chunk * kWidth - past;
    const std::int64_t col = range.w + begin;
    Acc* target = patch + plane * t.plane_size + row * t.row_pitch;
    Vec<T, kWidth> values{};
    if (row_inside && begin >= 0 && begin + kWidth <= range.cols && col >= 0 && col + kWidth <= p.in[2]) {
      values = load_vec<kWidth>(source + col);
    } else {
      CUCONV_UNROLL
      for (int j = 0; j < kWidth; ++j) {
        const bool inside =
            row_inside && begin + j >= 0 && begin + j < range.cols && col + j >= 0 && col + j < p.in[2];
        if (inside) values.at[j] = source[col + j];
      }
    }
    CUCONV_UNROLL
    for (int j = 0; j < kWidth; ++j) {
      int cell = begin + j;
      if (cell < 0) continue;
      const int residue = t.step_w == 1 ? 0 : take_last(cell, t.step_by);
      if (residue < t.residues && cell < t.cells) {
        target[residue * t.piece_pitch + skewed<Acc>(cell)] = widen(values.at[j]);
      }
    }
  }
}

// The same by elements, from anywhere.
template <typename T, typename Acc>
CUCONV_DEVICE void fetch_by_elements(const ConvProblem& p, const DepthwiseTiling& t, const T* x,
                                     const PlanePlace* places, const PatchRange& range, int threads,
                                     Acc* patch) {
  const int fetches = range.planes * t.rows * t.residues * t.cells;
  for (int i = threadIdx.x; i < fetches; i += threads) {
    int plane = i;
    const int cell = take_last(plane, t.cells_by);
    const int residue = take_last(plane, t.residues_by);
    const int row = take_last(plane, t.rows_by);
    if (row >= range.rows) continue;
    const std::int64_t tap = cell * t.w.step + residue;
    const std::int64_t h = range.h + row * t.h.unit, col = range.w + tap * t.w.unit;
    const bool inside = tap < range.cols && h >= 0 && h < p.in[1] && col >= 0 && col < p.in[2];
    patch[plane * t.plane_size + row * t.row_pitch + residue * t.piece_pitch + skewed<Acc>(cell)] =
        inside ? widen(x[places[plane].x + h * p.x_stride[4] + col * p.x_stride[5]]) : Acc{};
  }
}

// Four neighbours; `index` is a multiple of four.
template <typename Acc>
CUCONV_DEVICE void load_four(const Acc* from, Acc* values) {
  constexpr int kWidth = 16 / int{sizeof(Acc)};
  CUCONV_UNROLL
  for (int i = 0; i < kTapsALoad; i += kWidth) {
    const Vec<Acc, kWidth> four = load_vec<kWidth>(from + i);
    CUCONV_UNROLL
    for (int j = 0; j < kWidth; ++j) values[i + j] = four.at[j];
  }
}

// kRows x kCols outputs of one thread.
template <typename Acc, typename Tile>
struct DepthwiseSums {
  static constexpr int kRows = Tile::kRows;
  static constexpr int kCols = Tile::kCols;
  static constexpr int kWindow = kCols + kTapsALoad;
  static_assert(kCols % kTapsALoad == 0, "windows begin where four elements do");

  Acc sum[kRows][kCols] = {};

  // Adds what a piece of a row of x under the outputs, `v` rows below the first, contributes through `taps`
  // taps of one residue, of as many rows of taps as `filter_rows`. Conditions are the same for all threads.
  CUCONV_DEVICE void add_row(const DepthwiseTiling& t, const Acc* piece, int first, int v, const Acc* weights,
                             int filter_rows, int taps) {
    const int pitch = t.residues * t.taps_pitch;
    const auto concerned = [&](int i) {
      const int r = v - i * t.step_h;
      return kRows == 1 || (r >= 0 && r < filter_rows);
    };
    const bool all = concerned(0) && concerned(kRows - 1);
    weights += v * pitch;
    Acc window[kWindow];
    CUCONV_UNROLL
    for (int i = 0; i < kCols; i += kTapsALoad) load_four(piece + skewed<Acc>(first + i), window + i);
    int s = 0;
    for (; s + kTapsALoad <= taps; s += kTapsALoad) {
      load_four(piece + skewed<Acc>(first + s + kCols), window + kCols);
      CUCONV_UNROLL
      for (int i = 0; i < kRows; ++i) {  // without a condition for each
        if (all) add_taps<kTapsALoad>(i, window, weights + (s - i * t.step_h * pitch), kTapsALoad);
      }
      CUCONV_UNROLL
      for (int i = 0; i < kRows; ++i) {
        if (all || !concerned(i)) continue;
        add_taps<kTapsALoad>(i, window, weights + (s - i * t.step_h * pitch), kTapsALoad);
      }
      CUCONV_UNROLL
      for (int i = 0; i < kCols; ++i) window[i] = window[i + kTapsALoad];
    }
    if (s == taps) return;
    load_four(piece + skewed<Acc>(first + s + kCols), window + kCols);
    CUCONV_UNROLL
    for (int i = 0; i < kRows; ++i) {
      if (!concerned(i)) continue;
      add_taps<kTapsALoad - 1>(i, window, weights + (s - i * t.step_h * pitch), taps - s);
    }
  }

 private:
  // `count` taps, at most kMost, for the outputs of row i.
  template <int kMost>
  CUCONV_DEVICE void add_taps(int i, const Acc (&window)[kWindow], const Acc* weights, int count) {
    Acc weight[kTapsALoad];
    load_four(weights, weight);
    CUCONV_UNROLL
    for (int tap = 0; tap < kMost; ++tap) {
      if (tap >= count) continue;
      CUCONV_UNROLL
      for (int j = 0; j < kCols; ++j) {
        sum[i][j] = multiply_add(window[j + tap], weight[tap], sum[i][j]);
      }
    }
  }
};

static_assert(sizeof(TilePlace) % 16 == 0, "what lies behind it is loaded by 16 bytes");

template <typename Tile>
CUCONV_DEVICE TilePlace place_of(const ConvProblem& p, const DepthwiseTiling& t, std::int64_t tile,
                                 std::int64_t& first_plane) {
  const int across = t.across * Tile::kCols, down = t.down * Tile::kRows;
  const std::int64_t q0 = take_last(tile, t.tiles_q) * across;
  const std::int64_t p0 = take_last(tile, t.tiles_p) * down;
  const std::int64_t phase_q = take_last(tile, t.w.phases);
  const std::int64_t phase_p = take_last(tile, t.h.phases);
  const std::int64_t z = take_last(tile, p.out[0]);
  first_plane = tile * t.planes_a_block;
  const auto rest = [](std::int64_t all, std::int64_t first, int most) {
    const std::int64_t left = all - first;  // negative where a phase has a tile less
    return static_cast<int>(left < 0 ? 0 : left < most ? left : most);
  };
  const Taps depth = taps_inside(z * p.stride[0] - p.pad[0], p.in[0], p.filter[0], p.dilation[0]);
  TilePlace place;
  place.h = phase_p * p.stride[1] - p.pad[1] + p0 * t.h.step * t.h.unit;
  place.w = phase_q * p.stride[2] - p.pad[2] + q0 * t.w.step * t.w.unit;
  place.slice = (depth.start + depth.first * p.dilation[0]) * p.x_stride[3];
  place.first_tap = depth.first;
  place.last_tap = depth.last;
  place.step_p = t.h.phases * p.y_stride[4];
  place.step_q = t.w.phases * p.y_stride[5];
  place.y = z * p.y_stride[3] + phase_p * p.y_stride[4] + phase_q * p.y_stride[5] + p0 * place.step_p +
            q0 * place.step_q;
  place.outs_p = rest(outputs_of_phase(t.h, p.out[1], phase_p), p0, down);
  place.outs_q = rest(outputs_of_phase(t.w, p.out[2], phase_q), q0, across);
  place.planes = place.outs_p > 0 && place.outs_q > 0 ? rest(t.planes, first_plane, t.planes_a_block) : 0;
  return place;
}

// `rows` x `cols` taps from (r0, s0) of every plane's filter, zeros behind them: [plane][row][residue][tap].
template <typename T>
CUCONV_DEVICE void fetch_taps(const ConvProblem& p, const DepthwiseTiling& t, const T* w,
                              const PlanePlace* places, int planes, int r0, int s0, int rows, int cols,
                              bool conjugate, int threads, accumulator_t<T>* weights) {
  for (int i = threadIdx.x; i < planes * t.filter_size; i += threads) {
    int plane = i;
    const int tap = take_last(plane, t.taps_pitch) * t.step_w;
    const int s = tap + take_last(plane, t.residues);
    const int r = take_last(plane, t.filter_rows);
    accumulator_t<T> weight{};
    if (r < rows && s < cols) {
      weight = widen(w[places[plane].w + (r0 + r) * p.w_stride[4] + (s0 + s) * p.w_stride[5]]);
    }
    weights[i] = conjugate_if(weight, conjugate);
  }
}

template <typename T, typename Tile>
CUCONV_DEVICE void store_outputs(const TilePlace& tile, const PlanePlace& plane, int first_p, int first_q,
                                 const DepthwiseSums<accumulator_t<T>, Tile>& sums,
                                 const Epilogue<T>& epilogue, T* y) {
  constexpr int kStore = 16 / int{sizeof(T)} < kTapsALoad ? 16 / int{sizeof(T)} : kTapsALoad;
  T* target = y + plane.y + tile.y + first_p * tile.step_p + first_q * tile.step_q;
  CUCONV_UNROLL
  for (int i = 0; i < Tile::kRows; ++i, target += tile.step_p) {
    if (first_p + i >= tile.outs_p) continue;
    CUCONV_UNROLL
    for (int j = 0; j < Tile::kCols; j += kStore) {
      const int count = tile.outs_q - (first_q + j);
      Vec<T, kStore> values;
      CUCONV_UNROLL
      for (int l = 0; l < kStore; ++l) values.at[l] = epilogue(sums.sum[i][j + l], plane.channel);
      if (tile.step_q == 1 && count >= kStore &&
          reinterpret_cast<std::uintptr_t>(target + j) % (kStore * sizeof(T)) == 0) {
        store_vec(target + j, values);
      } else {
        CUCONV_UNROLL
        for (int l = 0; l < kStore; ++l) {
          if (l < count) target[(j + l) * tile.step_q] = values.at[l];
        }
      }
    }
  }
}

template <typename T, typename Tile>
constexpr int kDepthwiseBlocks = sizeof(accumulator_t<T>) > 4 ? Tile::kWideBlocks : Tile::kBlocks;

template <typename T, typename Tile>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS_FOR(Tile::kThreads, (kDepthwiseBlocks<T, Tile>))
    depthwise_rows_kernel(ConvProblem p, DepthwiseTiling t, const T* x, const T* w, bool conjugate,
                          Epilogue<T> epilogue, T* y) {
  using Acc = accumulator_t<T>;
  auto& place = *reinterpret_cast<TilePlace*>(dynamic_shared());
  auto* places = reinterpret_cast<PlanePlace*>(&place + 1);
  auto* weights = reinterpret_cast<Acc*>(places + t.planes_a_block);  // [plane][row][residue][tap]
  Acc* patch = weights + t.planes_a_block * t.filter_size;            // [plane][row][residue][cell]

  int plane = threadIdx.x;
  const int first_q = take_last(plane, t.across) * Tile::kCols;
  const int first_p = take_last(plane, t.down) * Tile::kRows;

  for (std::int64_t tile = blockIdx.x; tile < t.tiles; tile += gridDim.x) {
    __syncthreads();  // everyone is done with the tile before
    if (static_cast<int>(threadIdx.x) < t.planes_a_block) {
      std::int64_t n = 0;
      const TilePlace found = place_of<Tile>(p, t, tile, n);
      n += threadIdx.x;
      const std::int64_t k = take_last(n, p.k);
      const std::int64_t group = take_last(n, p.groups);
      places[threadIdx.x] = {n * p.x_stride[0] + group * p.x_stride[1],
                             group * p.w_stride[0] + k * p.w_stride[1],
                             n * p.y_stride[0] + group * p.y_stride[1] + k * p.y_stride[2], group * p.k + k};
      if (threadIdx.x == 0) place = found;
    }
    __syncthreads();  // the places are known
    const int planes = place.planes;

    DepthwiseSums<Acc, Tile> sums;
    for (std::int64_t c = 0; c < p.c; ++c) {
      for (std::int64_t d = place.first_tap; d < place.last_tap; ++d) {
        const T* slice =
            x + c * p.x_stride[2] + place.slice + (d - place.first_tap) * p.dilation[0] * p.x_stride[3];
        const T* taps = w + c * p.w_stride[2] + d * p.w_stride[3];
        for (int r0 = 0; r0 < t.all_rows; r0 += t.filter_rows) {
          const int rows = t.all_rows - r0 < t.filter_rows ? t.all_rows - r0 : t.filter_rows;
          for (int s0 = 0; s0 < t.all_cols; s0 += t.filter_cols) {
            const int cols = t.all_cols - s0 < t.filter_cols ? t.all_cols - s0 : t.filter_cols;
            __syncthreads();  // everyone is done with the taps before
            const PatchRange range = {planes, (t.down * Tile::kRows - 1) * t.step_h + rows,
                                      (t.across * Tile::kCols - 1) * t.w.step + cols, place.h + r0 * t.h.unit,
                                      place.w + s0 * t.w.unit};
            if (t.vectors) {
              fetch_by_vectors(p, t, slice, places, range, Tile::kThreads, patch);
            } else {
              fetch_by_elements(p, t, slice, places, range, Tile::kThreads, patch);
            }
            fetch_taps(p, t, taps, places, planes, r0, s0, rows, cols, conjugate, Tile::kThreads, weights);
            __syncthreads();  // x and the taps are complete
            if (plane >= planes) continue;
            const Acc* line = patch + plane * t.plane_size + first_p * t.step_h * t.row_pitch;
            for (int v = 0; v < (Tile::kRows - 1) * t.step_h + rows; ++v) {
              const Acc* of_residue = weights + plane * t.filter_size;
              for (int residue = 0; residue < t.residues; ++residue) {
                sums.add_row(t, line, first_q, v, of_residue, rows,
                             (cols - residue + t.step_w - 1) / t.step_w);
                line += t.piece_pitch;
                of_residue += t.taps_pitch;
              }
            }
          }
        }
      }
    }
    if (plane < planes) store_outputs<T, Tile>(place, places[plane], first_p, first_q, sums, epilogue, y);
  }
}

}  // namespace cuconv
