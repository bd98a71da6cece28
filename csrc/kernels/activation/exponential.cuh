// exp in the accumulator's own precision. On the GPU: at most 2 ulp in float, 1 ulp in double (CUDA's
// tables).
#pragma once

#include <cmath>

#include "device/platform.cuh"

namespace cuconv {

CUCONV_DEVICE float exponential(float x) { return expf(x); }
CUCONV_DEVICE double exponential(double x) { return exp(x); }

}  // namespace cuconv
