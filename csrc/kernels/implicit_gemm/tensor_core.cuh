// Implicit GEMM on tensor cores, for float16, bfloat16, and float32 as tf32, once or three times:
//
//   y[row, filter] = act(bias[filter] + sum over terms of x[row, term] * w[filter, term])
//
// The sibling of implicit_gemm/simt.cuh: the same tiles, terms and stores, but elements stay in their own
// type in shared memory, come there by asynchronous copies, several stages ahead (sm_80), and are multiplied
// by mma instructions, 16 rows by 8 filters a warp at a time.
//
// A stage holds 64 bytes of terms. An operand lies in shared memory as it lies in global memory, so that 16
// bytes are copied at a time: by terms ([row][term]: channels last, and filters of channels last) or by rows
// ([term][row]: 1x1 kernels on channels first, weight gradients on channels last). What has neither order is
// gathered by terms. Chunks of 16 bytes change places by exclusive or with their row, which keeps both the
// copies and the fragment loads free of bank conflicts.
//
// tf32x3 splits a float32 into big + small, both tf32, and sums big*big + big*small + small*big: what it
// leaves out is 2^-22 of a product. (The idea: S. Markidis et al., NVIDIA Tensor Core Programmability,
// Performance & Precision, IPDPSW 2018.)
//
// Floor: rows * filters * terms multiply-adds of the tensor cores. A warp of 64 x 32 does sixteen mma for
// six ldmatrix.
#pragma once

#include <cstddef>

#include "config.h"
#include "device/cp_async.cuh"
#include "device/mma_sm75.cuh"
#include "device/mma_sm80.cuh"
#include "device/numeric.cuh"
#include "device/platform.cuh"
#include "device/vec.cuh"
#include "kernels/epilogue.cuh"
#include "kernels/gather/iterator_optimized.cuh"
#include "kernels/gather/pooled.cuh"
#include "kernels/implicit_gemm/block_tile.cuh"

namespace cuconv {

constexpr int kChunkBytes = 16;
constexpr int kStageBytes = 64;  // of terms

template <typename T, typename Tile>
struct TensorCoreTraits {
  static constexpr int kThreads = 32 * Tile::kWarpsM * Tile::kWarpsN;
  static constexpr int kBlockK = kStageBytes / int{sizeof(T)};
  static constexpr int kWidth = kChunkBytes / int{sizeof(T)};
  static constexpr int kTilesM = Tile::kBlockM / Tile::kWarpsM / 16;  // of mma, a warp
  static constexpr int kTilesN = Tile::kBlockN / Tile::kWarpsN / 8;
  static constexpr int kStageBytesX = Tile::kBlockM * kStageBytes;
  static constexpr int kStageBytesW = Tile::kBlockN * kStageBytes;
  static constexpr std::size_t kSharedBytes =
      Tile::kStages * (kStageBytesX + kStageBytesW + OptimizedIterator::kSharedBytes<kBlockK>);
  static_assert(kTilesN % 2 == 0, "fragments of filters are loaded for two mma at a time");
  static_assert(Tile::kStages >= 2, "one stage is multiplied while the next arrives");
};

// ---- an operand's tile in shared memory ----

template <typename T, int kRows, bool kByRows>
struct OperandTile {
  static constexpr int kWidth = kChunkBytes / int{sizeof(T)};
  static constexpr int kBlockK = kStageBytes / int{sizeof(T)};
  static constexpr int kChunks = kRows * kBlockK / kWidth;

  // Where 16 bytes lie that begin at (row, term).
  CUCONV_DEVICE static int chunk_offset(int row, int term) {
    if constexpr (kByRows) {
      const int turn = sizeof(T) == 2 ? term % 8 : term % 4 * 2;
      return term * kRows * int{sizeof(T)} + (row / kWidth ^ turn) * kChunkBytes;
    } else {
      return row * kStageBytes + (term / kWidth ^ row / 2 % 4) * kChunkBytes;
    }
  }

  struct Place {
    int row;
    int term;
  };
  // Chunk `item` of a stage; neighbouring threads take neighbours in global memory.
  CUCONV_DEVICE static Place place(Load load, int item) {
    constexpr int kChunksAcross = (kByRows ? kRows : kBlockK) / kWidth;
    if constexpr (kByRows) return {item % kChunksAcross * kWidth, item / kChunksAcross};
    if (load == Load::kTerms) return {item / kChunksAcross, item % kChunksAcross * kWidth};
    return {item % kRows, item / kRows * kWidth};
  }

