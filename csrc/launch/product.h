// The product that a transform leaves to another family: the cheapest of several launchers.
#pragma once

#include <initializer_list>

#include "launch/registry.h"

namespace cuconv {

struct ProductKernel {
  Suitability (*suits)(const ConvProblem&, const ConvRequest&);
  void (*run)(const ConvProblem&, const ConvArguments&);
};

template <typename Launcher>
constexpr ProductKernel kProductBy = {&Launcher::suits, &Launcher::run};

struct ChosenProduct {
  ProductKernel kernel;
  Suitability answer;
};

// Without workspace no sum is cut into pieces: the batch has no say.
inline ConvRequest product_request(DType dtype) { return {dtype, Precision::kIeee, 0}; }

// By one group, with the work of all: they are alike, and only parts of them are launched at a time.
inline ChosenProduct cheapest_product(std::initializer_list<ProductKernel> kernels, const ConvProblem& p,
                                      DType dtype) {
  ConvProblem one = p;
  one.groups = 1;
  ChosenProduct best = {};
  for (const ProductKernel& kernel : kernels) {
    const Suitability answer = kernel.suits(one, product_request(dtype));
    const bool better =
        best.kernel.run == nullptr ||
        (answer.refusal.empty() &&
         (!best.answer.refusal.empty() || answer.work.multiply_adds < best.answer.work.multiply_adds));
    if (better) best = {kernel, answer};
  }
  best.answer.work.multiply_adds *= static_cast<double>(p.groups);
  return best;
}

}  // namespace cuconv
