// How many blocks a grid-stride loop gets.
#pragma once

#include <algorithm>
#include <cstdint>

namespace cuconv {

// Far more blocks than any GPU holds at once, so looping costs no parallelism; few enough that a test can
// reach the second turn of the loop.
constexpr std::int64_t kMaxBlocks = 4096;

constexpr std::int64_t blocks_for(std::int64_t items, std::int64_t items_per_block) {
  return std::min(kMaxBlocks, (items - 1) / items_per_block + 1);  // items > 0
}

}  // namespace cuconv