  // The 16 bytes of 4-byte fragments of rows [row, row + 16) and the step's terms: registers 0, 1 of rows
  // 0 and 8 of the step's first half, 2, 3 of its second.
  CUCONV_DEVICE static void load_rows(const std::byte* tile, int row, int step, std::uint32_t (&r)[4]) {
    const int lane = threadIdx.x % 32;
    if constexpr (!kByRows) {
      ldmatrix_x4(r, tile + chunk_offset(row + lane % 16, (2 * step + lane / 16) * kWidth));
    } else if constexpr (sizeof(T) == 2) {
      ldmatrix_x4_trans(r, tile + chunk_offset(row + lane / 8 % 2 * 8, 16 * step + lane % 8 + lane / 16 * 8));
    } else {
      CUCONV_UNROLL
      for (int i = 0; i < 4; ++i)
        r[i] = element(tile, row + lane / 4 + i % 2 * 8, 8 * step + lane % 4 + i / 2 * 4);
    }
  }

  // The same for filters [row, row + 16), as two right operands: registers 0, 1 of the first eight filters.
  CUCONV_DEVICE static void load_filters(const std::byte* tile, int row, int step, std::uint32_t (&r)[4]) {
    const int lane = threadIdx.x % 32;
    if constexpr (!kByRows) {
      ldmatrix_x4(r, tile + chunk_offset(row + lane % 8 + lane / 16 * 8, (2 * step + lane / 8 % 2) * kWidth));
    } else if constexpr (sizeof(T) == 2) {
      ldmatrix_x4_trans(r, tile + chunk_offset(row + lane / 16 * 8, 16 * step + lane % 16));
    } else {
      CUCONV_UNROLL
      for (int i = 0; i < 4; ++i)
        r[i] = element(tile, row + lane / 4 + i / 2 * 8, 8 * step + lane % 4 + i % 2 * 4);
    }
  }

 private:
  CUCONV_DEVICE static std::uint32_t element(const std::byte* tile, int row, int term) {
    return *reinterpret_cast<const std::uint32_t*>(tile + chunk_offset(row, term) +
                                                   row % kWidth * int{sizeof(T)});
  }
};

// ---- what an architecture has ----

struct Sm75 {
  static constexpr bool kAsync = false;

  CUCONV_DEVICE static void multiply(float (&sum)[4], const std::uint32_t (&a)[4],
                                     const std::uint32_t (&b)[2], half_t type) {
    mma_m16n8k8(sum, {a[0], a[1]}, {b[0]}, type);
    mma_m16n8k8(sum, {a[2], a[3]}, {b[1]}, type);
  }
};

struct Sm80 {
  static constexpr bool kAsync = true;

