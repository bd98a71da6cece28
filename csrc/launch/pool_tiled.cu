#include <algorithm>

#include "kernels/pool/tiled.cuh"
#include "launch/pool_dispatch.h"

namespace cuconv {
namespace {

constexpr std::int64_t kSharedLimit = 48 * 1024;  // what every GPU gives a block without asking
constexpr std::int64_t kMostOutputs = kPoolThreads * kTileOutputs;
constexpr std::int64_t kMostAcross = 256;  // so that a tile has several rows, which share theirs

bool planar(const std::int64_t (&size)[kSpatial], const std::int64_t (&stride)[5]) {
  return steps_by(size[2], stride[4], 1);
}

bool interleaved(std::int64_t c, const std::int64_t (&size)[kSpatial], const std::int64_t (&stride)[5]) {
  return steps_by(c, stride[1], 1) && steps_by(size[2], stride[4], c);
}

// Elements from one position to the next, in x and y; 0 where rows do not lie in one piece.
std::int64_t interleave_of(const PoolProblem& p) {
  if (planar(p.in, p.x_stride) && planar(p.out, p.y_stride)) return 1;
  return interleaved(p.c, p.in, p.x_stride) && interleaved(p.c, p.out, p.y_stride) ? p.c : 0;
}

struct Tiling {
  PoolTiles tiles;
  std::int64_t shared_bytes;
  std::int64_t blocks;
};

// The largest tile whose part of the input fits; none where shared_bytes exceeds the limit.
Tiling tiling_of(const PoolProblem& p, std::int64_t interleave, std::int64_t element_bytes) {
  const std::int64_t width = 16 / element_bytes;
  const std::int64_t length = p.out[2] * interleave;
  const auto reach = [&](int axis, std::int64_t outputs) {
    return std::min(p.in[axis], (outputs - 1) * p.stride[axis] + (p.window[axis] - 1) * p.dilation[axis] + 1);
  };
  std::int64_t across = std::min(length, kMostAcross);
  std::int64_t down = std::min(p.out[1], kMostOutputs / across);
  for (;;) {
    const std::int64_t columns = std::min(p.out[2], (across + interleave - 2) / interleave + 1);
    // Room for a row that starts late in its first vector.
    const std::int64_t chunks = (reach(2, columns) * interleave + 2 * (width - 1)) / width;
    const std::int64_t bytes = reach(1, down) * chunks * 16;
    if (bytes > kSharedLimit && down * across > 1) {
      (down > 1 ? down : across) = ((down > 1 ? down : across) + 1) / 2;
      continue;
    }
    const std::int64_t tiles_down = (p.out[1] - 1) / down + 1, tiles_across = (length - 1) / across + 1;
    const std::int64_t planes = interleave == 1 ? p.c : 1;
    const auto small = [](std::int64_t size) { return static_cast<std::int32_t>(size); };
    return {{small(down), small(across), small(tiles_down), small(tiles_across), small(planes), small(length),
             small(chunks * width), fast_divisor(interleave), fast_divisor(across), fast_divisor(chunks)},
            bytes,
            p.n * planes * p.out[0] * tiles_down * tiles_across};
  }
}

void run_stretch(const PoolProblem& p, const PoolArguments& args) {
  const Tiling tiling = tiling_of(p, interleave_of(p), size_of(args.dtype));
  dispatch_pool(args, [&](auto tag, auto kind) {
    using T = typename decltype(tag)::type;
    launch("pool_tiled", pool_tiled_kernel<T, decltype(kind)::template type>,
           {{tiling.blocks}, {kPoolThreads}, static_cast<std::size_t>(tiling.shared_bytes)}, args.stream, p,
           tiling.tiles, static_cast<const T*>(args.x), static_cast<T*>(args.y), args.indices);
  });
}

}  // namespace

std::string PoolTiled::refuse(const PoolProblem& p, const PoolArguments& args) {
  const std::int64_t interleave = interleave_of(p);
  if (interleave == 0) return "rows of x or y do not lie in one piece";
  if (leaves_gaps(p, 1) || leaves_gaps(p, 2)) return "windows leave elements between them";
  if (!fits_31_bits(p)) return "it counts an image to 2^30 at the most";
  if (tiling_of(p, interleave, size_of(args.dtype)).shared_bytes > kSharedLimit) {
    return "the window does not fit 48 KiB of shared memory";
  }
  return "";
}

void PoolTiled::run(const PoolProblem& p, const PoolArguments& args) {
  for_each_stretch(p, args, kMostCounted, run_stretch);
}

}  // namespace cuconv
