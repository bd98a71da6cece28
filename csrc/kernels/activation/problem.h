// The sizes and strides of element-wise kernels and softmax. Plain data, passed to kernels by value; strides
// are in elements, may be zero or negative, and operands that a kernel lacks have none.
#pragma once

#include <cstdint>

namespace cuconv {

constexpr int kMaxAxes = 8;
constexpr int kMaxOperands = 3;

// Arrays of one shape, with the axes that can be merged merged.
struct ElementwiseProblem {
  std::int64_t count;  // elements: the product of the sizes
  int rank;            // axes in use, at most kMaxAxes; the last runs fastest
  std::int64_t size[kMaxAxes];
  std::int64_t stride[kMaxOperands][kMaxAxes];
};

// Softmax along an axis of `length` elements, separately for each element of `rows`: x is operand 0, y is 1.
struct SoftmaxProblem {
  ElementwiseProblem rows;
  std::int64_t length;
  std::int64_t x_stride;
  std::int64_t y_stride;
};

}  // namespace cuconv
