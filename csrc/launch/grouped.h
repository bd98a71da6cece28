// Several forward convolutions that do not depend on each other, in one launch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config.h"
#include "launch/launch.cuh"
#include "problem.h"

namespace cuconv {

struct GroupedConv {
  ConvProblem problem;
  // All 1, or the window whose maxima the convolution reads: of one tap then, with the pooling's stride and
  // padding.
  std::int64_t window[kSpatial];
  const void* x;
  const void* w;
  const void* bias;  // null without one
  std::int64_t bias_stride;
  Activation activation;
  void* y;
};

// Why these cannot share a launch; empty if they can. Sizes alone decide.
std::string refuse_grouped(const std::vector<GroupedConv>& convs, DType dtype);

void run_grouped(const std::vector<GroupedConv>& convs, DType dtype, Stream stream);

}  // namespace cuconv
