// Weight gradient for Hopper (sm_90a), of channels-last float16 and bfloat16:
//
//   dw[filter, tap, channel] = sum over positions of x[position, tap, channel] * dy[position, filter]
//
// The sibling of sm90.cuh: the same producer, mbarriers and wgmma, for sums that run over the positions (the
// outputs of all images), which in memory lie across both operands. A stage is 64 positions, in boxes of 64
// channels: of x each under a tap of its own, by the im2col copies of the forward kernel, and of dy by im2col
// copies of its single tap, which meet the same positions in the same order. wgmma takes both as they lie, by
// k (it transposes 16 bits alone, so there is no tf32). A row of a tile is one channel under one tap, and a
// box holds 64 of a tap: few channels do not leave the tile empty, the next box has the next tap.
//
// Sums are long and dw is small, so sums are cut into pieces (of a length that the problem decides, not the
// GPU), each of which is a tile of its own in a grid of one block a multiprocessor; split_k.cuh adds them.
//
// Past the last position both operands are zeros, and so are the products. Channels and filters past those of
// a group are another group's, or zeros: they make sums that nobody stores, so groups need no whole boxes.
//
// Floor: filters * taps * channels (padded to the tile) * positions multiply-adds of the tensor cores; x and
// dy read once, dw written once.
// Sources: as of sm90.cuh; PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions" (operands that are
// "MN-major").
#pragma once

#include <cstddef>

#include "kernels/gather/product.h"
#include "kernels/implicit_gemm/sm90.cuh"

namespace cuconv {

constexpr int kBoxChannels = 64;   // of 16 bits in a line
constexpr int kBoxPositions = 64;  // of a stage
constexpr int kBoxBytes = kBoxPositions * kLineBytes;

// Axes as everywhere: depth, height, width. Sizes are counted for one group.
struct Sm90WeightGradProblem {
  std::int32_t rank;  // of the maps of x and dy: 3 has width alone, 4 height as well, 5 all three
  std::int32_t groups;
  std::int32_t filters;
  std::int32_t channels;
  std::int32_t boxes;             // of channels, under all taps
  std::int32_t tiles_m, tiles_n;  // of a group: of boxes, of filters
  std::int32_t positions;         // outputs of the batch
  std::int32_t pieces;            // of each sum, and
  std::int32_t piece_positions;   // how long: a multiple of a stage
  FastDivisor out[kSpatial];
  std::int32_t first[kSpatial];  // where the first output reads with its first tap
  std::int32_t stride[kSpatial];
  std::int32_t taps[kSpatial];
  std::int32_t dilation[kSpatial];
  std::int64_t w_group, w_filter, w_channel;
  std::int64_t w_tap[kSpatial];
};

template <typename Tile>
struct Sm90WeightGradTraits {
  static constexpr int kThreads = (1 + kConsumers) * kWarpgroupThreads;
  static constexpr int kBoxesX = Tile::kBlockM / kBoxChannels;
  static constexpr int kBoxesDy = Tile::kBlockN / kBoxChannels;
  static constexpr int kStageBytes = (kBoxesX + kBoxesDy) * kBoxBytes;
  static constexpr std::size_t kSharedBytes = Tile::kStages * (kStageBytes + 2 * sizeof(Mbarrier));
  static constexpr int kProducerRegisters = 40;
  static constexpr int kConsumerRegisters = 232;
  static constexpr int kProductsM = kBoxesX / kConsumers;  // of a warpgroup
  static_assert(kProducerRegisters + kConsumers * kConsumerRegisters <= 3 * 168,
                "the consumers would wait for registers that nobody gives back");
  static_assert(kBoxesX == kProductsM * kConsumers && Tile::kBlockN == 128,
                "a product is of one box of x by two of dy");
  static_assert(kSharedBytes <= 227 * 1024, "what a block can have on sm_90");
};

template <typename Tile>
struct Sm90WeightGradStages {
  using Traits = Sm90WeightGradTraits<Tile>;

