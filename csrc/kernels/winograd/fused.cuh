// Winograd's F(m x m, 3x3) in one kernel: transformed inputs and products never leave the block.
//
//   y[tile, k] = act(bias[k] + A^T [ sum over c of u[c, k] * (B^T x[tile, c] B) ] A)
//
// with filters u = G w G^T that winograd_filter_kernel has written, [point][group][c][k].
//
// A block computes kTiles tiles by kFilters filters of one group, at all (m + 2)^2 frequencies. It goes over
// the channels kChannels at a time: (1) each thread loads rows of inputs and transforms them along the row;
// filters are copied; (2) each thread transforms columns, in place; (3) each warp multiplies at its own few
// frequencies, a thread kThreadM x kThreadN sums of each. In the end the sums go back through shared memory,
// some filters at a time: (4) rows of products are transformed in place, and (5) columns, which are outputs.
//
// Simpler than it could be: a stage is loaded when the last is done with, and it is the other block of the
// multiprocessor that multiplies meanwhile. Unlike the staged form (transform.cuh) it needs no memory but the
// filters', but every tile of filters transforms the inputs anew, and larger tiles of them do not fit the
// registers.
//
// Floor: (m + 2)^2 / m^2 multiply-adds an output, channel and filter (4 or 2.25 instead of 9), and for each
// transformed input some 15 instructions. x is read (m + 2)^2 / m^2 times for every kFilters filters,
// mostly from caches; u by every block, from L2; y is written once.
//
// Sums run over the channels in order, so the bits are those of the staged form.
// After A. Lavin and S. Gray, arXiv:1509.09308, section 5; frequencies by warps as in D. Yan, W. Wang and X.
// Chu, Optimizing batched Winograd convolution on GPUs, PPoPP 2020.
#pragma once

#include <cstddef>

#include "device/vec.cuh"
#include "kernels/epilogue.cuh"
#include "kernels/winograd/tiles.cuh"

namespace cuconv {

// Neighbouring threads load neighbouring tiles or channels: how far to shift a thread's number for either.
struct PairOrder {
  int tile_shift, channel_shift;
};

// Where a block begins. Neighbouring blocks read the same inputs.
struct FusedBlock {
  std::int32_t group, filter, tile;
};

template <int kTiles>
struct alignas(16) FusedTable {
  WinogradTile tile[kTiles];
  FusedBlock block;
};

template <typename Tile>
CUCONV_DEVICE FusedBlock fused_block(const ConvProblem& p, std::int64_t block) {
  const std::int64_t filter = take_last(block, (p.k + Tile::kFilters - 1) / Tile::kFilters) * Tile::kFilters;
  const std::int64_t group = take_last(block, p.groups);
  return {static_cast<std::int32_t>(group), static_cast<std::int32_t>(filter),
          static_cast<std::int32_t>(block * Tile::kTiles)};
}

// Sizes that follow from a tile and an element type.
template <typename T, typename Tile>
struct WinogradTraits {
  using Acc = accumulator_t<T>;
  using Line = WinogradLine<Tile::kOutputs>;
  static constexpr int kPoints = Line::kPoints * Line::kPoints;
  static constexpr int kThreads = 32 * Tile::kWarps;
  static constexpr int kPointsAWarp = kPoints / Tile::kWarps;
  static constexpr int kLanesM = Tile::kLanesM;
  static constexpr int kLanesN = 32 / kLanesM;
  static constexpr int kThreadM = Tile::kTiles / kLanesM;
  static constexpr int kThreadN = Tile::kFilters / kLanesN;
  // Four more than the tile: neighbouring channels begin in other banks.
  static constexpr int kPitchM = Tile::kTiles + 4;
  static constexpr int kPitchN = Tile::kFilters + 4;
  // A stage: inputs [point][channel][tile], filters [point][channel][filter].
  static constexpr int kInputs = kPoints * Tile::kChannels * kPitchM;
  static constexpr int kStage = kInputs + kPoints * Tile::kChannels * kPitchN;
  // Filters whose products are finished at a time: [point][filter][tile].
  static constexpr int kFinished = kLanesN * Tile::kFinished;
  static constexpr int kProducts = kPoints * kFinished * kPitchM;
  static constexpr std::size_t kTableBytes = sizeof(FusedTable<Tile::kTiles>);
  static constexpr std::size_t kSharedBytes =
      kTableBytes + (kStage > kProducts ? kStage : kProducts) * sizeof(Acc);

