// Reckoning with tiles: how much they cover, and how many a grid can have.
#pragma once

#include <cstdint>

#include "launch/conv.h"

namespace cuconv {

constexpr std::int64_t kMostGrid = (std::int64_t{1} << 31) - 1;  // blocks along x: CUDA's limit

// `size` in whole tiles.
constexpr double padded(std::int64_t size, std::int64_t tile) {
  return double(ceil_div(size, tile)) * double(tile);
}

}  // namespace cuconv
