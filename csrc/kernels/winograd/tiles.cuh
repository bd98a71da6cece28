// What the Winograd kernels share: the tiles that a plane of outputs is cut into, where a tile's inputs and
// outputs lie, and how inputs are loaded. A tile is kOutputs x kOutputs outputs of one plane; it reads
// kOutputs + 2 inputs along each axis, which overlap those of its neighbours. The last tiles of a row or a
// column may reach past the outputs; what they would read past the input is zero.
#pragma once

#include <cstdint>

#include "device/index.cuh"
#include "device/numeric.cuh"
#include "device/platform.cuh"
#include "kernels/winograd/lines.cuh"
#include "problem.h"

namespace cuconv {

// Tiles of all images, by a flat index: image, depth, row, column.
struct TileGrid {
  FastDivisor columns, rows, depth;
  std::int32_t tiles;
};

// An array of transformed tiles in memory: how far apart its neighbours along each axis are.
struct FrequencySteps {
  std::int64_t point, group, channel, tile;
};

struct WinogradTile {
  std::int64_t x, y;           // offsets of its first input and output; the input may not exist
  std::int32_t row, column;    // position of its first input
  std::int32_t height, width;  // outputs that exist; none where there is no such tile
};

// The rows of a tile that reads nothing: none of them is inside.
constexpr std::int32_t kOutside = -(1 << 30);

template <int kOutputs>
CUCONV_DEVICE WinogradTile winograd_tile(const ConvProblem& p, const TileGrid& grid, std::int32_t index) {
  if (index >= grid.tiles) return {0, 0, kOutside, 0, 0, 0};
  const std::int32_t q = take_last(index, grid.columns) * kOutputs;
  const std::int32_t row = take_last(index, grid.rows) * kOutputs;
  const std::int32_t z = take_last(index, grid.depth);
  const std::int64_t n = index;
  const std::int64_t depth = z - p.pad[0];
  WinogradTile tile;
  tile.row = depth >= 0 && depth < p.in[0] ? row - static_cast<std::int32_t>(p.pad[1]) : kOutside;
  tile.column = q - static_cast<std::int32_t>(p.pad[2]);
  tile.x = n * p.x_stride[0] + depth * p.x_stride[3] + (row - p.pad[1]) * p.x_stride[4] +
           (q - p.pad[2]) * p.x_stride[5];
  tile.y = n * p.y_stride[0] + z * p.y_stride[3] + row * p.y_stride[4] + q * p.y_stride[5];
  const std::int64_t below = p.out[1] - row, right = p.out[2] - q;
  tile.height = below < kOutputs ? static_cast<std::int32_t>(below) : kOutputs;
  tile.width = right < kOutputs ? static_cast<std::int32_t>(right) : kOutputs;
  return tile;
}

// Row `r` of a tile's inputs in the channel that begins at `x`.
template <int kPoints, typename T>
CUCONV_DEVICE void load_line(const ConvProblem& p, const T* x, const WinogradTile& tile, int r,
                             accumulator_t<T> (&d)[kPoints]) {
  // One comparison for both ends: a negative position is a huge unsigned one.
  const auto inside = [](std::int32_t position, std::int64_t size) {
    return static_cast<std::uint32_t>(position) < static_cast<std::uint32_t>(size);
  };
  const bool row_inside = inside(tile.row + r, p.in[1]);
  std::int64_t offset = tile.x + r * p.x_stride[4];
  CUCONV_UNROLL
  for (int j = 0; j < kPoints; ++j, offset += p.x_stride[5]) {
    d[j] = row_inside & inside(tile.column + j, p.in[2]) ? widen(x[offset]) : accumulator_t<T>{};
  }
}

}  // namespace cuconv
