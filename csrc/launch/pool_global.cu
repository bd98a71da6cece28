#include <algorithm>

#include "kernels/pool/global_avg.cuh"
#include "launch/pool_dispatch.h"

namespace cuconv {
namespace {

// The step from one position to the next, were they a single axis; 0 where they are not.
std::int64_t position_step(const PoolProblem& p) {
  std::int64_t step = 0, volume = 1;
  for (int axis = kSpatial - 1; axis >= 0; --axis) {
    if (p.in[axis] > 1) {
      if (step == 0) step = p.x_stride[2 + axis];
      if (p.x_stride[2 + axis] != step * volume) return 0;
    }
    volume *= p.in[axis];
  }
  return volume == 1 ? 1 : step;
}

std::int64_t volume_of(const PoolProblem& p) { return p.in[0] * p.in[1] * p.in[2]; }

bool by_channels(const PoolProblem& p) { return position_step(p) != 1 && steps_by(p.c, p.x_stride[1], 1); }

}  // namespace

std::string PoolGlobal::refuse(const PoolProblem& p, const PoolArguments& args) {
  if (args.operation != PoolOperation::kAverage) return "it takes averages alone";
  for (int axis = 0; axis < kSpatial; ++axis) {
    if (p.out[axis] != 1 || p.window[axis] != p.in[axis] || p.pad_low[axis] != 0) {
      return "the window is not the whole plane";
    }
  }
  if (position_step(p) == 0) return "the positions of x are not one walk";
  if (position_step(p) != 1 && !by_channels(p)) return "neither positions nor channels are neighbours";
  return "";
}

void PoolGlobal::run(const PoolProblem& p, const PoolArguments& args) {
  const std::int64_t step = position_step(p);
  dispatch_dtype(args.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    constexpr int kWidth = 16 / int{sizeof(T)};
    const auto* x = static_cast<const T*>(args.x);
    auto* y = static_cast<T*>(args.y);
    if (!by_channels(p)) {
      // Whole warps, no more than the plane can feed.
      const std::int64_t warps = (volume_of(p) / kWidth + kWarpSize) / kWarpSize;
      const std::int64_t threads = std::min<std::int64_t>(kPoolThreads, warps * kWarpSize);
      launch("global_avg_planes", global_avg_planes_kernel<T>,
             {{std::min(kMaxBlocks, p.n * p.c)}, {threads}, kGlobalPlaneShared<T>}, args.stream, p, x, y);
      return;
    }
    const bool wide = p.c % kWidth == 0 && aligned_16(x) && step % kWidth == 0 && p.x_stride[0] % kWidth == 0;
    dispatch_bool(wide, [&](auto vectors) {
      constexpr int kEach = vectors.value ? kWidth : 1;
      const std::int64_t parts = (p.c - 1) / (kGlobalLanes * kEach) + 1;
      launch("global_avg_channels", global_avg_channels_kernel<T, kEach>,
             {{std::min(kMaxBlocks, p.n * parts)}, {kPoolThreads}, kGlobalChannelsShared<T, kEach>},
             args.stream, p, step, x, y);
    });
  });
}

}  // namespace cuconv
