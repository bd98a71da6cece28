#include <algorithm>

#include "kernels/pool/tiled.cuh"
#include "launch/pool_tiling.h"

namespace cuconv {
namespace {

Tiling forward_tiling(const PoolProblem& p, std::int64_t element_bytes) {
  const auto reach = [&](int axis, std::int64_t outputs) {
    return std::min(p.in[axis], (outputs - 1) * p.stride[axis] + (p.window[axis] - 1) * p.dilation[axis] + 1);
  };
  const auto bytes = [&](std::int64_t rows, std::int64_t elements, std::int64_t) {
    return rows * vectors_touched(elements, element_bytes) * 16;
  };
  Tiling tiling = tiling_of(p, p.out, interleave_of(p), reach, bytes);
  const std::int64_t chunks = vectors_touched(tiling.read_elements, element_bytes);
  tiling.tiles.chunks_by = fast_divisor(chunks);
  tiling.tiles.pitch = static_cast<std::int32_t>(chunks * 16 / element_bytes);
  return tiling;
}

void run_stretch(const PoolProblem& p, const PoolArguments& args) {
  const Tiling tiling = forward_tiling(p, size_of(args.dtype));
  dispatch_pool(args, [&](auto tag, auto kind) {
    using T = typename decltype(tag)::type;
    launch("pool_tiled", pool_tiled_kernel<T, decltype(kind)::template type>,
           {{tiling.blocks}, {tiling.threads}, static_cast<std::size_t>(tiling.shared_bytes)}, args.stream, p,
           tiling.tiles, static_cast<const T*>(args.x), static_cast<T*>(args.y), args.indices);
  });
}

}  // namespace

std::string PoolTiled::refuse(const PoolProblem& p, const PoolArguments& args) {
  if (interleave_of(p) == 0) return "rows of x or y do not lie in one piece";
  if (!fits_31_bits(p)) return "it counts an image to 2^30 at the most";
  if (leaves_gaps(p, 1) || leaves_gaps(p, 2)) return "windows leave elements between them";
  if (forward_tiling(p, size_of(args.dtype)).shared_bytes > kSharedLimit) {
    return "the window does not fit 48 KiB of shared memory";
  }
  return "";
}

void PoolTiled::run(const PoolProblem& p, const PoolArguments& args) {
  for_each_stretch(p, args, run_stretch);
}

}  // namespace cuconv
