// What a block of an implicit GEMM computes, and how its sums are stored: the same for every main loop.
#pragma once

#include "device/index.cuh"
#include "device/vec.cuh"
#include "kernels/epilogue.cuh"
#include "kernels/gather/iterator_analytic.cuh"
#include "kernels/gather/product.h"

namespace cuconv {

CUCONV_HOST_DEVICE constexpr int smaller(int a, int b) { return a < b ? a : b; }

struct BlockTile {
  std::int64_t group;
  std::int32_t row, filter;  // the tile's first
  std::int32_t term_begin, term_end;
  std::int32_t split;
};

// Blocks that run side by side share their filters, and neighbouring rows overlap in the cache.
template <typename Tile>
CUCONV_DEVICE BlockTile block_tile(const GatherProblem& g, std::int64_t block) {
  const std::int64_t tiles_m = (g.row_end - g.row_begin + Tile::kBlockM - 1) / Tile::kBlockM;
  const std::int64_t tiles_n = (g.filters + Tile::kBlockN - 1) / Tile::kBlockN;
  std::int64_t rest = block;
  BlockTile tile;
  tile.row = g.row_begin + static_cast<std::int32_t>(take_last(rest, tiles_m)) * Tile::kBlockM;
  tile.filter = static_cast<std::int32_t>(take_last(rest, tiles_n)) * Tile::kBlockN;
  tile.group = take_last(rest, g.groups);
  tile.split = static_cast<std::int32_t>(rest);
  tile.term_begin = g.term_begin + tile.split * g.terms_a_split;
  const std::int32_t left = g.term_end - tile.term_begin;
  tile.term_end = left < g.terms_a_split ? g.term_end : tile.term_begin + g.terms_a_split;
  return tile;
}

// Stores a piece of kRows x kFilters sums that starts at (row, filter); what lies past the end is left out.
template <typename Iterator, typename T, int kRows, int kFilters>
CUCONV_DEVICE void store_piece(const GatherProblem& g, const BlockTile& tile, std::int32_t row,
                               std::int32_t filter, const accumulator_t<T> (&sum)[kRows][kFilters],
                               const Epilogue<T>& epilogue, const Partial<accumulator_t<T>>& partial, T* y) {
  // Before any branch, so that pieces of the same rows share it.
  std::int64_t offset[kRows];
  CUCONV_UNROLL
  for (int a = 0; a < kRows; ++a) offset[a] = Iterator::y_offset(g, row + a);
  if (row >= g.row_end || filter >= g.filters) return;
  if (partial.sums != nullptr) {
    accumulator_t<T>* target =
        partial.sums + tile.split * partial.split_step + tile.group * partial.group_step +
        static_cast<std::int64_t>(row - g.row_begin) * partial.row_step + filter * partial.filter_step;
    CUCONV_UNROLL
    for (int a = 0; a < kRows; ++a) {
      CUCONV_UNROLL
      for (int b = 0; b < kFilters; ++b) {
        if (row + a >= g.row_end || filter + b >= g.filters) continue;
        accumulator_t<T>& at = target[a * partial.row_step + b * partial.filter_step];
        at = partial.add ? add(at, sum[a][b]) : sum[a][b];
      }
    }
    return;
  }
  // Finished before it is known how they are stored: activations are long, and there is one copy of them.
  T value[kRows][kFilters];
  epilogue.finish(sum, tile.group * g.filters + filter, g.filters - filter, value);
  y += tile.group * g.y_group + filter * g.y_filter;
  constexpr int kWideRows = smaller(kRows, 16 / int{sizeof(T)});
  constexpr int kWideFilters = smaller(kFilters, 16 / int{sizeof(T)});
  if (kWideRows > 1 && g.y_store == Store::kRows) {
    CUCONV_UNROLL
    for (int b = 0; b < kFilters; ++b) {
      CUCONV_UNROLL
      for (int a = 0; a < kRows; a += kWideRows) {
        if (row + a >= g.row_end || filter + b >= g.filters) continue;
        Vec<T, kWideRows> wide;
        CUCONV_UNROLL
        for (int i = 0; i < kWideRows; ++i) wide.at[i] = value[a + i][b];
        store_vec(y + offset[a] + b * g.y_filter, wide);
      }
    }
    return;
  }
  CUCONV_UNROLL
  for (int a = 0; a < kRows; ++a) {
    if (row + a >= g.row_end) continue;
    T* target = y + offset[a];
    if (g.y_store == Store::kFilters) {
      CUCONV_UNROLL
      for (int b = 0; b < kFilters; b += kWideFilters) {
        if (filter + b >= g.filters) continue;
        Vec<T, kWideFilters> wide;
        CUCONV_UNROLL
        for (int i = 0; i < kWideFilters; ++i) wide.at[i] = value[a][b + i];
        store_vec(target + b, wide);
      }
    } else {
      CUCONV_UNROLL
      for (int b = 0; b < kFilters; ++b) {
        if (filter + b < g.filters) target[b * g.y_filter] = value[a][b];
      }
    }
  }
}

}  // namespace cuconv
