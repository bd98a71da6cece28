// What a tensor map of the emulated encoders holds.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cuconv::emu {

constexpr int kMostDims = 5;
constexpr int kFloat16 = 6, kFloat32 = 7, kBfloat16 = 9, kTf32 = 11;  // CUtensorMapDataType

// What an encoded map says. Dimension 0 is the innermost.
struct TensorMapContent {
  std::uint64_t marker;
  std::byte* address;
  std::uint64_t byte_stride[kMostDims - 1];  // of dimension 1 and up
  std::uint32_t last[kMostDims];             // each dimension's size - 1
  std::int16_t lower[3], upper[3];           // im2col: corners of the box, width first
  std::uint16_t box[kMostDims];              // im2col: channels and pixels
  std::uint8_t element_stride[kMostDims];
  std::uint8_t rank, element_bytes, data_type;
  bool im2col;

  std::int64_t size(int dim) const { return std::int64_t{last[dim]} + 1; }
  std::int64_t pixels() const;  // of a box
  int row_bytes() const { return box[0] * element_bytes; }
};
static_assert(sizeof(TensorMapContent) <= 128, "a tensor map has 128 bytes");

// The content of an encoded map; null where there is none.
const TensorMapContent* content_of(const void* map);

}  // namespace cuconv::emu
