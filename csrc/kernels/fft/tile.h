// What a tile of a Fourier transform is, and where its elements lie in a tensor. Plain data for the kernels
// of this family.
//
// A tile is `height` rows of `width` numbers, powers of two. Both axes are transformed. Frequencies are kept
// in the order in which an in-place transform leaves them (bit-reversed): products need no other.
//
//   planes   height = width = 8 ... 128: rows are rows of the image
//   lines    height = 2, of images of one row: the rows are two neighbouring stretches of the same line
//
// Along an axis, element e of a tensor lies on a grid of stride 1 at e * step, and in tile t at
//
//   position = e * step + origin - t * tile_step,      low <= position < high
//
// so that strides and dilations are nothing but gaps between the elements, filled with zeros when loaded and
// skipped when stored.
#pragma once

#include <cstddef>
#include <cstdint>

#include "device/complex.cuh"
#include "device/index.cuh"
#include "device/numeric.cuh"
#include "kernels/fft/twiddle.h"

namespace cuconv {

// Of an accumulator: the type that spectra are kept in, and whether half of them says all (that of real
// numbers is symmetric).
template <typename Acc>
struct Spectrum {
  using Real = Acc;
  static constexpr bool kHalf = true;
};
template <typename Part>
struct Spectrum<complex_t<Part>> {
  using Real = Part;
  static constexpr bool kHalf = false;
};

struct FftShape {
  int log_height, log_width;
  int log_tiles;         // of one block
  int pitch, tile_step;  // from row to row, from tile to tile in shared memory, in complex numbers
  bool lines;
};

CUCONV_HOST_DEVICE constexpr int skewed(int column) { return column + (column >> 4); }

struct FftAxisView {
  int tile_step, origin, low, high, extent;
  FastDivisor step;

  // The element at a position of a tile; negative where there is none.
  CUCONV_DEVICE int element(int tile, int position) const {
    const int on_grid = position + tile * tile_step - origin;
    if (position < low || position >= high || on_grid < 0) return -1;
    const auto found = static_cast<int>(step.divide(static_cast<std::uint32_t>(on_grid)));
    const bool between = found * static_cast<int>(step.divisor) != on_grid;
    return between || found >= extent ? -1 : found;
  }
};

// A tensor cut into tiles. Plane m of a group is (sheet, depth, channel), channels innermost; a sheet is a
// tile of an image (or all of a filter).
struct FftPlanes {
  std::int64_t sheet_begin,
      count;  // planes of a group: sheets from the first on, times depth, times channels
  std::int64_t depth, channels;
  int tiles[2];  // of an image along each axis; stretches, of a line
  FftAxisView view[2];
  std::int64_t outer_step, group_step, channel_step, depth_step, step[2];  // in elements
};

// A plane of the block, found once by one thread.
struct FftPlane {
  std::int64_t offset;  // of its tensor's element 0, 0
  std::int64_t channel;
  int tile[2];
  bool exists;
};

// Spectra of the planes lie [group][frequency][plane].
template <typename Real>
struct FftSpectra {
  complex_t<Real>* at;
  std::int64_t frequencies, count;  // planes
};

constexpr std::size_t fft_shared_bytes(const FftShape& shape, int complex_bytes) {
  const std::size_t numbers = (std::size_t(shape.tile_step) << shape.log_tiles) + kFineRoots + kCoarseRoots;
  return numbers * std::size_t(complex_bytes) + (sizeof(FftPlane) << shape.log_tiles);
}

}  // namespace cuconv
