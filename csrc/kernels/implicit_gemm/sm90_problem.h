// A convolution as the Hopper kernel (sm90.cuh) gets it, and the order of its tiles.
//
// Forward, or a phase of the input gradient (launch/gather.h): a forward convolution of stride 1 over gy, by
// some of the filter's taps backwards, with its filters and channels changed places. `channels` are those
// that are summed over, `filters` those of the result, whichever they are to the caller.
#pragma once

#include <cstdint>

#include "device/index.cuh"
#include "problem.h"

namespace cuconv {

// Axes as everywhere: depth, height, width. Sizes are counted for one group.
struct Sm90Problem {
  std::int32_t rank;  // of the map of x: 3 has width alone, 4 height as well, 5 all three
  std::int32_t groups;
  std::int32_t rows;  // outputs of the batch
  std::int32_t filters;
  std::int32_t channels;
  std::int32_t tiles_m, tiles_n;  // of a group
  FastDivisor out[kSpatial];
  std::int32_t first[kSpatial];  // where the first output reads with its first tap
  std::int32_t stride[kSpatial];
  std::int32_t taps[kSpatial];
  std::int32_t dilation[kSpatial];
  // Where in the map of w the first tap lies, and how far on (or back) the next.
  std::int32_t w_tap[kSpatial], w_step[kSpatial];
  std::int64_t y_image, y_group, y_filter;
  std::int64_t y_position[kSpatial];
  bool y_by_vectors;  // 16 bytes of filters are neighbours in y, aligned
};

// How w lies: with the channels that are summed over innermost (forward), or with the result's.
enum class Sm90Filter { kChannelsInnermost, kFiltersInnermost };

struct Sm90Tile {
  std::int32_t group, m, n;
};

// Tile `index` of them all. Bands of kBand tiles of rows, in each all tiles of filters: what runs at a time
// is about as many tiles high as wide, so x comes from memory once and w from the L2 cache.
template <int kBand>
CUCONV_HOST_DEVICE Sm90Tile sm90_tile(const Sm90Problem& p, std::int32_t index) {
  const std::int32_t of_group = p.tiles_m * p.tiles_n;
  Sm90Tile tile;
  tile.group = index / of_group;
  const std::int32_t rest = index % of_group;
  const std::int32_t band = rest / (kBand * p.tiles_n);
  const std::int32_t in_band = rest % (kBand * p.tiles_n);
  const std::int32_t left = p.tiles_m - band * kBand;
  const std::int32_t height = left < kBand ? left : kBand;
  tile.m = band * kBand + in_band % height;
  tile.n = in_band / height;
  return tile;
}

}  // namespace cuconv
