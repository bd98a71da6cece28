// The main loops of matrix products, as launchers see them: what each refuses, its tile, its launch.
#pragma once

#include <string>

#include "launch/gemm.h"
#include "tuning/simt_tiles.h"
#include "tuning/tensor_core_tiles.h"

namespace cuconv {

class AnalyticIterator;
class OptimizedIterator;
struct Sm75;
struct Sm80;

// On CUDA cores (kernels/implicit_gemm/simt.cuh).
template <typename Tile, typename Iterator = OptimizedIterator>
struct Simt {
  static std::string refuse(const ConvRequest& request);
  static TileShape shape(const ConvRequest& request);
  static void launch(const ConvRequest& request, GemmCall call);
};

// On tensor cores (kernels/implicit_gemm/tensor_core.cuh): float16, bfloat16, and float32 by tf32 on request.
template <typename Tile, typename Arch = Sm80>
struct TensorCore {
  static std::string refuse(const ConvRequest& request);
  static TileShape shape(const ConvRequest& request);
  static void launch(const ConvRequest& request, GemmCall call);
};

}  // namespace cuconv
