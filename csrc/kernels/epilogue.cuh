// What happens to a sum before it is stored: bias, activation, one rounding to the element type.
//
//   y = act(sum + bias[channel])
//
// Activations of real numbers alone; NaN passes through all of them.
#pragma once

#include <cstdint>

#include "config.h"
#include "device/exponential.cuh"
#include "device/numeric.cuh"
#include "device/platform.cuh"

namespace cuconv {

template <typename Acc>
CUCONV_DEVICE Acc relu(Acc x) {
  return x <= Acc{0} ? Acc{0} : x;
}

// Exponentials of negative numbers alone, so nothing overflows: exp(-x) of a large negative x would.
template <typename Acc>
CUCONV_DEVICE Acc sigmoid(Acc x) {
  const Acc small = exponential(x < Acc{0} ? x : -x);
  return (x < Acc{0} ? small : Acc{1}) / (Acc{1} + small);
}

template <typename Acc>
CUCONV_DEVICE Acc activate(Acc x, Activation activation) {
  if constexpr (!is_complex_v<Acc>) {
    if (activation == Activation::kRelu) return relu(x);
    if (activation == Activation::kSigmoid) return sigmoid(x);
    if (activation == Activation::kTanh) return hyperbolic_tangent(x);
  }
  return x;
}

template <typename T>
struct Epilogue {
  const T* bias;  // one element a channel of the result, or null
  std::int64_t bias_stride;
  Activation activation;

  CUCONV_DEVICE T operator()(accumulator_t<T> sum, std::int64_t channel) const {
    if (bias != nullptr) sum = add(sum, widen(bias[channel * bias_stride]));
    return narrow<T>(activate(sum, activation));
  }

  // Of a piece of sums, whose columns are channels: the first one's number, and how many exist.
  template <int kRows, int kChannels>
  CUCONV_DEVICE void finish(const accumulator_t<T> (&sum)[kRows][kChannels], std::int64_t channel,
                            std::int32_t channels, T (&value)[kRows][kChannels]) const {
    CUCONV_UNROLL
    for (int j = 0; j < kChannels; ++j) {
      const bool biased = bias != nullptr && j < channels;
      const accumulator_t<T> offset = biased ? widen(bias[(channel + j) * bias_stride]) : accumulator_t<T>{};
      CUCONV_UNROLL
      for (int i = 0; i < kRows; ++i) {
        const accumulator_t<T> whole = biased ? add(sum[i][j], offset) : sum[i][j];
        value[i][j] = narrow<T>(activate(whole, activation));
      }
    }
  }
};

}  // namespace cuconv