  template <typename T>
  CUCONV_DEVICE static void multiply(float (&sum)[4], const std::uint32_t (&a)[4],
                                     const std::uint32_t (&b)[2], T type) {
    mma_m16n8k16(sum, a, b, type);
  }
};

// A float32 in two tf32. A finite number next to the largest would be rounded to infinity: it is cut instead.
CUCONV_DEVICE void split_tf32(std::uint32_t value, std::uint32_t& big, std::uint32_t& small) {
  constexpr std::uint32_t kExponent = 0x7f800000;
  constexpr std::uint32_t kDropped = 0x1fff;  // float32's bits that tf32 does not have
  big = round_to_tf32(bits_to_float(value));
  if ((big & kExponent) == kExponent && (value & kExponent) != kExponent) big = value & ~kDropped;
  small = round_to_tf32(bits_to_float(value) - bits_to_float(big));
}

// ---- one block ----

template <typename T, typename Tile, typename Arch, Precision kPrecision, bool kXByRows, bool kWByRows,
          bool kPooled>
CUCONV_DEVICE void implicit_gemm_tensor_core(const GatherProblem& g, const T* x, const T* w,
                                             const Epilogue<T>& epilogue, const Partial<float>& partial, T* y,
                                             std::int64_t block) {
  using Traits = TensorCoreTraits<T, Tile>;
  using TileX = OperandTile<T, Tile::kBlockM, kXByRows>;
  using TileW = OperandTile<T, Tile::kBlockN, kWByRows>;
  constexpr int kBlockK = Traits::kBlockK;
  constexpr int kWidth = Traits::kWidth;
  constexpr int kStages = Tile::kStages;
  constexpr int kCopiesX = TileX::kChunks / Traits::kThreads;
  constexpr int kCopiesW = TileW::kChunks / Traits::kThreads;
  static_assert(kCopiesX * Traits::kThreads == TileX::kChunks,
                "the threads copy the tile of x in whole rounds");
  static_assert(kCopiesW * Traits::kThreads == TileW::kChunks,
                "the threads copy the tile of w in whole rounds");

  std::byte* shared = dynamic_shared();
  const auto x_tile = [&](int stage) {
    return shared + stage * (Traits::kStageBytesX + Traits::kStageBytesW);
  };
  const auto w_tile = [&](int stage) { return x_tile(stage) + Traits::kStageBytesX; };
  const auto table = [&](int stage) {
    return x_tile(kStages) + stage * OptimizedIterator::kSharedBytes<kBlockK>;
  };

  const BlockTile tile = block_tile<Tile>(g, block);
  x += tile.group * g.x_group;
  w += tile.group * g.w_group;

  Row x_row[kCopiesX];
  const T* w_row[kCopiesW];  // null past the last filter
  CUCONV_UNROLL
  for (int i = 0; i < kCopiesX; ++i) {
    const auto at = TileX::place(g.x_load, threadIdx.x + i * Traits::kThreads);
    x_row[i] = OptimizedIterator::row(g, tile.row + at.row);
  }
  CUCONV_UNROLL
  for (int i = 0; i < kCopiesW; ++i) {
    const auto at = TileW::place(g.w_load, threadIdx.x + i * Traits::kThreads);
    const std::int32_t filter = tile.filter + at.row;
    w_row[i] = filter < g.filters ? w + OptimizedIterator::w_offset(g, filter) : nullptr;
  }

  // Brings 16 bytes to `target`: neighbours in memory at once, others one by one. Without asynchronous
  // copies, and where an element is too small for one, through registers.
  const auto bring = [&](std::byte* target, bool neighbours, const Term* terms, auto source_of) {
    if (neighbours) {
      const T* source = source_of(terms[0]);
      if constexpr (Arch::kAsync) {
        cp_async<16>(target, source, source != nullptr);
      } else {
        store_vec(reinterpret_cast<T*>(target), source ? load_vec<kWidth>(source) : Vec<T, kWidth>{});
      }
    } else if constexpr (Arch::kAsync && sizeof(T) == 4) {
      CUCONV_UNROLL
      for (int j = 0; j < kWidth; ++j) {
        const T* source = source_of(terms[j]);
        cp_async<4>(target + j * sizeof(T), source, source != nullptr);
      }
    } else {
      Vec<T, kWidth> values{};
      CUCONV_UNROLL
      for (int j = 0; j < kWidth; ++j) {
        if (const T* source = source_of(terms[j])) values.at[j] = *source;
      }
      store_vec(reinterpret_cast<T*>(target), values);
    }
  };
  const auto bring_stage = [&](int stage) {
    const auto* terms = reinterpret_cast<const Term*>(table(stage));
    CUCONV_UNROLL
    for (int i = 0; i < kCopiesX; ++i) {
      const auto at = TileX::place(g.x_load, threadIdx.x + i * Traits::kThreads);
      if constexpr (kPooled) {
        const T* source = x + x_row[i].offset;
        Vec<T, kWidth> values{};
        if (kXByRows || g.x_load == Load::kTerms) {
          values = load_maximum<kWidth>(g, x_row[i], terms[at.term], source);
        } else {
          CUCONV_UNROLL
          for (int j = 0; j < kWidth; ++j) {
            values.at[j] = load_maximum<1>(g, x_row[i], terms[at.term + j], source).at[0];
          }
        }
        store_vec(reinterpret_cast<T*>(x_tile(stage) + TileX::chunk_offset(at.row, at.term)), values);
        continue;
      }
      bring(x_tile(stage) + TileX::chunk_offset(at.row, at.term), kXByRows || g.x_load == Load::kTerms,
            terms + at.term, [&](const Term& term) {
              return inside(g, x_row[i], term) ? x + x_row[i].offset + term.x_offset : nullptr;
            });
    }
    CUCONV_UNROLL
    for (int i = 0; i < kCopiesW; ++i) {
      const auto at = TileW::place(g.w_load, threadIdx.x + i * Traits::kThreads);
      bring(w_tile(stage) + TileW::chunk_offset(at.row, at.term), kWByRows || g.w_load == Load::kTerms,
            terms + at.term, [&](const Term& term) {
              return w_row[i] != nullptr && term.exists ? w_row[i] + term.w_offset : nullptr;
            });
    }
  };
  const auto prepare = [&](int step) {
    OptimizedIterator::prepare<kBlockK>(g, table(step % kStages), tile.term_begin + step * kBlockK,
                                        tile.term_end, threadIdx.x);
  };

  const int warp = threadIdx.x / 32;
  const int tile_m = warp / Tile::kWarpsN * (Traits::kTilesM * 16);
  const int tile_n = warp % Tile::kWarpsN * (Traits::kTilesN * 8);

  float sum[Traits::kTilesM][Traits::kTilesN][4] = {};
  const auto multiply = [&](int stage) {
    CUCONV_UNROLL
    for (int step = 0; step < 2; ++step) {
      std::uint32_t a[Traits::kTilesM][4];
      std::uint32_t b[Traits::kTilesN][2];
      CUCONV_UNROLL
      for (int i = 0; i < Traits::kTilesM; ++i) TileX::load_rows(x_tile(stage), tile_m + i * 16, step, a[i]);
      CUCONV_UNROLL
      for (int j = 0; j < Traits::kTilesN; j += 2) {
        std::uint32_t two[4];
        TileW::load_filters(w_tile(stage), tile_n + j * 8, step, two);
        b[j][0] = two[0];
        b[j][1] = two[1];
        b[j + 1][0] = two[2];
        b[j + 1][1] = two[3];
      }
      if constexpr (kPrecision == Precision::kIeee) {
        CUCONV_UNROLL
        for (int i = 0; i < Traits::kTilesM; ++i) {
          CUCONV_UNROLL
          for (int j = 0; j < Traits::kTilesN; ++j) Arch::multiply(sum[i][j], a[i], b[j], T{});
        }
      } else {
        std::uint32_t b_small[Traits::kTilesN][2];
        CUCONV_UNROLL
        for (int j = 0; j < Traits::kTilesN; ++j) {
          CUCONV_UNROLL
          for (int e = 0; e < 2; ++e) split_tf32(b[j][e], b[j][e], b_small[j][e]);
        }
        CUCONV_UNROLL
        for (int i = 0; i < Traits::kTilesM; ++i) {
          std::uint32_t a_small[4];
          CUCONV_UNROLL
          for (int e = 0; e < 4; ++e) split_tf32(a[i][e], a[i][e], a_small[e]);
          CUCONV_UNROLL
          for (int j = 0; j < Traits::kTilesN; ++j) {
            if constexpr (kPrecision == Precision::kTf32x3) {
              // Apart from the sum, which so is rounded as often as in one pass. An infinity has no small
              // part (infinity minus infinity is NaN), and its sum needs no correction.
              float correction[4] = {};
              mma_m16n8k8_tf32(correction, a_small, b[j]);
              mma_m16n8k8_tf32(correction, a[i], b_small[j]);
              CUCONV_UNROLL
              for (int e = 0; e < 4; ++e) {
                const bool finite = correction[e] - correction[e] == 0;
                sum[i][j][e] += finite ? correction[e] : 0.f;
              }
            }
            mma_m16n8k8_tf32(sum[i][j], a[i], b[j]);
          }
        }
      }
    }
  };

  const int steps = (tile.term_end - tile.term_begin + kBlockK - 1) / kBlockK;
  if (steps > 0) {
    for (int step = 0; step < kStages; ++step) prepare(step);
    __syncthreads();  // the first tables are complete
  }
  // Steps before 0 only bring stages: one copy of the code that does is enough.
  for (int step = 1 - kStages; step < steps; ++step) {
    if (step >= 0) {
      if constexpr (Arch::kAsync) cp_async_wait<kStages - 2>();
      __syncthreads();  // this step's stage has come for everybody; the last step's and its table are free
    }
    const int ahead = step + kStages - 1;
    if (ahead < steps) {
      bring_stage(ahead % kStages);
      if (step >= 0) prepare(ahead + 1);
    }
    if constexpr (Arch::kAsync) cp_async_commit();
    if (step >= 0) multiply(step % kStages);
  }

  const int lane = threadIdx.x % 32;
  CUCONV_UNROLL
  for (int i = 0; i < Traits::kTilesM; ++i) {
    CUCONV_UNROLL
    for (int half = 0; half < 2; ++half) {
      CUCONV_UNROLL
      for (int j = 0; j < Traits::kTilesN; ++j) {
        const float piece[1][2] = {{sum[i][j][2 * half], sum[i][j][2 * half + 1]}};
        store_piece<OptimizedIterator, T>(g, tile, tile.row + tile_m + i * 16 + half * 8 + lane / 4,
                                          tile.filter + tile_n + j * 8 + lane % 4 * 2, piece, epilogue,
                                          partial, y);
      }
    }
  }
}

// ---- the kernel ----

template <typename T, typename Tile, typename Arch, Precision kPrecision, bool kXByRows, bool kWByRows>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS_FOR((TensorCoreTraits<T, Tile>::kThreads),
                                            (sizeof(T) == 2 ? Tile::kBlocks : 1))
    implicit_gemm_tensor_core_kernel(GatherProblem g, const T* x, const T* w, Epilogue<T> epilogue,
                                     Partial<float> partial, T* y) {
  implicit_gemm_tensor_core<T, Tile, Arch, kPrecision, kXByRows, kWByRows, false>(g, x, w, epilogue, partial,
                                                                                  y, blockIdx.x);
}

}  // namespace cuconv
