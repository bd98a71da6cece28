// Implicit GEMM on CUDA cores, for every element type:
//
//   y[row, filter] = act(bias[filter] + sum over terms of x[row, term] * w[filter, term])
//
// A block computes kBlockM rows by kBlockN filters of one group, and perhaps one piece of the sum (split-K).
// It brings kBlockK terms at a time into shared memory, as accumulators, one stage while it multiplies the
// other: global loads are issued before the products and stored behind them. A warp computes a part of the
// tile, a thread kThreadM x kThreadN sums of it in pieces of four, so that shared loads are 16 bytes wide
// (float) and free of bank conflicts.
//
// Floor: rows * filters * terms multiply-adds, each element of x and w read kBlockN- and kBlockM-fold less
// often than multiplied. With 8 x 8 sums a thread loads 16 numbers from shared memory for 64 multiply-adds.
//
// Sums run over terms in order: the same bits whatever the loads and the iterator, and where sums are not cut
// into pieces whatever the tile.
// After S. Boehm, How to Optimize a CUDA Matmul Kernel for cuBLAS-like Performance, 2022 (the warp tiling).
#pragma once

#include <cstddef>

#include "device/numeric.cuh"
#include "device/platform.cuh"
#include "device/vec.cuh"
#include "kernels/epilogue.cuh"
#include "kernels/gather/pooled.cuh"
#include "kernels/gather/product.h"
#include "kernels/implicit_gemm/block_tile.cuh"

namespace cuconv {

// Sizes that follow from a tile and an element type.
template <typename T, typename Tile>
struct SimtTraits {
  using Acc = accumulator_t<T>;
  static constexpr int kThreads = 32 * Tile::kWarpsM * Tile::kWarpsN;
  static constexpr int kWarpM = Tile::kBlockM / Tile::kWarpsM;
  static constexpr int kWarpN = Tile::kBlockN / Tile::kWarpsN;
  static constexpr int kLanesM = 8;
  static constexpr int kLanesN = 4;
  static constexpr int kThreadM = kWarpM / kLanesM;
  static constexpr int kThreadN = kWarpN / kLanesN;
  // What one thread fetches at a time: neighbours, up to 16 bytes.
  static constexpr int kWidth = smaller(smaller(16 / int{sizeof(T)}, 4), Tile::kBlockK);
  static constexpr int kFetchesX = Tile::kBlockM * Tile::kBlockK / kWidth / kThreads;
  static constexpr int kFetchesW = Tile::kBlockN * Tile::kBlockK / kWidth / kThreads;
  // Four more than the tile: neighbouring terms begin in other banks.
  static constexpr int kPitchM = Tile::kBlockM + 4;
  static constexpr int kPitchN = Tile::kBlockN + 4;

  static constexpr std::size_t kOperandBytes = Tile::kBlockK * (kPitchM + kPitchN) * sizeof(Acc);
  template <typename Iterator>
  static constexpr std::size_t kSharedBytes =
      2 * (kOperandBytes + Iterator::template kSharedBytes<Tile::kBlockK>);

