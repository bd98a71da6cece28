// The launcher of im2col + GEMM in all three directions, over any main loop: lower a chunk of the problem,
// multiply, go on. What is lowered at a time fits the workspace; a plain product is not lowered at all.
#pragma once

#include "launch/conv.h"
#include "launch/gemm.h"
#include "launch/mainloops.h"

namespace cuconv {

template <typename MainLoop, Direction kDirection>
struct Im2col {
  static Suitability suits(const ConvProblem& p, const ConvRequest& request);
  static void run(const ConvProblem& p, const ConvArguments& args);
};

}  // namespace cuconv
