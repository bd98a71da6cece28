// One axis of a convolution with its dilation taken apart, for kernels that slide a window of registers.
//
// Output o reads positions o*stride - pad + t*dilation. With g = gcd(stride, dilation), the outputs
// b, b + dilation/g, b + 2*dilation/g, ... (a *phase*) are a convolution without dilation over every
// dilation-th position: output a of phase b reads
//
//   start(b) + (a*step + t) * unit      start(b) = b*stride - pad,  step = stride/g,  unit = dilation
//
// so that neighbouring outputs of a phase share all positions but `step`.
#pragma once

#include <cstdint>

#include "device/platform.cuh"
#include "problem.h"

namespace cuconv {

struct TapAxis {
  std::int64_t phases;  // outputs of one phase are so far apart
  std::int64_t unit;    // positions from a tap to the next
  std::int64_t step;    // taps from an output of a phase to the next
};

// Outputs of phase b, of `out` in all.
CUCONV_HOST_DEVICE std::int64_t outputs_of_phase(const TapAxis& axis, std::int64_t out, std::int64_t phase) {
  return (out - 1 - phase) / axis.phases + 1;
}

}  // namespace cuconv
