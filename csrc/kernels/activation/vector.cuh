// ReLU and its gradient of arrays that lie in one piece, 16 bytes a load:
//
//   relu       y  = 0 where x <= 0, else x        (so NaN stays NaN)
//   relu_grad  gx = 0 where y <= 0, else gy       (so where y is NaN the gradient passes)
//
// elementwise.cuh, the simpler sibling, takes any strides. Here all arrays begin the same number of elements
// past a multiple of 16 bytes, so that vectors of one are vectors of all; the ends before the first and after
// the last whole vector are done by elements. The output may be one of the inputs. A thread has kInFlight
// loads of each input under way before it stores.
//
// Floor: every array moved once, and nothing beyond it.
#pragma once

#include "device/grid.cuh"
#include "device/vec.cuh"
#include "kernels/activation/elementwise.cuh"

namespace cuconv {

constexpr int kInFlight = 4;

struct ReluFunction {
  template <typename T>
  CUCONV_DEVICE static T of(T x) {
    return narrow<T>(relu(widen(x)));
  }
};

struct ReluGradFunction {
  template <typename T>
  CUCONV_DEVICE static T of(T gy, T y) {
    return widen(y) <= accumulator_t<T>{0} ? narrow<T>(accumulator_t<T>{0}) : gy;
  }
};

// Element `i` of the result by elements, of which there are fewer than two vectors: before `head`, and from
// `tail` on.
struct Ends {
  std::int64_t head, tail;
};

template <typename T>
CUCONV_DEVICE Ends ends_of(const T* address, std::int64_t count) {
  constexpr std::int64_t kWidth = 16 / sizeof(T);
  const std::int64_t past = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(address) / sizeof(T));
  const std::int64_t head = (kWidth - past % kWidth) % kWidth;
  if (head >= count) return {count, count};
  return {head, head + (count - head) / kWidth * kWidth};
}

template <typename T, typename Function, typename... Inputs>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS(kElementwiseThreads)
    elementwise_vector_kernel(std::int64_t count, T* out, const Inputs*... inputs) {
  constexpr int kWidth = 16 / int{sizeof(T)};
  const auto [head, tail] = ends_of(out, count);
  const std::int64_t thread = first_item(), step = item_step();

  if (thread < head) out[thread] = Function::of(inputs[thread]...);
  if (tail + thread < count) out[tail + thread] = Function::of(inputs[tail + thread]...);

  const std::int64_t vectors = (tail - head) / kWidth;
  for (std::int64_t first = thread; first < vectors; first += kInFlight * step) {
    Vec<T, kWidth> values[kInFlight][sizeof...(Inputs)];
    CUCONV_UNROLL
    for (int i = 0; i < kInFlight; ++i) {
      const std::int64_t at = first + i * step;
      if (at >= vectors) continue;
      int k = 0;
      ((values[i][k++] = load_vec<kWidth>(inputs + head + at * kWidth)), ...);
    }
    CUCONV_UNROLL
    for (int i = 0; i < kInFlight; ++i) {
      const std::int64_t at = first + i * step;
      if (at >= vectors) continue;
      Vec<T, kWidth> result;
      CUCONV_UNROLL
      for (int j = 0; j < kWidth; ++j) {
        if constexpr (sizeof...(Inputs) == 1) {
          result.at[j] = Function::of(values[i][0].at[j]);
        } else {
          result.at[j] = Function::of(values[i][0].at[j], values[i][1].at[j]);
        }
      }
      store_vec(out + head + at * kWidth, result);
    }
  }
}

}  // namespace cuconv
