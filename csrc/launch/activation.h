// Launchers of element-wise functions, softmax and the bias gradient.
#pragma once

#include "config.h"
#include "kernels/activation/problem.h"
#include "kernels/reduce/problem.h"
#include "launch/launch.cuh"

namespace cuconv {

void relu(const ElementwiseProblem& p, DType dtype, const void* x, void* y, Stream stream);
void sigmoid(const ElementwiseProblem& p, DType dtype, const void* x, void* y, Stream stream);

// Operands 0, 1, 2 of the problem are gy, y, gx.
void relu_grad(const ElementwiseProblem& p, DType dtype, const void* gy, const void* y, void* gx,
               Stream stream);

void softmax(const SoftmaxProblem& p, DType dtype, const void* x, void* y, Stream stream);

void bias_grad(const BiasGradProblem& p, DType dtype, const void* gy, void* gb, Stream stream);

}  // namespace cuconv
