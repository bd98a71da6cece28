// Bits of integers.
#pragma once

#include "device/platform.cuh"

namespace cuconv {

// The position of the highest bit of value > 0.
CUCONV_DEVICE int highest_bit(int value) {
#if defined(__CUDACC__)
  return 31 - __clz(value);
#else
  return 31 - __builtin_clz(static_cast<unsigned>(value));
#endif
}

}  // namespace cuconv
