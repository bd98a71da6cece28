// Elements of tensors whose type is known at run time as far as accumulators agree: one kernel in float
// serves float32, float16 and bfloat16. The branch is the same for a whole grid, and kernels are few to
// compile.
#pragma once

#include <cstdint>

#include "config.h"
#include "device/numeric.cuh"
#include "device/platform.cuh"
#include "kernels/epilogue.cuh"

namespace cuconv {

template <typename Acc>
CUCONV_DEVICE Acc load_element(const void* from, std::int64_t at, DType) {
  return static_cast<const Acc*>(from)[at];
}
template <>
CUCONV_DEVICE float load_element(const void* from, std::int64_t at, DType dtype) {
  if (dtype == DType::kFloat16) return widen(static_cast<const half_t*>(from)[at]);
  if (dtype == DType::kBfloat16) return widen(static_cast<const bfloat16_t*>(from)[at]);
  return static_cast<const float*>(from)[at];
}

template <typename Acc>
CUCONV_DEVICE void store_element(void* to, std::int64_t at, DType, Acc value) {
  static_cast<Acc*>(to)[at] = value;
}
template <>
CUCONV_DEVICE void store_element(void* to, std::int64_t at, DType dtype, float value) {
  if (dtype == DType::kFloat16) {
    static_cast<half_t*>(to)[at] = narrow<half_t>(value);
  } else if (dtype == DType::kBfloat16) {
    static_cast<bfloat16_t*>(to)[at] = narrow<bfloat16_t>(value);
  } else {
    static_cast<float*>(to)[at] = value;
  }
}

// The result's side: kernels/epilogue.cuh for such elements.
struct FftResult {
  void* y;
  const void* bias;  // null without one
  std::int64_t bias_stride;
  Activation activation;
};

template <typename Acc>
CUCONV_DEVICE void store_result(const FftResult& result, DType dtype, std::int64_t at, std::int64_t channel,
                                Acc sum) {
  if (result.bias != nullptr)
    sum = add(sum, load_element<Acc>(result.bias, channel * result.bias_stride, dtype));
  store_element(result.y, at, dtype, activate(sum, result.activation));
}

}  // namespace cuconv
