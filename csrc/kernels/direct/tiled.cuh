// Direct convolution with a shared-memory tile, the sibling of direct/naive.cuh that shares its loads.
//
//   y[n,k,o] = act(bias[k] + sum over c, t of x[n, c, o*stride - pad + t*dilation] * w[k,c,t])
//
// A block computes kTileP x kTileQ outputs of one plane for kFilters filters of one group. It walks the
// channels a few at a time, and the taps along depth one by one; each time it brings the patch of the input
// under the tile (with its halo, zeros for the padding) and the filters' slice into shared memory. A thread
// keeps kPositions outputs, kTileP / kPositions rows apart, times kFilters filters in registers: for each
// tap it loads kPositions + kFilters elements for kPositions * kFilters multiply-adds. All threads of a block
// want the same filter elements, which shared memory gives to all at once.
//
// Floor: n*k*out*c*taps multiply-adds. Predicted limit on the CUDA cores: 2 + 8 shared loads, the eight in
// two 16-byte ones for float, for 16 multiply-adds, so about three in four issue slots do arithmetic; outputs
// past the edge of the plane and filters past the last are computed and thrown away.
//
// A sum runs over channels in order, for each chunk of channels over depth taps, then channel, row, column.
#pragma once

#include <cstddef>

#include "device/index.cuh"
#include "device/numeric.cuh"
#include "device/platform.cuh"
#include "kernels/epilogue.cuh"
#include "problem.h"

