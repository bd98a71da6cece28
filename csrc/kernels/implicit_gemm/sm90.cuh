// Implicit GEMM for Hopper (sm_90a): convolution of channels-last float16, bfloat16, and (forward alone)
// float32 as tf32:
//
//   y[row, filter] = act(bias[filter] + sum of x[row, tap, channel] * w[filter, tap, channel])
//
// The sibling of tensor_core.cuh, which gathers its operands itself and multiplies warp by warp. Here
// hardware does both. One thread of a producer warpgroup asks TMA for each stage: a tile of rows of x by 128
// bytes of channels under one tap (an im2col copy, which follows the outputs over lines and images and gives
// zeros for the padding), and the same of w. Two consumer warpgroups multiply half of the rows each, straight
// from shared memory, by asynchronous wgmma, of which one stage is always under way. Stages go round by
// mbarriers: `full` completes when the bytes of a stage have come, `empty` when all consumer warps have
// multiplied it. Registers move from the producer to the consumers. The grid is as large as the GPU; each
// block takes every so manieth tile, and the producer is stages ahead, in the next tile while the consumers
// still store the last one.
//
// Floor: rows * filters * taps * channels (padded to 128 bytes) multiply-adds of the tensor cores; x and w
// read once, y written once.
// Sources: PTX ISA, "Tensors" (im2col mode), "Asynchronous Warpgroup Level Matrix Instructions", "mbarrier",
// "setmaxnreg"; docs/hopper.md.
#pragma once

#include <cstddef>

#include "device/mbarrier_sm90.cuh"
#include "device/numeric.cuh"
#include "device/platform.cuh"
#include "device/tma_sm90.cuh"
#include "device/vec.cuh"
#include "device/wgmma_sm90.cuh"
#include "kernels/epilogue.cuh"
#include "kernels/implicit_gemm/sm90_problem.h"

namespace cuconv {

constexpr int kConsumers = 2;  // warpgroups
constexpr int kLineBytes = 128;
constexpr int kProductsK = 4;  // that a line takes

template <typename T, typename Tile>
struct Sm90Traits {
  static constexpr int kThreads = (1 + kConsumers) * kWarpgroupThreads;
  static constexpr int kBlockK = kLineBytes / int{sizeof(T)};
  static constexpr int kBytesX = Tile::kBlockM * kLineBytes;
  static constexpr int kBytesW = Tile::kBlockN * kLineBytes;
  static constexpr int kStageBytes = kBytesX + kBytesW;
  // A warp's finished sums, 16 rows of 128, on their way to y. Eight floats between rows, so that the lanes
  // of a row and of the next three write to different banks.
  static constexpr int kSumsPitch = Tile::kBlockN + 8;
  static constexpr int kSumsOfWarp = 16 * kSumsPitch;
  static constexpr int kSumsBytes = kConsumers * 4 * kSumsOfWarp * int{sizeof(float)};
  static constexpr std::size_t kSharedBytes =
      Tile::kStages * (kStageBytes + 2 * sizeof(Mbarrier)) + kSumsBytes;
  // 65536 registers are 168 for each of 384 threads, when the block starts.
  static constexpr int kProducerRegisters = 40;
  static constexpr int kConsumerRegisters = 232;
  static constexpr int kRows = Tile::kBlockM / kConsumers;  // of a warpgroup
  static constexpr int kProductsM = kRows / 64;
  static_assert(kProducerRegisters + kConsumers * kConsumerRegisters <= 3 * 168,
                "the consumers would wait for registers that nobody gives back");
  static_assert(kRows == 64 * kProductsM && Tile::kBlockN == 128, "a product is of 64 rows by 128 filters");
  static_assert(kSharedBytes <= 227 * 1024, "what a block can have on sm_90");
};

// The block's shared memory: stages, sums of each consumer warp, mbarriers.
template <typename T, typename Tile>
struct Sm90Stages {
  using Traits = Sm90Traits<T, Tile>;