  CUCONV_DEVICE static std::byte* x(int stage) { return dynamic_shared() + stage * Traits::kStageBytes; }
  CUCONV_DEVICE static std::byte* dy(int stage) { return x(stage) + Traits::kBoxesX * kBoxBytes; }
  CUCONV_DEVICE static Mbarrier* full(int stage) {
    return reinterpret_cast<Mbarrier*>(x(Tile::kStages)) + stage;
  }
  CUCONV_DEVICE static Mbarrier* empty(int stage) { return full(Tile::kStages + stage); }
};

// ---- what a block computes at a time ----

struct PieceOfTile {
  std::int32_t group, box, filter;  // the tile's first
  std::int32_t piece;
  std::int32_t begin, end;  // the positions to sum
};

// Tiles of one piece side by side: they read the same positions, out of the L2 cache.
template <typename Tile>
CUCONV_DEVICE PieceOfTile piece_of_tile(const Sm90WeightGradProblem& p, std::int32_t index) {
  PieceOfTile tile;
  tile.box = take_last(index, p.tiles_m) * Sm90WeightGradTraits<Tile>::kBoxesX;
  tile.filter = take_last(index, p.tiles_n) * Tile::kBlockN;
  tile.group = take_last(index, p.groups);
  tile.piece = index;
  tile.begin = tile.piece * p.piece_positions;
  tile.end = tile.piece + 1 < p.pieces ? tile.begin + p.piece_positions : p.positions;
  return tile;
}

// 64 channels of a group from `channel` on, under one tap. Past the last box the first come again: nobody
// stores their sums, but a stage wants its bytes.
struct ChannelBox {
  std::int32_t channel;
  std::int32_t tap[kSpatial];
};

CUCONV_DEVICE ChannelBox channel_box(const Sm90WeightGradProblem& p, std::int32_t box) {
  ChannelBox b;
  b.channel = take_last(box, (p.channels + kBoxChannels - 1) / kBoxChannels) * kBoxChannels;
  CUCONV_UNROLL
  for (int axis = kSpatial - 1; axis >= 0; --axis) b.tap[axis] = take_last(box, p.taps[axis]);
  return b;
}

// ---- the producer: one thread ----

template <typename Tile>
CUCONV_DEVICE void produce_weight_grad(const Sm90WeightGradProblem& p, const TensorMap* x_map,
                                       const TensorMap* dy_map, std::int32_t tiles) {
  using Traits = Sm90WeightGradTraits<Tile>;
  using Stages = Sm90WeightGradStages<Tile>;
  StageCounter<Tile::kStages> next;
  for (std::int32_t index = blockIdx.x; index < tiles; index += gridDim.x) {
    const PieceOfTile tile = piece_of_tile<Tile>(p, index);
    ChannelBox of_x[Traits::kBoxesX];
    CUCONV_UNROLL
    for (int i = 0; i < Traits::kBoxesX; ++i) {
      of_x[i] = channel_box(p, tile.box + i);
      of_x[i].channel += tile.group * p.channels;
      CUCONV_UNROLL
      for (int axis = 0; axis < kSpatial; ++axis) of_x[i].tap[axis] *= p.dilation[axis];
    }
    for (std::int32_t position = tile.begin; position < tile.end; position += kBoxPositions) {
      Mbarrier* full = Stages::full(next.stage);
      mbarrier_wait(Stages::empty(next.stage), next.parity ^ 1);
      mbarrier_arrive_expect(full, Traits::kStageBytes);
      const OutputPosition o = output_position(p, position);
      std::int32_t at[kSpatial];
      CUCONV_UNROLL
      for (int axis = 0; axis < kSpatial; ++axis) at[axis] = p.first[axis] + o.at[axis] * p.stride[axis];
      CUCONV_UNROLL
      for (int i = 0; i < Traits::kBoxesX; ++i) {
        load_pixels(p, Stages::x(next.stage) + i * kBoxBytes, x_map, full, of_x[i].channel, at, o.image,
                    of_x[i].tap);
      }
      CUCONV_UNROLL
      for (int i = 0; i < Traits::kBoxesDy; ++i) {
        load_pixels(p, Stages::dy(next.stage) + i * kBoxBytes, dy_map, full,
                    tile.group * p.filters + tile.filter + i * kBoxChannels, o.at, o.image, {0, 0, 0});
      }
      next.advance();
    }
  }
}

// ---- the consumers ----

// Stores what a thread has of 64 channels by 128 filters: two filters of each of two channels, every eight
// filters. As pieces they are neighbours, 32 bytes a row by four lanes.
template <typename T>
CUCONV_DEVICE void store_sums(const Sm90WeightGradProblem& p, const PieceOfTile& tile, std::int32_t box,
                              const float (&sum)[64], const Partial<float>& partial, T* dw) {
  if (box >= p.boxes) return;
  const ChannelBox b = channel_box(p, box);
  const std::int32_t tap = (b.tap[0] * p.taps[1] + b.tap[1]) * p.taps[2] + b.tap[2];
  const int lane = threadIdx.x % 32;
  const std::int32_t first_filter = tile.filter + lane % 4 * 2;
  CUCONV_UNROLL
  for (int half = 0; half < 2; ++half) {
    const std::int32_t channel = b.channel + threadIdx.x / 32 % 4 * 16 + lane / 4 + 8 * half;
    if (channel >= p.channels) continue;
    const std::int64_t piece = tile.piece * partial.split_step + tile.group * partial.group_step +
                               (static_cast<std::int64_t>(tap) * p.channels + channel) * partial.row_step;
    T* target = dw + tile.group * p.w_group + channel * p.w_channel;
    CUCONV_UNROLL
    for (int axis = 0; axis < kSpatial; ++axis) target += b.tap[axis] * p.w_tap[axis];
    CUCONV_UNROLL
    for (int j = 0; j < 16; ++j) {
      const std::int32_t filter = first_filter + 8 * j;
      if (filter >= p.filters) continue;  // they are even, so the neighbour is past the end as well
      const float* two = sum + 4 * j + 2 * half;
      if (partial.sums != nullptr) {
        store_vec(partial.sums + piece + filter, Vec<float, 2>{two[0], two[1]});
      } else {
        target[filter * p.w_filter] = narrow<T>(two[0]);
        target[(filter + 1) * p.w_filter] = narrow<T>(two[1]);
      }
    }
  }
}

template <typename T, typename Tile>
CUCONV_DEVICE void consume_weight_grad(const Sm90WeightGradProblem& p, const Partial<float>& partial, T* dw,
                                       std::int32_t tiles) {
  using Traits = Sm90WeightGradTraits<Tile>;
  using Stages = Sm90WeightGradStages<Tile>;
  const int lane = threadIdx.x % 32;
  const int first_box = (threadIdx.x / kWarpgroupThreads - 1) * Traits::kProductsM;  // of the warpgroup
  StageCounter<Tile::kStages> next;
  for (std::int32_t index = blockIdx.x; index < tiles; index += gridDim.x) {
    const PieceOfTile tile = piece_of_tile<Tile>(p, index);
    const std::int32_t steps = (tile.end - tile.begin + kBoxPositions - 1) / kBoxPositions;
    float sum[Traits::kProductsM][64];
    int last = 0;
    for (std::int32_t step = 0; step < steps; ++step) {
      mbarrier_wait(Stages::full(next.stage), next.parity);
      const std::uint64_t x = wgmma_descriptor_by_k(Stages::x(next.stage) + first_box * kBoxBytes);
      const std::uint64_t dy = wgmma_descriptor_by_k(Stages::dy(next.stage));
      wgmma_fence();
      CUCONV_UNROLL
      for (int k = 0; k < kProductsK; ++k) {
        CUCONV_UNROLL
        for (int m = 0; m < Traits::kProductsM; ++m) {
          wgmma_m64n128_both_by_k(sum[m], x + m * kWgmma64Rows + k * kWgmmaStepByK, dy + k * kWgmmaStepByK,
                                  T{}, step > 0 || k > 0);
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
      store_sums(p, tile, tile.box + first_box + m, sum[m], partial, dw);
    }
  }
}

// ---- the kernel ----

template <typename T, typename Tile>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS((Sm90WeightGradTraits<Tile>::kThreads))
    weight_grad_sm90_kernel(CUCONV_GRID_CONSTANT const Sm90WeightGradProblem p,
                            CUCONV_GRID_CONSTANT const TensorMap x_map,
                            CUCONV_GRID_CONSTANT const TensorMap dy_map, Partial<float> partial, T* dw) {
  using Traits = Sm90WeightGradTraits<Tile>;
  using Stages = Sm90WeightGradStages<Tile>;
  if (threadIdx.x == 0) {
    tma_prefetch(&x_map);
    tma_prefetch(&dy_map);
    for (int stage = 0; stage < Tile::kStages; ++stage) {
      mbarrier_init(Stages::full(stage), 1);
      mbarrier_init(Stages::empty(stage), kConsumers * kWarpgroupThreads / 32);
    }
    fence_mbarrier_init();
  }
  __syncthreads();
  const std::int32_t tiles = p.pieces * p.groups * p.tiles_m * p.tiles_n;
  if (threadIdx.x < kWarpgroupThreads) {
    release_registers<Traits::kProducerRegisters>();
    if (threadIdx.x == 0) produce_weight_grad<Tile>(p, &x_map, &dy_map, tiles);
  } else {
    claim_registers<Traits::kConsumerRegisters>();
    consume_weight_grad<T, Tile>(p, partial, dw, tiles);
  }
}

}  // namespace cuconv
