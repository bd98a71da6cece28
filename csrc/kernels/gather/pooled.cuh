// Elements of x that are maxima of windows, taken as they are loaded: the pooled array is never written.
//
//   x'[row, term] = max over window taps t of x[position of (row, term) + t]     (outside x: -infinity)
//
// NaN stays. The maximum of loaded elements is one of them, so the bits are those of pooling first. Every
// tile of filters takes the maxima anew, mostly from the L1 cache: worth it where filters are few.
#pragma once

#include <cmath>

#include "device/numeric.cuh"
#include "device/vec.cuh"
#include "kernels/gather/iterator_analytic.cuh"

namespace cuconv {

// kWidth neighbours that have one position. `x` is at the row's offset. Zeros for what does not exist.
template <int kWidth, typename T>
CUCONV_DEVICE Vec<T, kWidth> load_maximum(const GatherProblem& g, const Row& row, const Term& term,
                                          const T* x) {
  using Acc = accumulator_t<T>;
  Vec<T, kWidth> result{};
  if (!term.exists || row.position[0] == kNowhere) return result;
  Acc best[kWidth];
  CUCONV_UNROLL
  for (int i = 0; i < kWidth; ++i) best[i] = -INFINITY;
  for (std::int32_t t = 0; t < g.window[0]; ++t) {
    for (std::int32_t r = 0; r < g.window[1]; ++r) {
      for (std::int32_t s = 0; s < g.window[2]; ++s) {
        const Term tap{term.x_offset + t * g.window_step[0] + r * g.window_step[1] + s * g.window_step[2],
                       0,
                       {term.position[0] + t, term.position[1] + r, term.position[2] + s},
                       true};
        if (!inside(g, row, tap)) continue;
        const Vec<T, kWidth> values = load_vec<kWidth>(x + tap.x_offset);
        CUCONV_UNROLL
        for (int i = 0; i < kWidth; ++i) {
          const Acc value = widen(values.at[i]);
          if (value > best[i] || value != value) best[i] = value;
        }
      }
    }
  }
  CUCONV_UNROLL
  for (int i = 0; i < kWidth; ++i) result.at[i] = narrow<T>(best[i]);
  return result;
}

}  // namespace cuconv
