// Element-wise functions of arrays of any one shape and any strides, one thread per element:
//
//   relu       y  = 0 where x <= 0, else x        (so NaN stays NaN)
//   relu_grad  gx = 0 where y <= 0, else gy       (so where y is NaN the gradient passes)
//   sigmoid    y  = 1 / (1 + exp(-x))
//
// The output may be one of the inputs: each thread reads its element of every input before it writes.
//
// Floor: every array moved once. Loads are one element wide, which needs no alignment.
#pragma once

#include "device/grid.cuh"
#include "device/numeric.cuh"
#include "kernels/activation/strided.cuh"
#include "kernels/epilogue.cuh"

namespace cuconv {

constexpr int kElementwiseThreads = 256;

struct Relu {
  template <typename Acc>
  CUCONV_DEVICE static Acc of(Acc x) {
    return relu(x);
  }
};

struct Sigmoid {
  template <typename Acc>
  CUCONV_DEVICE static Acc of(Acc x) {
    return sigmoid(x);
  }
};

template <typename T, typename Function>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS(kElementwiseThreads)
    elementwise_kernel(ElementwiseProblem p, const T* x, T* y) {
  for (std::int64_t i = first_item(); i < p.count; i += item_step()) {
    const Offsets<2> at = offsets_of<2>(p, i);
    y[at.of[1]] = narrow<T>(Function::of(widen(x[at.of[0]])));
  }
}

template <typename T>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS(kElementwiseThreads)
    relu_grad_kernel(ElementwiseProblem p, const T* gy, const T* y, T* gx) {
  using Acc = accumulator_t<T>;
  for (std::int64_t i = first_item(); i < p.count; i += item_step()) {
    const Offsets<3> at = offsets_of<3>(p, i);
    gx[at.of[2]] = widen(y[at.of[1]]) <= Acc{0} ? narrow<T>(Acc{0}) : gy[at.of[0]];
  }
}

}  // namespace cuconv
