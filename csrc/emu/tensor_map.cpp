#include "emu/tensor_map.h"

#include <algorithm>
#include <cstring>

#include "emu/tensor_map_content.h"

namespace cuconv::emu {
namespace {

constexpr int kInvalidValue = 1;
constexpr std::uint64_t kMarker = 0x70616d20726f736e;
constexpr int kSwizzle128 = 3;  // CUtensorMapSwizzle

thread_local std::int64_t encoded = 0;

int bytes_of(int data_type) {
  if (data_type == kFloat16 || data_type == kBfloat16) return 2;
  return data_type == kFloat32 || data_type == kTf32 ? 4 : 0;
}

bool aligned(std::uint64_t value, std::uint64_t to) { return value % to == 0; }

// What both kinds of map have; false where a limit is broken. Of the modes those that kernels use: no
// interleaving, swizzling within 128 bytes, zeros outside.
bool fill_common(TensorMapContent& c, const void* map, int data_type, std::uint32_t rank, void* address,
                 const std::uint64_t* dims, const std::uint64_t* strides,
                 const std::uint32_t* element_strides, int interleave, int swizzle, int promotion, int fill) {
  constexpr std::uint64_t kMostStride = std::uint64_t{1} << 40;
  constexpr std::uint64_t kMostSize = std::uint64_t{1} << 32;
  if (!aligned(reinterpret_cast<std::uintptr_t>(map), 64)) return false;
  if (rank < 1 || rank > kMostDims || bytes_of(data_type) == 0) return false;
  if (!aligned(reinterpret_cast<std::uintptr_t>(address), 16)) return false;
  if (interleave != 0 || swizzle != kSwizzle128 || promotion < 0 || promotion > 3 || fill != 0) return false;
  c = {};
  c.marker = kMarker;
  c.address = static_cast<std::byte*>(address);
  c.rank = static_cast<std::uint8_t>(rank);
  c.element_bytes = static_cast<std::uint8_t>(bytes_of(data_type));
  c.data_type = static_cast<std::uint8_t>(data_type);
  for (std::uint32_t i = 0; i < rank; ++i) {
    if (dims[i] < 1 || dims[i] > kMostSize) return false;
    c.last[i] = static_cast<std::uint32_t>(dims[i] - 1);
    if (i > 0 && (element_strides[i] < 1 || element_strides[i] > 8)) return false;
    c.element_stride[i] = static_cast<std::uint8_t>(i > 0 ? element_strides[i] : 1);
    if (i + 1 == rank) continue;
    if (!aligned(strides[i], 16) || strides[i] >= kMostStride || strides[i] == 0) return false;
    c.byte_stride[i] = strides[i];
  }
  return true;
}

bool fits_swizzle(const TensorMapContent& c) { return c.row_bytes() <= 128; }

int store(void* map, const TensorMapContent& c) {
  std::memcpy(map, &c, sizeof(c));
  ++encoded;
  return 0;
}

}  // namespace

std::int64_t encoded_maps() { return encoded; }

std::int64_t TensorMapContent::pixels() const {
  if (im2col) return box[1];
  std::int64_t count = 1;
  for (int i = 1; i < rank; ++i) count *= (box[i] + element_stride[i] - 1) / element_stride[i];
  return count;
}

int encode_tiled(void* map, int data_type, std::uint32_t rank, void* address, const std::uint64_t* dims,
                 const std::uint64_t* strides, const std::uint32_t* box, const std::uint32_t* element_strides,
                 int interleave, int swizzle, int promotion, int fill) {
  TensorMapContent c;
  if (!fill_common(c, map, data_type, rank, address, dims, strides, element_strides, interleave, swizzle,
                   promotion, fill)) {
    return kInvalidValue;
  }
  for (std::uint32_t i = 0; i < rank; ++i) {
    if (box[i] < 1 || box[i] > 256) return kInvalidValue;
    c.box[i] = static_cast<std::uint16_t>(box[i]);
  }
  if (!aligned(c.row_bytes(), 16) || !fits_swizzle(c)) return kInvalidValue;
  return store(map, c);
}

int encode_im2col(void* map, int data_type, std::uint32_t rank, void* address, const std::uint64_t* dims,
                  const std::uint64_t* strides, const int* lower, const int* upper, std::uint32_t channels,
                  std::uint32_t pixels, const std::uint32_t* element_strides, int interleave, int swizzle,
                  int promotion, int fill) {
  TensorMapContent c;
  if (rank < 3) return kInvalidValue;
  if (!fill_common(c, map, data_type, rank, address, dims, strides, element_strides, interleave, swizzle,
                   promotion, fill)) {
    return kInvalidValue;
  }
  c.im2col = true;
  const int reach = rank == 3 ? 1 << 15 : rank == 4 ? 1 << 7 : 1 << 4;
  for (std::uint32_t i = 0; i + 2 < rank; ++i) {
    for (const int corner : {lower[i], upper[i]}) {
      if (corner < -reach || corner >= reach) return kInvalidValue;
    }
    if (c.size(1 + static_cast<int>(i)) + upper[i] - lower[i] < 1) return kInvalidValue;  // an empty box
    c.lower[i] = static_cast<std::int16_t>(lower[i]);
    c.upper[i] = static_cast<std::int16_t>(upper[i]);
  }
  if (channels < 1 || channels > 256 || pixels < 1 || pixels > 1024) return kInvalidValue;
  c.box[0] = static_cast<std::uint16_t>(channels);
  c.box[1] = static_cast<std::uint16_t>(pixels);
  if (!aligned(c.row_bytes(), 16) || !fits_swizzle(c)) return kInvalidValue;
  return store(map, c);
}

const TensorMapContent* content_of(const void* map) {
  const auto* content = static_cast<const TensorMapContent*>(map);
  return content->marker == kMarker ? content : nullptr;
}

}  // namespace cuconv::emu