  CUCONV_DEVICE static std::byte* x(int stage) { return dynamic_shared() + stage * Traits::kStageBytes; }
  CUCONV_DEVICE static std::byte* w(int stage) { return x(stage) + Traits::kBytesX; }
  CUCONV_DEVICE static float* sums(int warp) {
    return reinterpret_cast<float*>(x(Tile::kStages)) + warp * Traits::kSumsOfWarp;
  }
  CUCONV_DEVICE static Mbarrier* full(int stage) {
    return reinterpret_cast<Mbarrier*>(x(Tile::kStages) + Traits::kSumsBytes) + stage;
  }
  CUCONV_DEVICE static Mbarrier* empty(int stage) { return full(Tile::kStages + stage); }
};

// Which stage comes next, and the parity of the round that it is in.
template <int kStages>
struct StageCounter {
  int stage = 0;
  std::uint32_t parity = 0;

  CUCONV_DEVICE void advance() {
    if (++stage < kStages) return;
    stage = 0;
    parity ^= 1;
  }
};

// ---- where a row lies ----

struct OutputPosition {
  std::int32_t at[kSpatial];
  std::int32_t image;
};

template <typename Problem>
CUCONV_DEVICE OutputPosition output_position(const Problem& p, std::int32_t row) {
  OutputPosition o;
  CUCONV_UNROLL
  for (int axis = kSpatial - 1; axis >= 0; --axis) o.at[axis] = take_last(row, p.out[axis]);
  o.image = row;
  return o;
}

// ---- the producer: one thread ----

// A tile of pixels of x under one tap, from the given one on.
template <typename Problem>
CUCONV_DEVICE void load_pixels(const Problem& p, std::byte* target, const TensorMap* map, Mbarrier* bar,
                               std::int32_t channel, const std::int32_t (&at)[kSpatial], std::int32_t image,
                               const std::int32_t (&offset)[kSpatial]) {
  const auto along = [&](int axis) { return static_cast<std::uint16_t>(offset[axis]); };
  if (p.rank == 4) {
    tma_load_im2col_4d(target, map, bar, {channel, at[2], at[1], image}, {along(2), along(1)});
  } else if (p.rank == 3) {
    tma_load_im2col_3d(target, map, bar, {channel, at[2], image}, {along(2)});
  } else {
    tma_load_im2col_5d(target, map, bar, {channel, at[2], at[1], at[0], image},
                       {along(2), along(1), along(0)});
  }
}

// 128 filters of w under one tap, 128 bytes of channels. With the filters innermost it comes by 64 of them,
// for as many channels.
template <typename T, Sm90Filter kFilter>
CUCONV_DEVICE void load_filters(const Sm90Problem& p, std::byte* target, const TensorMap* map, Mbarrier* bar,
                                std::int32_t group, std::int32_t filter, std::int32_t channel,
                                const std::int32_t (&tap)[kSpatial]) {
  std::int32_t at[kSpatial];
  CUCONV_UNROLL
  for (int axis = 0; axis < kSpatial; ++axis) at[axis] = p.w_tap[axis] + tap[axis] * p.w_step[axis];
  if constexpr (kFilter == Sm90Filter::kChannelsInnermost) {
    tma_load_tile_5d(target, map, bar, {channel, at[2], at[1], at[0], group * p.filters + filter});
  } else {
    CUCONV_UNROLL
    for (int half = 0; half < 2; ++half) {
      tma_load_tile_5d(target + half * 64 * kLineBytes, map, bar,
                       {filter + half * 64, at[2], at[1], at[0], group * p.channels + channel});
    }
  }
}

template <typename T, typename Tile, Sm90Filter kFilter>
CUCONV_DEVICE void produce(const Sm90Problem& p, const TensorMap* x_map, const TensorMap* w_map,
                           std::int32_t tiles) {
  using Traits = Sm90Traits<T, Tile>;
  using Stages = Sm90Stages<T, Tile>;
  StageCounter<Tile::kStages> next;
  for (std::int32_t index = blockIdx.x; index < tiles; index += gridDim.x) {
    const Sm90Tile tile = sm90_tile<Tile::kBand>(p, index);
    const OutputPosition o = output_position(p, tile.m * Tile::kBlockM);
    std::int32_t at[kSpatial];
    CUCONV_UNROLL
    for (int axis = 0; axis < kSpatial; ++axis) at[axis] = p.first[axis] + o.at[axis] * p.stride[axis];
    // Taps inside, because neighbouring taps read nearly the same pixels.
    for (std::int32_t channel = 0; channel < p.channels; channel += Traits::kBlockK) {
      for (std::int32_t t = 0; t < p.taps[0]; ++t) {
        for (std::int32_t r = 0; r < p.taps[1]; ++r) {
          for (std::int32_t s = 0; s < p.taps[2]; ++s) {
            Mbarrier* full = Stages::full(next.stage);
            mbarrier_wait(Stages::empty(next.stage), next.parity ^ 1);
            mbarrier_arrive_expect(full, Traits::kStageBytes);
            load_pixels(p, Stages::x(next.stage), x_map, full, tile.group * p.channels + channel, at, o.image,
                        {t * p.dilation[0], r * p.dilation[1], s * p.dilation[2]});
            load_filters<T, kFilter>(p, Stages::w(next.stage), w_map, full, tile.group,
                                     tile.n * Tile::kBlockN, channel, {t, r, s});
            next.advance();
          }
        }
      }
    }
  }
}

// ---- the consumers ----

// Stores a warp's 16 rows of sums, by way of shared memory: as the tensor cores leave them, a lane has two
// neighbours of a row; as y wants them, 16 bytes.
template <typename T, typename Tile>
CUCONV_DEVICE void store_rows(const Sm90Problem& p, const Sm90Tile& tile, std::int32_t first_row,
                              const float (&sum)[64], float* staged, const Epilogue<T>& epilogue, T* y) {
  constexpr int kPitch = Sm90Traits<T, Tile>::kSumsPitch;
  constexpr int kWidth = 16 / int{sizeof(T)};
  constexpr int kLanes = Tile::kBlockN / kWidth;  // that store a row
  const int lane = threadIdx.x % 32;
  __syncwarp();  // the last tile's sums have been read
  CUCONV_UNROLL
  for (int j = 0; j < Tile::kBlockN / 8; ++j) {
    CUCONV_UNROLL
    for (int half = 0; half < 2; ++half) {
      store_vec(staged + (lane / 4 + 8 * half) * kPitch + 8 * j + lane % 4 * 2,
                Vec<float, 2>{sum[4 * j + 2 * half], sum[4 * j + 2 * half + 1]});
    }
  }
  __syncwarp();
  const std::int32_t filter = tile.n * Tile::kBlockN + lane % kLanes * kWidth;
  const std::int64_t channel = static_cast<std::int64_t>(tile.group) * p.filters + filter;
  for (int i = lane / kLanes; i < 16; i += 32 / kLanes) {
    const std::int32_t row = first_row + i;
    if (row >= p.rows || filter >= p.filters) continue;
    const OutputPosition o = output_position(p, row);
    T* target = y + o.image * p.y_image + tile.group * p.y_group + filter * p.y_filter;
    CUCONV_UNROLL
    for (int axis = 0; axis < kSpatial; ++axis) target += o.at[axis] * p.y_position[axis];
    const float* from = staged + i * kPitch + lane % kLanes * kWidth;
    if (p.y_by_vectors) {
      Vec<T, kWidth> wide;
      CUCONV_UNROLL
      for (int e = 0; e < kWidth; ++e) wide.at[e] = epilogue(from[e], channel + e);
      store_vec(target, wide);
    } else {
      for (int e = 0; e < kWidth && filter + e < p.filters; ++e) {
        target[e * p.y_filter] = epilogue(from[e], channel + e);
      }
    }
  }
}

// sum += A B for one 32-byte step of k.
template <typename T, Sm90Filter kFilter>
CUCONV_DEVICE void multiply(float (&sum)[64], std::uint64_t x, std::uint64_t w, int k, bool accumulate) {
  if constexpr (kFilter == Sm90Filter::kChannelsInnermost) {
    wgmma_m64n128(sum, x + k * kWgmmaStep, w + k * kWgmmaStep, T{}, accumulate);
  } else {
    wgmma_m64n128_by_k(sum, x + k * kWgmmaStep, w + k * kWgmmaStepByK, T{}, accumulate);
  }
}

template <typename T, typename Tile, Sm90Filter kFilter>
CUCONV_DEVICE void consume(const Sm90Problem& p, const Epilogue<T>& epilogue, T* y, std::int32_t tiles) {
  using Traits = Sm90Traits<T, Tile>;
  using Stages = Sm90Stages<T, Tile>;
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32 - kWarpgroupThreads / 32;  // of the consumers
  const int warpgroup_row = warp / 4 * Traits::kRows;
  const std::int32_t steps =
      (p.channels + Traits::kBlockK - 1) / Traits::kBlockK * p.taps[0] * p.taps[1] * p.taps[2];
  StageCounter<Tile::kStages> next;
  for (std::int32_t index = blockIdx.x; index < tiles; index += gridDim.x) {
    const Sm90Tile tile = sm90_tile<Tile::kBand>(p, index);
    float sum[Traits::kProductsM][64];
    int last = 0;
    for (std::int32_t step = 0; step < steps; ++step) {
      mbarrier_wait(Stages::full(next.stage), next.parity);
      const std::uint64_t x = wgmma_descriptor(Stages::x(next.stage) + warpgroup_row * kLineBytes);
      const std::uint64_t w = kFilter == Sm90Filter::kChannelsInnermost
                                  ? wgmma_descriptor(Stages::w(next.stage))
                                  : wgmma_descriptor_by_k(Stages::w(next.stage));
      wgmma_fence();
      CUCONV_UNROLL
      for (int k = 0; k < kProductsK; ++k) {
        CUCONV_UNROLL
        for (int m = 0; m < Traits::kProductsM; ++m) {
          multiply<T, kFilter>(sum[m], x + m * kWgmma64Rows, w, k, step > 0 || k > 0);
        }
      }
      wgmma_commit();
      wgmma_wait<1>();  // this stage is under way, the last one is done
      if (step > 0 && lane == 0) mbarrier_arrive(Stages::empty(last));
      last = next.stage;
      next.advance();
    }
    CUCONV_UNROLL
    for (int m = 0; m < Traits::kProductsM; ++m) wgmma_wait(sum[m]);
    if (lane == 0) mbarrier_arrive(Stages::empty(last));
    CUCONV_UNROLL
    for (int m = 0; m < Traits::kProductsM; ++m) {
      const std::int32_t row = tile.m * Tile::kBlockM + warpgroup_row + m * 64 + warp % 4 * 16;
      store_rows<T, Tile>(p, tile, row, sum[m], Stages::sums(warp), epilogue, y);
    }
  }
}

// ---- the kernel ----

template <typename T, typename Tile, Sm90Filter kFilter>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS((Sm90Traits<T, Tile>::kThreads))
    implicit_gemm_sm90_kernel(CUCONV_GRID_CONSTANT const Sm90Problem p,
                              CUCONV_GRID_CONSTANT const TensorMap x_map,
                              CUCONV_GRID_CONSTANT const TensorMap w_map, Epilogue<T> epilogue, T* y) {
  using Traits = Sm90Traits<T, Tile>;
  using Stages = Sm90Stages<T, Tile>;
  constexpr int kConsumerWarps = kConsumers * kWarpgroupThreads / 32;
  if (threadIdx.x == 0) {
    tma_prefetch(&x_map);
    tma_prefetch(&w_map);
    for (int stage = 0; stage < Tile::kStages; ++stage) {
      mbarrier_init(Stages::full(stage), 1);
      mbarrier_init(Stages::empty(stage), kConsumerWarps);
    }
    fence_mbarrier_init();
  }
  __syncthreads();
  const std::int32_t tiles = p.groups * p.tiles_m * p.tiles_n;
  if (threadIdx.x < kWarpgroupThreads) {
    release_registers<Traits::kProducerRegisters>();
    if (threadIdx.x == 0) produce<T, Tile, kFilter>(p, &x_map, &w_map, tiles);
  } else {
    claim_registers<Traits::kConsumerRegisters>();
    consume<T, Tile, kFilter>(p, epilogue, y, tiles);
  }
}

}  // namespace cuconv
