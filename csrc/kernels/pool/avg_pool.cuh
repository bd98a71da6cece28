// Average pooling and its gradient, one thread per element written:
//
//   y[n,c,o]  = (sum over taps t of x[n, c, o*stride - pad_low + t]) / divisor(o)     (outside x: 0)
//   gx[n,c,i] = sum over the windows o that hold i of gy[n,c,o] / divisor(o)
//
// A window's sum is that of its rows' sums. The divisor counts taps as `divisor_of` says. The gradient
// gathers: the windows over a position are a box of outputs, found by two divisions an axis, so there is
// nothing to scatter and the order of each sum is fixed.
//
// Floor: the array read and the array written, once each. Both kernels read an element window/stride times,
// mostly from cache.
#pragma once

#include "device/grid.cuh"
#include "device/numeric.cuh"
#include "kernels/pool/reduction.cuh"
#include "kernels/pool/window.cuh"

namespace cuconv {

template <typename T>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS(kPoolThreads) avg_pool_kernel(PoolProblem p, const T* x, T* y) {
  using Acc = accumulator_t<T>;
  const std::int64_t count = p.n * p.c * p.out[0] * p.out[1] * p.out[2];

  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    const auto [out, plane, d, h, w] = window_of(p, x, i);
    Acc sum{};
    for (std::int64_t t = d.first; t < d.last; ++t) {
      for (std::int64_t r = h.first; r < h.last; ++r) {
        const T* row = plane + (d.start + t) * p.x_stride[2] + (h.start + r) * p.x_stride[3];
        Acc of_row{};
        for (std::int64_t s = w.first; s < w.last; ++s) {
          of_row = add(of_row, widen(row[(w.start + s) * p.x_stride[4]]));
        }
        sum = add(sum, of_row);
      }
    }
    const std::int64_t divisor = divisor_of(p, 0, d) * divisor_of(p, 1, h) * divisor_of(p, 2, w);
    // A window that counts nothing has summed nothing: its average is 0, not 0/0.
    y[offset_of(out, p.y_stride)] = narrow<T>(divisor > 0 ? divide(sum, divisor) : sum);
  }
}

// The windows [first, last) along one axis that hold a position.
struct Windows {
  std::int64_t first;
  std::int64_t last;
};

CUCONV_DEVICE Windows windows_over(const PoolProblem& p, int axis, std::int64_t position) {
  const std::int64_t padded = position + p.pad_low[axis];
  const std::int64_t before = padded - p.window[axis];  // windows starting here or earlier end too soon
  const std::int64_t last = padded / p.stride[axis] + 1;
  return {before < 0 ? 0 : before / p.stride[axis] + 1, last < p.out[axis] ? last : p.out[axis]};
}

template <typename T>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS(kPoolThreads)
    avg_pool_grad_kernel(PoolProblem p, const T* gy, T* gx) {
  using Acc = accumulator_t<T>;
  const std::int64_t count = p.n * p.c * p.in[0] * p.in[1] * p.in[2];

  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    const Coordinate in = unflatten(i, p.c, p.in);
    const Windows z = windows_over(p, 0, in.at[0]);
    const Windows h = windows_over(p, 1, in.at[1]);
    const Windows w = windows_over(p, 2, in.at[2]);

    const T* plane = gy + in.n * p.y_stride[0] + in.c * p.y_stride[1];
    Acc sum{};
    for (std::int64_t a = z.first; a < z.last; ++a) {
      const std::int64_t divisor_d = divisor_of(p, 0, taps_of(p, 0, a));
      for (std::int64_t b = h.first; b < h.last; ++b) {
        const std::int64_t divisor_h = divisor_d * divisor_of(p, 1, taps_of(p, 1, b));
        const T* row = plane + a * p.y_stride[2] + b * p.y_stride[3];
        for (std::int64_t q = w.first; q < w.last; ++q) {
          const std::int64_t divisor = divisor_h * divisor_of(p, 2, taps_of(p, 2, q));
          sum = add(sum, divide(widen(row[q * p.y_stride[4]]), divisor));
        }
      }
    }
    gx[offset_of(in, p.x_stride)] = narrow<T>(sum);
  }
}

}  // namespace cuconv
