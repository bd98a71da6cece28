// Pooling and its gradients.
#pragma once

#include <cstdint>
#include <string>

#include "config.h"
#include "launch/launch.cuh"
#include "launch/pool_variant.h"
#include "problem.h"

namespace cuconv {

// Max- or average-pooling by the first variant that does not refuse, or by the one wanted (throws
// ArgumentError if it refuses). Returns the name of the one that ran; nothing where there are no outputs.
std::string pool(const PoolProblem& p, const PoolArguments& args, const std::string& wanted);

// Bytes of workspace that max_pool_grad needs: sums of half types are kept in float32.
std::int64_t max_pool_grad_workspace(const PoolProblem& p, DType dtype);

void max_pool_grad(const PoolProblem& p, DType dtype, const void* gy, const std::int64_t* indices, void* gx,
                   void* workspace, Stream stream);

void avg_pool_grad(const PoolProblem& p, DType dtype, const void* gy, void* gx, Stream stream);

}  // namespace cuconv
