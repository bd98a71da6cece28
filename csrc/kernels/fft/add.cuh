// total += part, of the real and imaginary parts of spectra: the chunks of a weight gradient, in order.
//
// Floor: both read and one written once.
#pragma once

#include <cstdint>

#include "device/grid.cuh"
#include "device/platform.cuh"

namespace cuconv {

template <typename Real>
CUCONV_GLOBAL void fft_add_kernel(const Real* part, Real* total, std::int64_t count) {
  for (std::int64_t i = first_item(); i < count; i += item_step()) total[i] += part[i];
}

}  // namespace cuconv
