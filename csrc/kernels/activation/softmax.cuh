// Softmax along one axis of arrays of any strides, one block per row:
//
//   y_i = exp(x_i - m) / sum over j of exp(x_j - m),      m = max over j of x_j
//
// Without m the exponentials would overflow. A NaN anywhere in a row, or an infinite maximum, makes the row
// NaN (m - m is NaN then). y may be x: a thread reads and writes the same elements, and writes last.
//
// Floor: x read once, y written once. The row is read three times and exponentiated twice, from cache where
// the rows in flight fit: nothing but the sums is stored, so rows may be of any length. Sums are taken in a
// fixed order. A row shorter than a block leaves threads idle; the launcher picks the block for the length.
#pragma once

#include <cmath>

#include "device/exponential.cuh"
#include "device/numeric.cuh"
#include "device/reduce.cuh"
#include "kernels/activation/strided.cuh"

namespace cuconv {

constexpr int kSoftmaxMaxThreads = 256;

template <typename T>
constexpr std::size_t kSoftmaxShared = (kSoftmaxMaxThreads / kWarpSize) * sizeof(accumulator_t<T>);

// NaN if either is, so that the order of the comparisons does not matter.
template <typename Acc>
CUCONV_DEVICE Acc maximum(Acc a, Acc b) {
  return a > b || a != a ? a : b;
}

// The value of thread 0, in every thread.
template <typename Acc>
CUCONV_DEVICE Acc broadcast_first(Acc value, Acc* slot) {
  if (threadIdx.x == 0) *slot = value;
  __syncthreads();
  value = *slot;
  __syncthreads();
  return value;
}

template <typename T>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS(kSoftmaxMaxThreads)
    softmax_kernel(SoftmaxProblem p, const T* x, T* y) {
  using Acc = accumulator_t<T>;
  auto* partial = reinterpret_cast<Acc*>(dynamic_shared());

  for (std::int64_t row = blockIdx.x; row < p.rows.count; row += gridDim.x) {
    const Offsets<2> at = offsets_of<2>(p.rows, row);
    const T* x_row = x + at.of[0];
    T* y_row = y + at.of[1];

    Acc most = -INFINITY;
    for (std::int64_t i = threadIdx.x; i < p.length; i += blockDim.x) {
      most = maximum(most, widen(x_row[i * p.x_stride]));
    }
    const auto larger = [](Acc a, Acc b) { return maximum(a, b); };
    most = broadcast_first(block_reduce(most, partial, larger), partial);

    Acc sum = Acc{0};
    for (std::int64_t i = threadIdx.x; i < p.length; i += blockDim.x) {
      sum += exponential(widen(x_row[i * p.x_stride]) - most);
    }
    sum = broadcast_first(block_sum(sum, partial), partial);

    for (std::int64_t i = threadIdx.x; i < p.length; i += blockDim.x) {
      y_row[i * p.y_stride] = narrow<T>(exponential(widen(x_row[i * p.x_stride]) - most) / sum);
    }
  }
}

}  // namespace cuconv
