// Grid-stride loops: any number of items over any number of blocks, counted in 64 bits.
//
//   for (std::int64_t i = first_item(); i < count; i += item_step()) ...
#pragma once

#include <cstdint>

#include "device/platform.cuh"

namespace cuconv {

CUCONV_DEVICE std::int64_t first_item() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

CUCONV_DEVICE std::int64_t item_step() { return static_cast<std::int64_t>(gridDim.x) * blockDim.x; }

}  // namespace cuconv
