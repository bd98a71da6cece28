// The tiles of direct/tiled.cuh. Pure data; chosen by reasoning, not measured on a device yet.
#pragma once

namespace cuconv {

// Planes: a square tile has the smallest halo. Two positions by eight filters are 16 sums a thread: 112
// registers or fewer for float on sm_80 and sm_90a, 152 for the widest type.
struct DirectTile16x16 {
  static constexpr int kTileP = 16;
  static constexpr int kTileQ = 16;
  static constexpr int kPositions = 2;
  static constexpr int kFilters = 8;
  static constexpr int kThreads = kTileP * kTileQ / kPositions;
};

// Lines (1-D problems, and planes of one row): the halo is at the ends alone.
struct DirectTile1x128 {
  static constexpr int kTileP = 1;
  static constexpr int kTileQ = 128;
  static constexpr int kPositions = 1;
  static constexpr int kFilters = 8;
  static constexpr int kThreads = kTileP * kTileQ / kPositions;
};

// Channels at a time: more amortise the two barriers, fewer leave shared memory to other blocks.
constexpr int kDirectMaxChannels = 8;

// Of a multiply-add, next to the peak of the CUDA cores: ten loads of shared memory for sixteen of them.
constexpr double kDirectTiledCost = 2.4;

// What every GPU gives a block without asking; twice so many blocks fit most of them.
constexpr int kDirectSharedLimit = 48 * 1024;

}  // namespace cuconv
