// The launchers of implicit GEMM on Hopper (kernels/implicit_gemm/sm90.cuh, sm90_weight_grad.cuh).
#pragma once

#include "launch/registry.h"
#include "tuning/sm90_tiles.h"

namespace cuconv {

// Forward convolutions of channels-last operands, and their input gradients, a launch for each phase
// (launch/gather.h). Operands that suit by their sizes, but lie in memory as TMA cannot read them (odd
// addresses, channels or groups apart, strides that are no multiples of 16 bytes, zero, or negative but for
// those of w's taps), are done by the 128x128 kernel of sm_80, and so are phases without taps.
template <typename Tile, Direction kDirection>
struct Sm90 {
  static Suitability suits(const ConvProblem& p, const ConvRequest& request);
  static void run(const ConvProblem& p, const ConvArguments& args);
};

// Weight gradients of such operands.
template <typename Tile>
struct Sm90WeightGrad {
  static Suitability suits(const ConvProblem& p, const ConvRequest& request);
  static void run(const ConvProblem& p, const ConvArguments& args);
};

}  // namespace cuconv
