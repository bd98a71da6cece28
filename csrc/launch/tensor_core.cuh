// The launch of the tensor-core main loop. One file an element type instantiates it, because each takes the
// compiler a while.
#pragma once

#include "kernels/implicit_gemm/tensor_core.cuh"
#include "launch/dispatch.h"
#include "launch/gemm.h"

namespace cuconv {

template <typename T, typename Tile, typename Arch, Precision kPrecision>
void launch_tensor_core(GemmCall call) {
  using Traits = TensorCoreTraits<T, Tile>;
  choose_access(call.gather, {call.x, call.w, call.y}, sizeof(T), Traits::kWidth, 2);
  const GatherProblem& g = call.gather;
  dispatch_bool(g.x_load == Load::kRows, [&](auto x_by_rows) {
    dispatch_bool(g.w_load == Load::kRows, [&](auto w_by_rows) {
      launch("implicit_gemm_tensor_core",
             implicit_gemm_tensor_core_kernel<T, Tile, Arch, kPrecision, x_by_rows(), w_by_rows()>,
             {{blocks_of(g, {Tile::kBlockM, Tile::kBlockN, Traits::kBlockK, 0, Unit::kTensorCores})},
              {Traits::kThreads},
              Traits::kSharedBytes},
             call.stream, g, static_cast<const T*>(call.x), static_cast<const T*>(call.w),
             epilogue_of<T>(call), partial_of<float>(call), static_cast<T*>(call.y));
    });
  });
}

}  // namespace cuconv
