// The tiles of the tiled kernels of pooling: which rows lie in one piece, and how much of a plane a block
// takes.
#pragma once

#include <algorithm>
#include <cstdint>

#include "device/reduce.cuh"
#include "kernels/pool/tile.cuh"
#include "launch/launch.cuh"
#include "launch/pool_dispatch.h"

namespace cuconv {

constexpr std::int64_t kSharedLimit = 48 * 1024;  // what every GPU gives a block without asking

// Elements from one position to the next in a tensor, where its rows lie in one piece: 1 with the channels
// first, c with the channels last.
inline bool rows_step_by(std::int64_t interleave, std::int64_t c, const std::int64_t (&size)[kSpatial],
                         const std::int64_t (&stride)[5]) {
  return (interleave == 1 || steps_by(c, stride[1], 1)) && steps_by(size[2], stride[4], interleave);
}

// That of both tensors of a pooling, the larger where both will do; 0 where they have none.
inline std::int64_t interleave_of(const PoolProblem& p) {
  for (const std::int64_t interleave : {p.c, std::int64_t{1}}) {
    if (rows_step_by(interleave, p.c, p.in, p.x_stride) && rows_step_by(interleave, p.c, p.out, p.y_stride)) {
      return interleave;
    }
  }
  return 0;
}

struct Tiling {
  PoolTiles tiles;                        // but for what they are in shared memory
  std::int64_t read_rows, read_elements;  // the most that a tile reads: rows, elements of each
  std::int64_t shared_bytes;              // more than kSharedLimit where not even an element's share fits
  std::int64_t blocks, threads;
};

// The largest tile of a tensor of `size` that fits: reach(axis, count) are the positions read for `count`
// neighbours, bytes(rows, elements, sides) is what these and something for each row and element of the tile
// take in shared memory.
template <typename Reach, typename Bytes>
Tiling tiling_of(const PoolProblem& p, const std::int64_t (&size)[kSpatial], std::int64_t interleave,
                 Reach reach, Bytes bytes) {
  constexpr std::int64_t kMostOutputs = kPoolThreads * kTileOutputs;
  constexpr std::int64_t kMostAcross = 256;  // so that a tile has several rows, which share theirs
  const std::int64_t length = size[2] * interleave;
  std::int64_t across = std::min(length, kMostAcross);
  std::int64_t down = std::min(size[1], kMostOutputs / across);
  for (;;) {
    const std::int64_t columns = std::min(size[2], (across + interleave - 2) / interleave + 1);
    const std::int64_t rows = reach(1, down), elements = reach(2, columns) * interleave;
    const std::int64_t shared_bytes = bytes(rows, elements, down + across);
    if (shared_bytes > kSharedLimit && down * across > 1) {
      (down > 1 ? down : across) = ((down > 1 ? down : across) + 1) / 2;
      continue;
    }
    const std::int64_t tiles_down = (size[1] - 1) / down + 1, tiles_across = (length - 1) / across + 1;
    const std::int64_t planes = interleave == 1 ? p.c : 1;
    const auto small = [](std::int64_t value) { return static_cast<std::int32_t>(value); };
    // Whole warps, no more than the tile can feed: of small planes, more blocks then run at a time.
    const std::int64_t warps = (down * across - 1) / (kTileOutputs * kWarpSize) + 1;
    return {{small(down),
             small(across),
             small(tiles_down),
             small(tiles_across),
             small(planes),
             small(length),
             0,
             fast_divisor(interleave),
             fast_divisor(across),
             {}},
            rows,
            elements,
            shared_bytes,
            p.n * planes * size[0] * tiles_down * tiles_across,
            warps * kWarpSize};
  }
}

// Vectors that a row of so many elements touches, wherever it begins.
constexpr std::int64_t vectors_touched(std::int64_t elements, std::int64_t element_bytes) {
  const std::int64_t width = 16 / element_bytes;
  return (elements + 2 * (width - 1)) / width;
}

}  // namespace cuconv
