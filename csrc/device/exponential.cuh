// exp and tanh in the accumulator's own precision. On the GPU: at most 2 ulp in float, 2 in double (the
// tables of the CUDA C++ Programming Guide).
#pragma once

#include <cmath>

#include "device/platform.cuh"

namespace cuconv {

CUCONV_DEVICE float exponential(float x) { return expf(x); }
CUCONV_DEVICE double exponential(double x) { return exp(x); }

CUCONV_DEVICE float hyperbolic_tangent(float x) { return tanhf(x); }
CUCONV_DEVICE double hyperbolic_tangent(double x) { return tanh(x); }

}  // namespace cuconv
