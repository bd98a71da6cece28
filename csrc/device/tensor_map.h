// A tensor map as kernels get it: what a TMA copy reads of a tensor, and how it lies in shared memory.
// Opaque; made by launch/tensor_map.h.
#pragma once

#include <cstdint>

namespace cuconv {

struct alignas(64) TensorMap {
  std::uint64_t opaque[16];
};

}  // namespace cuconv
