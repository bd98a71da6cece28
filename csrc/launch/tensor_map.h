// Tensor maps for TMA copies, made by the driver (or in emulation by its twin).
#pragma once

#include <cstdint>

#include "config.h"
#include "device/tensor_map.h"

namespace cuconv {

constexpr int kMostMapDims = 5;

// A tensor as TMA sees it, innermost dimension first; that one is contiguous.
struct MappedTensor {
  DType dtype;
  const void* address;
  int rank;
  std::int64_t size[kMostMapDims];
  std::int64_t stride[kMostMapDims];  // in elements; [0] is 1
};

// Where the pixels of a column lie: the bounding box, from `lower` past the tensor's first pixel to `upper`
// past its last, and the step along each axis, all width first.
struct PixelBox {
  int lower[3], upper[3], step[3];
  int channels, pixels;  // of a column
};

// Rows of 128 bytes, swizzled; zeros outside of the tensor. The limits of TMA are the caller's to keep: a map
// that the driver refuses throws LaunchError. tf32: float32, rounded to tf32 on the way. The driver is asked
// once for maps that are the same; the last ones are kept.
TensorMap make_tile_map(const MappedTensor& tensor, const int (&box)[kMostMapDims], bool tf32);
TensorMap make_im2col_map(const MappedTensor& tensor, const PixelBox& box, bool tf32);

}  // namespace cuconv