  static_assert(kPointsAWarp * Tile::kWarps == kPoints, "every warp has as many frequencies");
  static_assert(kThreadM % 4 == 0 && kThreadN == 4, "a thread's sums come in pieces of four by four");
  static_assert(Tile::kTiles <= kThreads, "a thread works out where a tile lies");
};

template <typename T, typename Tile>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS_FOR((WinogradTraits<T, Tile>::kThreads), Tile::kBlocks)
    winograd_fused_kernel(ConvProblem p, TileGrid grid, std::int64_t padded_k, PairOrder order, const T* x,
                          const accumulator_t<T>* u, Epilogue<T> epilogue, T* y) {
  using Traits = WinogradTraits<T, Tile>;
  using Line = typename Traits::Line;
  using Acc = typename Traits::Acc;
  constexpr int kLine = Line::kPoints;
  constexpr int kTiles = Tile::kTiles;
  constexpr int kChannels = Tile::kChannels;
  constexpr int kPairs = kTiles * kChannels;
  constexpr int kFinishing = kTiles * Traits::kFinished;

  std::byte* shared = dynamic_shared();
  auto* table = reinterpret_cast<FusedTable<kTiles>*>(shared);
  auto* inputs = reinterpret_cast<Acc*>(shared + Traits::kTableBytes);
  Acc* filters = inputs + Traits::kInputs;
  Acc* products = inputs;

  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int lane_m = lane / Traits::kLanesN * 4;
  const int lane_n = lane % Traits::kLanesN;

  // Where the block and its tiles lie is looked up in shared memory: registers are for sums.
  if (threadIdx.x < kTiles) {
    const FusedBlock block = fused_block<Tile>(p, blockIdx.x);
    WinogradTile tile = winograd_tile<Tile::kOutputs>(p, grid, block.tile + static_cast<int>(threadIdx.x));
    tile.x += block.group * p.x_stride[1];
    tile.y += block.group * p.y_stride[1];
    table->tile[threadIdx.x] = tile;
    if (threadIdx.x == 0) table->block = block;
  }
  __syncthreads();  // the table is complete

  Acc sum[Traits::kPointsAWarp][Traits::kThreadM][Traits::kThreadN] = {};
  for (std::int32_t c0 = 0; c0 < p.c; c0 += kChannels) {
    const int channels = p.c - c0 < kChannels ? static_cast<int>(p.c) - c0 : kChannels;
    for (int item = threadIdx.x; item < kPairs * kLine; item += Traits::kThreads) {
      const int pair = item % kPairs;
      const int r = item / kPairs;
      const int tile = pair >> order.tile_shift & (kTiles - 1);
      const int c = pair >> order.channel_shift & (kChannels - 1);
      Acc d[kLine] = {}, line[kLine];
      if (c0 + c < p.c) {
        load_line(p, x + (c0 + c) * p.x_stride[2], table->tile[tile], r, d);
      }
      Line::input(d, line);
      Acc* target = inputs + (r * kLine * kChannels + c) * Traits::kPitchM + tile;
      CUCONV_UNROLL
      for (int j = 0; j < kLine; ++j) target[j * kChannels * Traits::kPitchM] = line[j];
    }
    constexpr int kVectors = Tile::kFilters / 4;
    for (int item = threadIdx.x; item < Traits::kPoints * kChannels * kVectors; item += Traits::kThreads) {
      const int k = item % kVectors * 4;
      const int row = item / kVectors;
      const std::int32_t c = c0 + row % kChannels;
      Vec<Acc, 4> values = {};
      if (c < p.c && table->block.filter + k < padded_k) {
        values = load_vec<4>(u + ((row / kChannels * p.groups + table->block.group) * p.c + c) * padded_k +
                             table->block.filter + k);
      }
      store_vec(filters + row * Traits::kPitchN + k, values);
    }
    __syncthreads();  // rows and filters are there

    for (int item = threadIdx.x; item < kPairs * kLine; item += Traits::kThreads) {
      const int tile = item % kTiles;
      const int c = item / kTiles % kChannels;
      const int j = item / kPairs;
      Acc d[kLine], column[kLine];
      Acc* line = inputs + (j * kChannels + c) * Traits::kPitchM + tile;
      constexpr int kStep = kLine * kChannels * Traits::kPitchM;
      CUCONV_UNROLL
      for (int r = 0; r < kLine; ++r) d[r] = line[r * kStep];
      Line::input(d, column);
      CUCONV_UNROLL
      for (int r = 0; r < kLine; ++r) line[r * kStep] = column[r];
    }
    __syncthreads();  // the inputs are transformed

    const int first = warp * Traits::kPointsAWarp * kChannels;
    const Acc* a_at = inputs + first * Traits::kPitchM + lane_m;
    const Acc* b_at = filters + first * Traits::kPitchN + lane_n * 4;
    for (int c = 0; c < channels; ++c, a_at += Traits::kPitchM, b_at += Traits::kPitchN) {
      CUCONV_UNROLL
      for (int i = 0; i < Traits::kPointsAWarp; ++i) {
        Acc a[Traits::kThreadM];
        CUCONV_UNROLL
        for (int m = 0; m < Traits::kThreadM; m += 4) {
          const auto four = load_vec<4>(a_at + i * kChannels * Traits::kPitchM + m * Traits::kLanesM);
          CUCONV_UNROLL
          for (int e = 0; e < 4; ++e) a[m + e] = four.at[e];
        }
        const auto b = load_vec<4>(b_at + i * kChannels * Traits::kPitchN);
        CUCONV_UNROLL
        for (int m = 0; m < Traits::kThreadM; ++m) {
          CUCONV_UNROLL
          for (int n = 0; n < Traits::kThreadN; ++n) {
            sum[i][m][n] = multiply_add(a[m], b.at[n], sum[i][m][n]);
          }
        }
      }
    }
    __syncthreads();  // everyone is done with the stage
  }

  // Some of each thread's filters at a time.
  CUCONV_UNROLL
  for (int n0 = 0; n0 < Traits::kThreadN; n0 += Tile::kFinished) {
    CUCONV_UNROLL
    for (int i = 0; i < Traits::kPointsAWarp; ++i) {
      CUCONV_UNROLL
      for (int n = 0; n < Tile::kFinished; ++n) {
        const int row = (warp * Traits::kPointsAWarp + i) * Traits::kFinished + n * Traits::kLanesN + lane_n;
        CUCONV_UNROLL
        for (int m = 0; m < Traits::kThreadM; m += 4) {
          const auto value = [&](int e) { return sum[i][m + e][n0 + n]; };
          store_vec(products + row * Traits::kPitchM + lane_m + m * Traits::kLanesM,
                    Vec<Acc, 4>{value(0), value(1), value(2), value(3)});
        }
      }
    }
    __syncthreads();  // these filters' products are there
    for (int item = threadIdx.x; item < kFinishing * kLine; item += Traits::kThreads) {
      Acc* line =
          products +
          (item / kFinishing * kLine * Traits::kFinished + item % kFinishing / kTiles) * Traits::kPitchM +
          item % kTiles;
      Acc m[kLine], row[Tile::kOutputs];
      CUCONV_UNROLL
      for (int j = 0; j < kLine; ++j) m[j] = line[j * Traits::kFinished * Traits::kPitchM];
      Line::output(m, row);
      CUCONV_UNROLL
      for (int j = 0; j < Tile::kOutputs; ++j) line[j * Traits::kFinished * Traits::kPitchM] = row[j];
    }
    __syncthreads();  // their rows are transformed
    for (int item = threadIdx.x; item < kFinishing * Tile::kOutputs; item += Traits::kThreads) {
      const int j = item / kFinishing;
      const int filter = item % kFinishing / kTiles;
      const std::int32_t k =
          table->block.filter + filter % Traits::kLanesN * 4 + n0 + filter / Traits::kLanesN;
      const WinogradTile& tile = table->tile[item % kTiles];
      if (k >= p.k || j >= tile.width) continue;
      const Acc* line = products + (j * Traits::kFinished + filter) * Traits::kPitchM + item % kTiles;
      Acc m[kLine], column[Tile::kOutputs];
      CUCONV_UNROLL
      for (int r = 0; r < kLine; ++r) m[r] = line[r * kLine * Traits::kFinished * Traits::kPitchM];
      Line::output(m, column);
      T* target = y + k * p.y_stride[2] + tile.y + j * p.y_stride[5];
      CUCONV_UNROLL
      for (int i = 0; i < Tile::kOutputs; ++i) {
        if (i < tile.height) target[i * p.y_stride[4]] = epilogue(column[i], table->block.group * p.k + k);
      }
    }
    __syncthreads();  // everyone is done with them
  }
}

}  // namespace cuconv
