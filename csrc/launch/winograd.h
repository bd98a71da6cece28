// The launchers of Winograd's algorithm, in the form the registry wants. Both are forward convolutions; the
// input gradient is Adjoint<...> of them (launch/adjoint.h).
#pragma once

#include "launch/registry.h"
#include "tuning/winograd_tiles.h"

namespace cuconv {

// One kernel (kernels/winograd/fused.cuh), behind the transform of the filters.
template <typename Tile>
struct WinogradFused {
  static Suitability suits(const ConvProblem& p, const ConvRequest& request);
  static void run(const ConvProblem& p, const ConvArguments& args);
};

// Transforms in kernels of their own (kernels/winograd/transform.cuh) around the matrix products of implicit
// GEMM, one for each frequency: a chunk of tiles that fits the workspace, then the next.
template <int kOutputs>
struct WinogradStaged {
  static Suitability suits(const ConvProblem& p, const ConvRequest& request);
  static void run(const ConvProblem& p, const ConvArguments& args);
};

}  // namespace cuconv
