#include <algorithm>

#include "kernels/direct/depthwise_channels.cuh"
#include "launch/conv.h"
#include "launch/depthwise.h"
#include "launch/dispatch.h"
#include "launch/grid.h"
#include "tuning/depthwise_tiles.h"

namespace cuconv {
namespace {

constexpr std::int64_t kMostLanes = 32;

// Whether all vectors of `width` channels of an array are aligned.
template <typename Sizes>
bool vectors_fit(const void* address, int width, int element_bytes, std::int64_t channels,
                 const std::int64_t (&stride)[6], std::int64_t n, const Sizes& size) {
  const auto steps = [&](std::int64_t count, std::int64_t step) { return count <= 1 || step % width == 0; };
  return stride[1] == 1 && channels % width == 0 && steps(n, stride[0]) && steps(size[0], stride[3]) &&
         steps(size[1], stride[4]) && steps(size[2], stride[5]) &&
         reinterpret_cast<std::uintptr_t>(address) % (std::uintptr_t(width) * element_bytes) == 0;
}

template <typename T>
DepthwiseStrips strips_of(const ConvProblem& p, const ConvArguments& args) {
  constexpr int kWidth = kLaneChannels<T>;
  DepthwiseStrips t;
  t.w = tap_axis_of(p, 2);
  const std::int64_t lanes = ceil_div(p.groups, kWidth);
  t.lanes = 1;
  while (t.lanes < lanes && t.lanes < kMostLanes) t.lanes *= 2;
  t.channel_tiles = ceil_div(lanes, t.lanes);
  t.strips_q = ceil_div(ceil_div(p.out[2], t.w.phases), kStripOutputs);
  t.strips = p.n * p.out[0] * p.out[1] * t.w.phases * t.strips_q;
  t.blocks = ceil_div(t.strips, kStripThreads / t.lanes) * t.channel_tiles * p.k;
  const std::int64_t taps = kStripSharedLimit / (t.lanes * kWidth * std::int64_t{sizeof(accumulator_t<T>)});
  const std::int64_t row = std::max<std::int64_t>(p.filter[2], 1);
  t.filter_cols = static_cast<int>(std::min(row, taps));
  t.filter_rows =
      static_cast<int>(std::clamp<std::int64_t>(taps / row, 1, std::max<std::int64_t>(p.filter[1], 1)));
  t.all_rows = static_cast<int>(p.filter[1]);
  t.all_cols = static_cast<int>(p.filter[2]);
  t.residues = static_cast<int>(std::min<std::int64_t>(t.w.step, t.filter_cols));
  t.residue_step = t.residues;
  t.vectors_x = vectors_fit(args.a, kWidth, sizeof(T), p.groups, p.x_stride, p.n, p.in);
  t.vectors_y = vectors_fit(args.out, kWidth, sizeof(T), p.groups, p.y_stride, p.n, p.out) &&
                (p.k <= 1 || p.y_stride[2] % kWidth == 0);
  return t;
}

}  // namespace

void run_depthwise_channels(const ConvProblem& p, const ConvArguments& args) {
  dispatch_dtype(args.request.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const DepthwiseStrips t = strips_of<T>(p, args);
    const std::size_t shared = static_cast<std::size_t>(t.filter_rows) * t.filter_cols * t.lanes *
                               kLaneChannels<T> * sizeof(accumulator_t<T>);
    launch("depthwise_channels", depthwise_channels_kernel<T>,
           {{std::min(kMaxBlocks, t.blocks)}, {kStripThreads}, shared}, args.stream, p, t,
           static_cast<const T*>(args.a), static_cast<const T*>(args.b), args.conjugate, epilogue_of<T>(args),
           static_cast<T*>(args.out));
  });
}

}  // namespace cuconv
