#include <algorithm>

#include "kernels/pool/grad_tiled.cuh"
#include "launch/pool_tiling.h"

namespace cuconv {
namespace {

Tiling gradient_tiling(const PoolProblem& p, const PoolGradArguments& args) {
  const std::int64_t bytes_each = std::max(size_of(args.dtype), 4) + (args.indices == nullptr ? 0 : 4);
  const auto reach = [&](int axis, std::int64_t positions) {
    const std::int64_t span = (p.window[axis] - 1) * p.dilation[axis] + 1;
    return std::min(p.out[axis], (positions + span - 2) / p.stride[axis] + 1);
  };
  const auto bytes = [&](std::int64_t rows, std::int64_t elements, std::int64_t sides) {
    return rows * elements * bytes_each + sides * static_cast<std::int64_t>(sizeof(SmallWindows));
  };
  Tiling tiling = tiling_of(p, p.in, interleave_of(p), reach, bytes);
  tiling.tiles.pitch = static_cast<std::int32_t>(tiling.read_elements);
  tiling.tiles.chunks_by = fast_divisor(vectors_touched(tiling.read_elements, size_of(args.dtype)));
  return tiling;
}

void run_stretch(const PoolProblem& p, const PoolGradArguments& args) {
  const Tiling tiling = gradient_tiling(p, args);
  const FastDivisor index_chunks_by =
      fast_divisor(vectors_touched(tiling.read_elements, sizeof(std::int64_t)));
  dispatch_pool_grad(args, [&](auto tag, auto maxima) {
    using T = typename decltype(tag)::type;
    launch("pool_grad_tiled", pool_grad_tiled_kernel<T, maxima.value>,
           {{tiling.blocks}, {tiling.threads}, static_cast<std::size_t>(tiling.shared_bytes)}, args.stream, p,
           tiling.tiles, steps_of(p), index_chunks_by, static_cast<std::int32_t>(tiling.read_rows),
           static_cast<const T*>(args.gy), args.indices, static_cast<T*>(args.gx));
  });
}

}  // namespace

std::string PoolGradTiled::refuse(const PoolProblem& p, const PoolGradArguments& args) {
  if (!args.windows_known) return "it needs to know the windows";
  const std::int64_t interleave = interleave_of(p);
  if (interleave == 0 || (args.indices != nullptr && !rows_step_by(interleave, p.c, p.out, p.index_stride))) {
    return "rows of the gradients or the indices do not lie in one piece";
  }
  if (!fits_31_bits(p)) return "it counts an image to 2^30 at the most";
  if (gradient_tiling(p, args).shared_bytes > kSharedLimit) {
    return "the windows over a position do not fit 48 KiB of shared memory";
  }
  return "";
}

void PoolGradTiled::run(const PoolProblem& p, const PoolGradArguments& args, void*) {
  for_each_stretch(p, args, run_stretch);
}

}  // namespace cuconv