  static_assert(kThreadM % 4 == 0 && kThreadN % 4 == 0, "a thread's sums come in pieces of four by four");
  static_assert(kFetchesX * kWidth * kThreads == Tile::kBlockM * Tile::kBlockK,
                "the threads fetch the tile of x in whole rounds");
  static_assert(kFetchesW * kWidth * kThreads == Tile::kBlockN * Tile::kBlockK,
                "the threads fetch the tile of w in whole rounds");
};

// ---- fetching one operand's part of a stage ----

// What a thread fetches of a stage, round i: from `row` on if rows are neighbours, else from `term` on.
struct Fetch {
  int row;
  int term;
};

template <int kRows, int kTerms, int kWidth, int kThreads>
CUCONV_DEVICE Fetch fetch_of(Load load, int i) {
  const int item = threadIdx.x + i * kThreads;
  if (load == Load::kRows) return {item % (kRows / kWidth) * kWidth, item / (kRows / kWidth)};
  if (load == Load::kTerms) return {item / (kTerms / kWidth), item % (kTerms / kWidth) * kWidth};
  return {item % kRows, item / kRows * kWidth};  // neighbouring threads want neighbouring rows
}

template <int kPitch, typename T, int kWidth>
CUCONV_DEVICE void keep(const Vec<T, kWidth>& values, Load load, const Fetch& at, bool conjugate,
                        accumulator_t<T>* tile) {
  accumulator_t<T>* target = tile + at.term * kPitch + at.row;
  const int step = load == Load::kRows ? 1 : kPitch;
  CUCONV_UNROLL
  for (int j = 0; j < kWidth; ++j) target[j * step] = conjugate_if(widen(values.at[j]), conjugate);
}

// ---- one block ----

template <typename T, typename Tile, typename Iterator, bool kPooled>
CUCONV_DEVICE void implicit_gemm_simt(const GatherProblem& g, const T* x, const T* w,
                                      const Epilogue<T>& epilogue, const Partial<accumulator_t<T>>& partial,
                                      T* y, std::int64_t block) {
  using Traits = SimtTraits<T, Tile>;
  using Acc = accumulator_t<T>;
  using Values = Vec<T, Traits::kWidth>;
  constexpr int kBlockK = Tile::kBlockK;
  constexpr int kThreads = Traits::kThreads;

  // Two stages: [x tile][w tile], then two tables of terms.
  std::byte* shared = dynamic_shared();
  const auto x_tile = [&](int stage) {
    return reinterpret_cast<Acc*>(shared + stage * Traits::kOperandBytes);
  };
  const auto w_tile = [&](int stage) { return x_tile(stage) + kBlockK * Traits::kPitchM; };
  const auto table = [&](int stage) {
    return shared + 2 * Traits::kOperandBytes + stage * Iterator::template kSharedBytes<kBlockK>;
  };

  BlockTile tile = block_tile<Tile>(g, block);
  x += tile.group * g.x_group;
  w += tile.group * g.w_group;
  const std::int32_t end = tile.term_end;

  // What a thread fetches is worked out anew each time, which is cheaper than the registers to remember it.
  const auto x_fetch = [&](int i) {
    return fetch_of<Tile::kBlockM, kBlockK, Traits::kWidth, kThreads>(g.x_load, i);
  };
  const auto w_fetch = [&](int i) {
    return fetch_of<Tile::kBlockN, kBlockK, Traits::kWidth, kThreads>(g.w_load, i);
  };
  Row x_row[Traits::kFetchesX];
  const T* x_at[Traits::kFetchesX];
  CUCONV_UNROLL
  for (int i = 0; i < Traits::kFetchesX; ++i) {
    x_row[i] = Iterator::row(g, tile.row + x_fetch(i).row);
    x_at[i] = x + x_row[i].offset;
  }
  const T* w_row[Traits::kFetchesW];  // null past the last filter
  CUCONV_UNROLL
  for (int i = 0; i < Traits::kFetchesW; ++i) {
    const std::int32_t filter = tile.filter + w_fetch(i).row;
    w_row[i] = filter < g.filters ? w + Iterator::w_offset(g, filter) : nullptr;
  }

  Values x_values[Traits::kFetchesX];
  Values w_values[Traits::kFetchesW];
  const auto fetch = [&](std::int32_t begin, const void* terms) {
    CUCONV_UNROLL
    for (int i = 0; i < Traits::kFetchesX; ++i) {
      x_values[i] = Values{};
      if (g.x_load == Load::kGather) {
        CUCONV_UNROLL
        for (int j = 0; j < Traits::kWidth; ++j) {
          const Term term = Iterator::term(g, terms, begin, x_fetch(i).term + j, end);
          if constexpr (kPooled) {
            x_values[i].at[j] = load_maximum<1>(g, x_row[i], term, x_at[i]).at[0];
          } else if (inside(g, x_row[i], term)) {
            x_values[i].at[j] = x_at[i][term.x_offset];
          }
        }
      } else {
        const Term term = Iterator::term(g, terms, begin, x_fetch(i).term, end);
        if constexpr (kPooled) {
          x_values[i] = load_maximum<Traits::kWidth>(g, x_row[i], term, x_at[i]);
        } else if (inside(g, x_row[i], term)) {
          x_values[i] = load_vec<Traits::kWidth>(x_at[i] + term.x_offset);
        }
      }
    }
    CUCONV_UNROLL
    for (int i = 0; i < Traits::kFetchesW; ++i) {
      w_values[i] = Values{};
      if (g.w_load == Load::kGather) {
        CUCONV_UNROLL
        for (int j = 0; j < Traits::kWidth; ++j) {
          const Term term = Iterator::term(g, terms, begin, w_fetch(i).term + j, end);
          if (w_row[i] && term.exists) w_values[i].at[j] = w_row[i][term.w_offset];
        }
      } else {
        const Term term = Iterator::term(g, terms, begin, w_fetch(i).term, end);
        if (w_row[i] && term.exists) w_values[i] = load_vec<Traits::kWidth>(w_row[i] + term.w_offset);
      }
    }
  };
  const auto store = [&](int stage) {
    CUCONV_UNROLL
    for (int i = 0; i < Traits::kFetchesX; ++i) {
      keep<Traits::kPitchM>(x_values[i], g.x_load, x_fetch(i), g.conjugate_x, x_tile(stage));
    }
    CUCONV_UNROLL
    for (int i = 0; i < Traits::kFetchesW; ++i) {
      keep<Traits::kPitchN>(w_values[i], g.w_load, w_fetch(i), g.conjugate_w, w_tile(stage));
    }
  };

  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int tile_m = warp / Tile::kWarpsN * Traits::kWarpM + lane / Traits::kLanesN * 4;
  const int tile_n = warp % Tile::kWarpsN * Traits::kWarpN + lane % Traits::kLanesN * 4;

  Acc sum[Traits::kThreadM][Traits::kThreadN] = {};
  const auto multiply = [&](int stage) {
    CUCONV_UNROLL
    for (int k = 0; k < kBlockK; ++k) {
      const Acc* x_at = x_tile(stage) + k * Traits::kPitchM + tile_m;
      const Acc* w_at = w_tile(stage) + k * Traits::kPitchN + tile_n;
      Acc a[Traits::kThreadM];
      Acc b[Traits::kThreadN];
      CUCONV_UNROLL
      for (int i = 0; i < Traits::kThreadM; ++i) a[i] = x_at[i / 4 * 4 * Traits::kLanesM + i % 4];
      CUCONV_UNROLL
      for (int j = 0; j < Traits::kThreadN; ++j) b[j] = w_at[j / 4 * 4 * Traits::kLanesN + j % 4];
      CUCONV_UNROLL
      for (int i = 0; i < Traits::kThreadM; ++i) {
        CUCONV_UNROLL
        for (int j = 0; j < Traits::kThreadN; ++j) sum[i][j] = multiply_add(a[i], b[j], sum[i][j]);
      }
    }
  };

  const int stages = (end - tile.term_begin + kBlockK - 1) / kBlockK;
  if (stages > 0) {
    Iterator::template prepare<kBlockK>(g, table(0), tile.term_begin, end, threadIdx.x);
    Iterator::template prepare<kBlockK>(g, table(1), tile.term_begin + kBlockK, end, threadIdx.x);
    __syncthreads();  // the first tables are complete
  }
  // Stage -1 only fetches: one copy of the code that does is enough.
  for (int s = -1; s < stages; ++s) {
    const std::int32_t next = tile.term_begin + (s + 1) * kBlockK;
    if (s + 1 < stages) {
      fetch(next, table((s + 1) % 2));
      if (s >= 0) Iterator::template prepare<kBlockK>(g, table(s % 2), next + kBlockK, end, threadIdx.x);
    }
    if (s >= 0) multiply(s % 2);
    if (s + 1 < stages) store((s + 1) % 2);
    __syncthreads();  // the next stage is complete, and this one and its table are free
  }

  tile = block_tile<Tile>(g, block);  // anew, rather than remembered through the main loop
  CUCONV_UNROLL
  for (int i = 0; i < Traits::kThreadM; i += 4) {
    CUCONV_UNROLL
    for (int j = 0; j < Traits::kThreadN; j += 4) {
      const std::int32_t row = tile.row + tile_m + i * Traits::kLanesM;
      const std::int32_t filter = tile.filter + tile_n + j * Traits::kLanesN;
      Acc piece[4][4];
      CUCONV_UNROLL
      for (int a = 0; a < 4; ++a) {
        CUCONV_UNROLL
        for (int b = 0; b < 4; ++b) piece[a][b] = sum[i + a][j + b];
      }
      store_piece<Iterator, T>(g, tile, row, filter, piece, epilogue, partial, y);
    }
  }
}

// ---- the kernel ----

template <typename T, typename Tile, typename Iterator>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS_FOR((SimtTraits<T, Tile>::kThreads), Tile::kBlocks)
    implicit_gemm_simt_kernel(GatherProblem g, const T* x, const T* w, Epilogue<T> epilogue,
                              Partial<accumulator_t<T>> partial, T* y) {
  implicit_gemm_simt<T, Tile, Iterator, false>(g, x, w, epilogue, partial, y, blockIdx.x);
}

}  // namespace cuconv
