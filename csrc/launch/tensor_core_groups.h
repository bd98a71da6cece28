// The launcher of grouped convolution with few channels a group on tensor cores
// (kernels/implicit_gemm/tensor_core_groups.cuh).
#pragma once

#include "launch/registry.h"

namespace cuconv {

// float16 and bfloat16, as far as a tile of x and the filters of a block fit shared memory.
struct TensorCoreGroups {
  static Suitability suits(const ConvProblem& p, const ConvRequest& request);
  static void run(const ConvProblem& p, const ConvArguments& args);
};

}  // namespace cuconv
