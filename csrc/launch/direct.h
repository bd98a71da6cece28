// The launchers of the direct kernels, in the form the registry wants.
#pragma once

#include "launch/registry.h"
#include "tuning/depthwise_tiles.h"
#include "tuning/direct_tiles.h"

namespace cuconv {

struct DirectNaive {
  static Suitability suits(const ConvProblem& p, const ConvRequest& request);
  static void run(const ConvProblem& p, const ConvArguments& args);
};

template <typename Tile>
struct DirectTiled {
  static Suitability suits(const ConvProblem& p, const ConvRequest& request);
  static void run(const ConvProblem& p, const ConvArguments& args);
};

struct DirectInputGrad {
  static Suitability suits(const ConvProblem& p, const ConvRequest& request);
  static void run(const ConvProblem& p, const ConvArguments& args);
};

struct DirectWeightGrad {
  static Suitability suits(const ConvProblem& p, const ConvRequest& request);
  static void run(const ConvProblem& p, const ConvArguments& args);
};

// Depthwise convolution and image filtering: few channels a group.
template <typename Tile>
struct DirectDepthwise {
  static Suitability suits(const ConvProblem& p, const ConvRequest& request);
  static void run(const ConvProblem& p, const ConvArguments& args);
};

template <typename Tile>
struct DirectDepthwiseWeightGrad {
  static Suitability suits(const ConvProblem& p, const ConvRequest& request);
  static void run(const ConvProblem& p, const ConvArguments& args);
};

}  // namespace cuconv
