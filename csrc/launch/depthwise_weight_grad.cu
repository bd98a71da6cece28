#include <algorithm>
#include <cmath>
#include <string>

#include "kernels/direct/depthwise_weight_grad.cuh"
#include "launch/conv.h"
#include "launch/depthwise.h"
#include "launch/direct.h"
#include "launch/dispatch.h"
#include "launch/grid.h"
#include "launch/tiles.h"
#include "tuning/depthwise_tiles.h"

namespace cuconv {
namespace {

// How the sums are cut into pieces with so many threads along the groups.
template <typename Tile>
DepthwiseTaps taps_of(const ConvProblem& p, const ConvRequest& request, int lanes) {
  DepthwiseTaps t;
  t.lanes = lanes;
  t.tiles_r = ceil_div(p.filter[1], Tile::kRows);
  t.tiles_s = dispatch_dtype(request.dtype, [&](auto tag) {
    return ceil_div(p.filter[2], kTapCols<typename decltype(tag)::type, Tile>);
  });
  t.bands = ceil_div(p.out[1], kBandRows);
  t.items = p.n * p.out[0] * t.bands * p.out[2];
  t.channel_tiles = ceil_div(p.groups, lanes);
  const double tiles = double(t.channel_tiles) * double(p.k) * double(p.c) * double(p.filter[0]) *
                       double(t.tiles_r) * double(t.tiles_s);
  const double bytes = double(weights_of(p)) * accumulator_bytes(request.dtype);
  const double workers = kTapThreads / lanes;
  const double pieces =
      std::min({kTapTargetBlocks / std::max(tiles, 1.0), double(t.items) / (kTapLeastItems * workers),
                double(request.workspace_limit) / std::max(bytes, 1.0)});
  t.items_a_piece = ceil_div(t.items, std::max<std::int64_t>(static_cast<std::int64_t>(pieces), 1));
  t.pieces = t.items > 0 ? ceil_div(t.items, t.items_a_piece) : 1;
  t.blocks = t.pieces * t.channel_tiles * p.k * p.c * p.filter[0] * t.tiles_r * t.tiles_s;
  return t;
}

int lanes_along_channels(const ConvProblem& p) {
  int lanes = 1;
  while (lanes < p.groups && lanes < kTapMostLanes) lanes *= 2;
  return lanes;
}

// Whether neighbours in memory are channels of one group each.
int lanes_of(const ConvProblem& p) { return has_channels_innermost(p) ? lanes_along_channels(p) : 1; }

std::int64_t workspace_of(const ConvProblem& p, DType dtype, std::int64_t pieces) {
  return pieces > 1 ? pieces * weights_of(p) * accumulator_bytes(dtype) : 0;
}

// A thread forms the addresses of all positions under its taps, those in the padding too, and goes on to the
// taps and the output after the last.
template <typename Tile>
bool reaches_too_far(const ConvProblem& p) {
  constexpr double kMostReach = std::int64_t{1} << 30;
  for (const int axis : {1, 2}) {
    const double taps = padded(p.filter[axis], axis == 1 ? Tile::kRows : Tile::kCols);
    const double reach = double(p.out[axis]) * double(p.stride[axis]) + taps * double(p.dilation[axis]) +
                         std::abs(double(p.pad[axis]));
    if (reach > kMostReach) return true;
  }
  return false;
}

}  // namespace

template <typename Tile>
Suitability DirectDepthwiseWeightGrad<Tile>::suits(const ConvProblem& p, const ConvRequest& request) {
  if (reaches_too_far<Tile>(p)) return {"its taps reach over more than 2^30 positions along an axis", 0, 0};
  const double work = double(p.groups) * double(p.k) * double(p.c) * double(p.filter[0]) *
                      padded(p.filter[1], Tile::kRows) * padded(p.filter[2], Tile::kCols) *
                      double(volume(p.out));
  // The layout, which is not known yet, decides which of the two it will be.
  const auto most_pieces = [&](const ConvProblem& of) {
    return std::max(taps_of<Tile>(of, request, 1).pieces,
                    taps_of<Tile>(of, request, lanes_along_channels(of)).pieces);
  };
  ConvProblem image = p;
  image.n = 1;
  const double launches = most_pieces(image) > 1 ? 2 : 1;
  return {"",
          workspace_of(p, request.dtype, most_pieces(p)),
          {Tile::kCost * work, Unit::kCudaCores, 0, launches}};
}

template <typename Tile>
void DirectDepthwiseWeightGrad<Tile>::run(const ConvProblem& p, const ConvArguments& args) {
  if (weights_of(p) == 0) return;
  const DepthwiseTaps t = taps_of<Tile>(p, args.request, lanes_of(p));
  dispatch_dtype(args.request.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Acc = accumulator_t<T>;
    auto* partial = t.pieces > 1 ? static_cast<Acc*>(args.workspace) : nullptr;
    constexpr std::size_t kShared = std::size_t{kTapThreads} * Tile::kRows * kTapCols<T, Tile> * sizeof(Acc);
    launch("depthwise_weight_grad", depthwise_weight_grad_kernel<T, Tile>,
           {{std::min(kMaxBlocks, t.blocks)}, {kTapThreads}, kShared}, args.stream, p, t,
           static_cast<const T*>(args.a), static_cast<const T*>(args.b), args.conjugate, partial,
           static_cast<T*>(args.out));
    if (partial == nullptr) return;
    launch("depthwise_tap_sums", depthwise_tap_sums_kernel<T>,
           {{blocks_for(weights_of(p), kTapSumThreads)}, {kTapSumThreads}, 0}, args.stream, p, t.pieces,
           static_cast<const Acc*>(partial), static_cast<T*>(args.out));
  });
}

template struct DirectDepthwiseWeightGrad<DepthwiseTaps4x4>;
template struct DirectDepthwiseWeightGrad<DepthwiseTaps1x16>;

}  // namespace cuconv
