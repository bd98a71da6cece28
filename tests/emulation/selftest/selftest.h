// One way to launch any of the selftest kernels.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "device/tensor_map.h"
#include "launch/launch.cuh"

namespace cuconv::selftest {

struct Launch {
  std::array<std::int64_t, 3> grid;
  std::array<std::int64_t, 3> block;
  std::size_t shared_bytes;
  std::uintptr_t x;
  std::uintptr_t y;
  std::uintptr_t through;
  std::int64_t argument;
  std::int64_t stride;
};

inline LaunchShape shape_of(const Launch& l) {
  return {{l.grid[0], l.grid[1], l.grid[2]}, {l.block[0], l.block[1], l.block[2]}, l.shared_bytes};
}

void launch_selftest(const std::string& name, const Launch& launch);

// Its parts in files of their own: false where the name is not one of theirs.
bool launch_async_copy(const std::string& name, const Launch& launch);
bool launch_tensor_core(const std::string& name, const Launch& launch);
bool launch_hopper(const std::string& name, const Launch& launch);

// An im2col map as cuTensorMapEncodeIm2col takes it.
struct ImageMap {
  int data_type;
  int rank;
  std::uintptr_t x;
  std::vector<std::uint64_t> dims, strides;  // strides in bytes
  std::vector<int> lower, upper;
  std::uint32_t channels, pixels;
  std::vector<std::uint32_t> steps;
  int interleave, swizzle, fill;
};

// What the emulated encoder says; and one im2col copy by the map, its bytes to y.
int encode_image(const ImageMap& image, TensorMap& map);
void launch_image_copy(const ImageMap& image, std::uintptr_t y, const std::vector<int>& at,
                       const std::vector<int>& offset);

}  // namespace cuconv::selftest
