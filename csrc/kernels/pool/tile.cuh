// Rows that lie in one piece, by tiles: what the tiled kernels of pooling and of its gradients share.
//
//   NCHW: a row is W elements of one channel;  NHWC: W*C elements, of which positions are C apart.
//
// A block writes `down` rows by `across` neighbouring elements of one plane, kTileOutputs elements a thread
// at the most, and reads what these need of the other tensor: a box of rows, each from its first element to
// its last, 16 bytes at a time whatever the alignment of a row; only the ends of a row come by elements. So
// three channels, odd widths and shifted pointers are as coalesced as anything.
#pragma once

#include "device/index.cuh"
#include "device/vec.cuh"
#include "kernels/pool/window.cuh"

namespace cuconv {

constexpr int kTileOutputs = 4;  // a thread

struct PoolTiles {
  std::int32_t down, across;  // a tile of the tensor written: rows, elements of a row
  std::int32_t tiles_down, tiles_across;
  std::int32_t channels;             // planes an image: 1 where channels are interleaved
  std::int32_t length, pitch;        // of a row of the tensor written; of a row in shared memory
  FastDivisor interleave;            // elements from one position to the next
  FastDivisor across_by, chunks_by;  // `across`; vectors a row read

  CUCONV_DEVICE std::int32_t column_of(std::int32_t element) const {
    return static_cast<std::int32_t>(interleave.divide(static_cast<std::uint32_t>(element)));
  }
};

// What a block writes, cut off where the tensor ends.
struct Tile {
  std::int32_t n, c, slice;
  std::int32_t row, rows;
  std::int32_t element, elements;  // of a row
};

CUCONV_DEVICE Tile tile_of_block(const PoolTiles& t, const std::int64_t (&size)[kSpatial]) {
  Tile tile;
  tile.n = static_cast<std::int32_t>(blockIdx.x);
  tile.element = take_last(tile.n, t.tiles_across) * t.across;
  tile.row = take_last(tile.n, t.tiles_down) * t.down;
  tile.slice = take_last(tile.n, static_cast<std::int32_t>(size[0]));
  tile.c = take_last(tile.n, t.channels);
  const std::int32_t rows = static_cast<std::int32_t>(size[1]) - tile.row;
  const std::int32_t elements = t.length - tile.element;
  tile.rows = rows < t.down ? rows : t.down;
  tile.elements = elements < t.across ? elements : t.across;
  return tile;
}

// Calls f(i, row, column, lane) for each element that the thread writes, its i-th; `lane` is the channel
// where they are interleaved, else 0.
template <typename F>
CUCONV_DEVICE void for_each_element(const PoolTiles& t, const Tile& tile, F f) {
  CUCONV_UNROLL
  for (int i = 0; i < kTileOutputs; ++i) {
    auto row = static_cast<std::int32_t>(threadIdx.x + i * blockDim.x);
    const std::int32_t element = take_last(row, t.across_by);
    if (row >= tile.rows || element >= tile.elements) continue;
    const std::int32_t column = t.column_of(tile.element + element);
    const auto interleave = static_cast<std::int32_t>(t.interleave.divisor);
    f(i, tile.row + row, column, tile.element + element - column * interleave);
  }
}

// How many elements past a multiple of 16 bytes an address is.
template <typename T>
CUCONV_DEVICE std::int32_t elements_past(const T* address) {
  constexpr std::uintptr_t kWidth = 16 / sizeof(T);
  return static_cast<std::int32_t>(reinterpret_cast<std::uintptr_t>(address) / sizeof(T) % kWidth);
}

// Calls take(row, at, values) for all of `rows` rows of `length` elements, `step` apart: `values` are those
// from `at` on, an aligned vector or, at the ends of a row, a single element.
template <typename T, typename Take>
CUCONV_DEVICE void for_each_vector(const T* first, std::int64_t step, std::int32_t rows, std::int32_t length,
                                   const FastDivisor& chunks_by, Take take) {
  constexpr int kWidth = 16 / int{sizeof(T)};
  const std::int32_t chunks = rows * static_cast<std::int32_t>(chunks_by.divisor);
  for (auto i = static_cast<std::int32_t>(threadIdx.x); i < chunks;
       i += static_cast<std::int32_t>(blockDim.x)) {
    std::int32_t row = i;
    const std::int32_t chunk = take_last(row, chunks_by);
    const T* source = first + row * step;
    const std::int32_t at = chunk * kWidth - elements_past(source);
    if (at >= 0 && at + kWidth <= length) {
      take(row, at, load_vec<kWidth>(source + at));
    } else {
      CUCONV_UNROLL
      for (int j = 0; j < kWidth; ++j) {
        if (at + j >= 0 && at + j < length) take(row, at + j, load_vec<1>(source + at + j));
      }
    }
  }
}

}  // namespace cuconv
