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

// The same of their gradients.
std::string pool_grad(const PoolProblem& p, const PoolGradArguments& args, const std::string& wanted,
                      void* workspace);

// Bytes of workspace that it needs: where maxima scatter, sums of half types are kept in float32.
std::int64_t pool_grad_workspace(const PoolProblem& p, const PoolGradArguments& args,
                                 const std::string& wanted);

}  // namespace cuconv
