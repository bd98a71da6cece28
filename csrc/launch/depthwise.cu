// Depthwise convolution and image filtering, forwards and the input gradient: which problems they take, and
// by which kernel.
#include <cmath>
#include <string>

#include "launch/conv.h"
#include "launch/depthwise.h"
#include "launch/direct.h"
#include "tuning/depthwise_tiles.h"

namespace cuconv {
namespace {

// Kernels count positions under a whole tile, past the last output too.
std::string refuse_reach(const ConvProblem& p) {
  constexpr double kMostOutputs = 1024;  // of a tile along an axis
  constexpr double kMostReach = double(std::int64_t{1} << 62);
  for (const int axis : {1, 2}) {
    const TapAxis a = tap_axis_of(p, axis);
    const double tile = kMostOutputs * double(a.step) * double(a.unit);
    const double taps = double(p.filter[axis]) * double(a.unit);
    if (tile + taps + std::abs(double(p.pad[axis])) > kMostReach) {
      return "the positions under a tile of outputs reach beyond 2^62";
    }
  }
  return "";
}

template <typename Tile>
std::string refuse(const ConvProblem& p, DType dtype) {
  if (std::string why = refuse_reach(p); !why.empty()) return why;
  return refuse_depthwise_rows<Tile>(p, dtype);
}

template <typename Tile>
double weighed_work(const ConvProblem& p, DType dtype) {
  const DepthwiseWork work = depthwise_rows_work<Tile>(p, dtype);
  return Tile::kCost * work.multiply_adds + kDepthwiseFetchCost * work.fetched;
}

template <typename Tile>
void run_forward(const ConvProblem& p, const ConvArguments& args) {
  if (outputs_of(p) == 0) return;
  if (has_channels_innermost(p)) {
    run_depthwise_channels(p, args);
  } else {
    run_depthwise_rows<Tile>(p, args);
  }
}

}  // namespace

template <typename Tile>
Suitability DirectDepthwise<Tile>::suits(const ConvProblem& p, const ConvRequest& request) {
  if (const std::string why = refuse<Tile>(p, request.dtype); !why.empty()) return {why, 0, 0};
  return {"", 0, {weighed_work<Tile>(p, request.dtype)}};
}

template <typename Tile>
void DirectDepthwise<Tile>::run(const ConvProblem& p, const ConvArguments& args) {
  run_forward<Tile>(p, args);
}

template struct DirectDepthwise<DepthwiseTile4x4>;
template struct DirectDepthwise<DepthwiseTile1x8>;

}  // namespace cuconv
