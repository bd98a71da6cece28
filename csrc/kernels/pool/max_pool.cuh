// Maximum pooling, one thread per output:
//
//   y[n,c,o] = max over taps t of x[n, c, o*stride - pad_low + t*dilation]     (positions outside x:
//   -infinity)
//
// with, on demand, the flat position of the first maximum in the D*H*W plane. A NaN beats every number, and
// the first NaN beats the others. A window that holds nothing but -infinity names its first position; one
// that misses the input along an axis (a dilated window can) the position there that is nearest to its start.
//
// Floor: x read once, y (and 8 bytes an index) written once. Overlapping windows read x window/stride times,
// mostly from cache; the window is walked over its clipped taps, so padding costs nothing.
#pragma once

#include <cmath>

#include "device/grid.cuh"
#include "device/numeric.cuh"
#include "kernels/pool/window.cuh"

namespace cuconv {

CUCONV_DEVICE std::int64_t nearest_position(const PoolProblem& p, int axis, const Taps& taps) {
  if (taps.first < taps.last) return taps.start + taps.first * p.dilation[axis];
  if (taps.start >= p.in[axis]) return p.in[axis] - 1;
  return taps.start > 0 ? taps.start : 0;
}

template <typename T, bool kIndices>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS(kPoolThreads)
    max_pool_kernel(PoolProblem p, const T* x, T* y, std::int64_t* indices) {
  using Acc = accumulator_t<T>;
  constexpr Acc kMinusInfinity = -INFINITY;
  const std::int64_t count = p.n * p.c * p.out[0] * p.out[1] * p.out[2];

  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    const auto [out, plane, d, h, w] = window_of(p, x, i);
    Acc best = kMinusInfinity;
    std::int64_t best_index = (nearest_position(p, 0, d) * p.in[1] + nearest_position(p, 1, h)) * p.in[2] +
                              nearest_position(p, 2, w);
    for (std::int64_t t = d.first; t < d.last; ++t) {
      const std::int64_t at_d = d.start + t * p.dilation[0];
      for (std::int64_t r = h.first; r < h.last; ++r) {
        const std::int64_t at_h = h.start + r * p.dilation[1];
        const T* row = plane + at_d * p.x_stride[2] + at_h * p.x_stride[3];
        for (std::int64_t s = w.first; s < w.last; ++s) {
          const std::int64_t at_w = w.start + s * p.dilation[2];
          const Acc value = widen(row[at_w * p.x_stride[4]]);
          if (!(value <= best) && best == best) {  // greater, or the first NaN
            best = value;
            best_index = (at_d * p.in[1] + at_h) * p.in[2] + at_w;
          }
        }
      }
    }
    y[offset_of(out, p.y_stride)] = narrow<T>(best);
    if constexpr (kIndices) indices[offset_of(out, p.index_stride)] = best_index;
  }
}

}  // namespace cuconv
