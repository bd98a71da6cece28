// Launchers of the pooling kernels. `indices` may be null where none are wanted.
#pragma once

#include <cstdint>

#include "config.h"
#include "launch/launch.cuh"
#include "problem.h"

namespace cuconv {

void max_pool(const PoolProblem& p, DType dtype, const void* x, void* y, std::int64_t* indices,
              Stream stream);

// Bytes of workspace that max_pool_grad needs: sums of half types are kept in float32.
std::int64_t max_pool_grad_workspace(const PoolProblem& p, DType dtype);

void max_pool_grad(const PoolProblem& p, DType dtype, const void* gy, const std::int64_t* indices, void* gx,
                   void* workspace, Stream stream);

void avg_pool(const PoolProblem& p, DType dtype, const void* x, void* y, Stream stream);

void avg_pool_grad(const PoolProblem& p, DType dtype, const void* gy, void* gx, Stream stream);

}  // namespace cuconv