namespace cuconv {

// How a launch cuts its problem up. What lies in shared memory is counted in 32 bits, which saves registers.
struct DirectTiling {
  std::int64_t tiles;         // all there are, over planes, filters and outputs
  std::int64_t tiles_p;       // tiles along the rows of a plane
  std::int64_t tiles_q;       // and along its columns
  std::int64_t filter_tiles;  // groups of kFilters filters
  int channels;               // at most so many at a time
  int rows, cols;             // of the patch under a tile
  int filter_rows, filter_cols;
  int tile_step_p, tile_step_q;  // in the patch: from an output to the next, down and across
  int tap_step_p, tap_step_q;    // from a tap to the next
};

template <typename T, typename Tile>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS(Tile::kThreads)
    direct_tiled_kernel(ConvProblem p, DirectTiling tiling, const T* x, const T* w, bool conjugate,
                        Epilogue<T> epilogue, T* y) {
  using Acc = accumulator_t<T>;
  constexpr int kFilters = Tile::kFilters;
  constexpr int kRowStep = Tile::kTileP / Tile::kPositions;
  static_assert(kRowStep * Tile::kPositions == Tile::kTileP, "a thread's positions are evenly spaced rows");
  static_assert(kRowStep * Tile::kTileQ == Tile::kThreads, "the threads cover the tile once a position");

  const int taps = tiling.filter_rows * tiling.filter_cols;
  const int patch_size = tiling.rows * tiling.cols;
  auto* weights = reinterpret_cast<Acc*>(dynamic_shared());  // [channel][row][column][filter]
  Acc* patch = weights + tiling.channels * taps * kFilters;  // [channel][row][column]

  const int tile_q = threadIdx.x % Tile::kTileQ;
  const int tile_p = threadIdx.x / Tile::kTileQ;

  for (std::int64_t tile = blockIdx.x; tile < tiling.tiles; tile += gridDim.x) {
    std::int64_t rest = tile;
    const std::int64_t q0 = take_last(rest, tiling.tiles_q) * Tile::kTileQ;
    const std::int64_t p0 = take_last(rest, tiling.tiles_p) * Tile::kTileP;
    const std::int64_t z = take_last(rest, p.out[0]);
    const std::int64_t k0 = take_last(rest, tiling.filter_tiles) * kFilters;
    const std::int64_t group = take_last(rest, p.groups);
    const std::int64_t n = rest;

    // The patch's corner in the input, in the padding perhaps.
    const std::int64_t h0 = p0 * p.stride[1] - p.pad[1];
    const std::int64_t w0 = q0 * p.stride[2] - p.pad[2];
    const Taps depth = taps_inside(z * p.stride[0] - p.pad[0], p.in[0], p.filter[0], p.dilation[0]);

    Acc sum[Tile::kPositions][kFilters] = {};
    for (std::int64_t c0 = 0; c0 < p.c; c0 += tiling.channels) {
      const int channels = static_cast<int>(p.c - c0 < tiling.channels ? p.c - c0 : tiling.channels);
      for (std::int64_t t = depth.first; t < depth.last; ++t) {
        const T* plane = x + n * p.x_stride[0] + group * p.x_stride[1] + c0 * p.x_stride[2] +
                         (depth.start + t * p.dilation[0]) * p.x_stride[3];
        for (int i = threadIdx.x; i < channels * patch_size; i += Tile::kThreads) {
          int c = i;
          const std::int64_t col = w0 + take_last(c, tiling.cols);
          const std::int64_t row = h0 + take_last(c, tiling.rows);
          const bool inside = row >= 0 && row < p.in[1] && col >= 0 && col < p.in[2];
          patch[i] =
              inside ? widen(plane[c * p.x_stride[2] + row * p.x_stride[4] + col * p.x_stride[5]]) : Acc{};
        }
        const T* slice =
            w + group * p.w_stride[0] + k0 * p.w_stride[1] + c0 * p.w_stride[2] + t * p.w_stride[3];
        for (int i = threadIdx.x; i < channels * taps * kFilters; i += Tile::kThreads) {
          int c = i;
          const int k = take_last(c, kFilters);
          const int s = take_last(c, tiling.filter_cols);
          const int r = take_last(c, tiling.filter_rows);
          const bool inside = k0 + k < p.k;
          weights[i] = inside ? conjugate_if(widen(slice[k * p.w_stride[1] + c * p.w_stride[2] +
                                                         r * p.w_stride[4] + s * p.w_stride[5]]),
                                             conjugate)
                              : Acc{};
        }
        __syncthreads();  // the patch and the filters are complete

        const Acc* weight = weights;
        const Acc* corner = patch + tile_p * tiling.tile_step_p * tiling.cols + tile_q * tiling.tile_step_q;
        for (int c = 0; c < channels; ++c, corner += patch_size) {
          const Acc* row = corner;
          for (int r = 0; r < tiling.filter_rows; ++r, row += tiling.tap_step_p * tiling.cols) {
            const Acc* at = row;
            for (int s = 0; s < tiling.filter_cols; ++s, at += tiling.tap_step_q, weight += kFilters) {
              CUCONV_UNROLL
              for (int i = 0; i < Tile::kPositions; ++i) {
                const Acc value = at[i * kRowStep * tiling.tile_step_p * tiling.cols];
                CUCONV_UNROLL
                for (int f = 0; f < kFilters; ++f) sum[i][f] = multiply_add(value, weight[f], sum[i][f]);
              }
            }
          }
        }
        __syncthreads();  // everyone is done with them before the next replace them
      }
    }

    const std::int64_t q = q0 + tile_q;
    CUCONV_UNROLL
    for (int i = 0; i < Tile::kPositions; ++i) {
      const std::int64_t row = p0 + tile_p + i * kRowStep;
      if (row >= p.out[1] || q >= p.out[2]) continue;
      T* target = y + n * p.y_stride[0] + group * p.y_stride[1] + k0 * p.y_stride[2] + z * p.y_stride[3] +
                  row * p.y_stride[4] + q * p.y_stride[5];
      CUCONV_UNROLL
      for (int f = 0; f < kFilters; ++f) {
        if (k0 + f < p.k) target[f * p.y_stride[2]] = epilogue(sum[i][f], group * p.k + k0 + f);
      }
    }
  }
}

}  // namespace cuconv
