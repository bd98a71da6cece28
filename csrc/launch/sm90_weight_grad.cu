#include <algorithm>
#include <iterator>
#include <string>

#include "kernels/implicit_gemm/sm90_weight_grad.cuh"
#include "launch/capability.h"
#include "launch/conv.h"
#include "launch/gemm.h"
#include "launch/implicit_gemm.h"
#include "launch/sm90.h"
#include "launch/tiles.h"
#include "launch/tma_operands.h"

namespace cuconv {
namespace {

static_assert(kStageTerms % kBoxPositions == 0, "or a piece's last stage would reach into the next piece");

std::int32_t narrow_size(std::int64_t size) { return static_cast<std::int32_t>(size); }

// ---- by sizes ----

std::int64_t boxes_of(const ConvProblem& p) { return volume(p.filter) * ceil_div(p.c, kBoxChannels); }

// dw as the second pass of split-K takes it: rows are channels under taps, terms are positions.
GatherProblem sums_of(const ConvProblem& p) {
  GatherProblem g = {};
  g.groups = p.groups;
  g.row_end = narrow_size(p.c * volume(p.filter));
  g.filters = narrow_size(p.k);
  g.term_end = narrow_size(p.n * volume(p.out));
  g.row[0] = {fast_divisor(p.c), {}, 0, p.w_stride[2]};
  for (int axis = 0; axis < kSpatial; ++axis) {
    g.row[kSpatial - axis] = {fast_divisor(p.filter[axis]), {}, 0, p.w_stride[3 + axis]};
  }
  g.y_group = p.w_stride[0];
  g.y_filter = p.w_stride[1];
  return g;
}

template <typename Tile>
Pieces pieces_of_sums(const ConvProblem& p, const ConvRequest& request) {
  const TileShape tile = {Tile::kBlockM, Tile::kBlockN, kBoxPositions, Tile::kCost, Unit::kTensorCores};
  return pieces_of(Direction::kWeightGrad, sums_of(p), tile, request.dtype, request.workspace_limit);
}

std::string refuse(const ConvProblem& p, const ConvRequest& request) {
  if (!has_wgmma()) return "it needs a device of compute capability 90 and code compiled for sm_90a";
  if (const std::string why = refuse_indices(Direction::kWeightGrad, p); !why.empty()) return why;
  if (request.dtype == DType::kFloat32) return "its weight gradient is of 16 bits: wgmma transposes no tf32";
  if (request.dtype != DType::kFloat16 && request.dtype != DType::kBfloat16) {
    return std::string("tensor cores have no ") + name_of(request.dtype);
  }
  if (!request.channels_last) return "TMA reads channels that are neighbours in memory: channels last";
  if (p.c < 1 || p.in[0] < 1 || p.in[1] < 1 || p.in[2] < 1) return "its input is empty";
  for (const std::int64_t channels : {p.c, p.k}) {
    if (channels * size_of(request.dtype) % kTmaAlignment != 0)
      return refuse_channels(channels, request.dtype);
  }
  constexpr double kMost = (std::int64_t{1} << 31) - 1;
  if (double(p.groups) * double(std::max(p.c, p.k)) > kMost) return "its channels are more than 2^31";
  const int axes = map_axes(p);
  for (int axis = kSpatial - axes; axis < kSpatial; ++axis) {
    if (const std::string why = refuse_axis(p, axis, axes); !why.empty()) return why;
  }
  return "";
}

template <typename Tile>
double tiles_of(const ConvProblem& p) {
  return double(p.groups) * double(ceil_div(boxes_of(p), Sm90WeightGradTraits<Tile>::kBoxesX)) *
         double(ceil_div(p.k, Tile::kBlockN));
}

// Of one image, as of the other families.
template <typename Tile>
Work work_of(const ConvProblem& p) {
  return {
      Tile::kCost * tiles_of<Tile>(p) * Tile::kBlockM * Tile::kBlockN * padded(volume(p.out), kBoxPositions),
      Unit::kTensorCores};
}

// ---- by addresses and strides ----

bool tma_can_read(const ConvProblem& p, const ConvArguments& args) {
  const DType dtype = args.request.dtype;
  bool can = p.n > 0 && aligned(args.a) && aligned(args.b) && p.x_stride[2] == 1 && p.y_stride[2] == 1;
  if (p.groups > 1) can = can && p.x_stride[1] == p.c && p.y_stride[1] == p.k;
  can = can && tma_stride(p.n, p.x_stride[0], dtype) && tma_stride(p.n, p.y_stride[0], dtype);
  for (int axis = 0; axis < kSpatial; ++axis) {
    can = can && tma_stride(p.in[axis], p.x_stride[3 + axis], dtype) &&
          tma_stride(p.out[axis], p.y_stride[3 + axis], dtype);
  }
  return can;
}

// ---- maps and launch ----

// dy as the input of a convolution by one tap, which meets every position once.
ConvProblem view_of_dy(const ConvProblem& p) {
  ConvProblem v = p;
  v.c = p.k;
  std::copy(std::begin(p.y_stride), std::end(p.y_stride), std::begin(v.x_stride));
  for (int axis = 0; axis < kSpatial; ++axis) {
    v.in[axis] = p.out[axis];
    v.filter[axis] = v.stride[axis] = v.dilation[axis] = 1;
    v.pad[axis] = 0;
  }
  return v;
}

template <typename Tile>
Sm90WeightGradProblem problem_of(const ConvProblem& p, const GatherProblem& sums) {
  Sm90WeightGradProblem q = {};
  q.rank = map_axes(p) + 2;
  q.groups = narrow_size(p.groups);
  q.filters = sums.filters;
  q.channels = narrow_size(p.c);
  q.boxes = narrow_size(boxes_of(p));
  q.tiles_m = ceil_div(q.boxes, Sm90WeightGradTraits<Tile>::kBoxesX);
  q.tiles_n = ceil_div(q.filters, Tile::kBlockN);
  q.positions = sums.term_end;
  q.pieces = sums.splits;
  q.piece_positions = sums.terms_a_split;
  for (int axis = 0; axis < kSpatial; ++axis) {
    q.out[axis] = fast_divisor(p.out[axis]);
    q.first[axis] = narrow_size(-p.pad[axis]);
    q.stride[axis] = narrow_size(p.stride[axis]);
    q.taps[axis] = narrow_size(p.filter[axis]);
    q.dilation[axis] = narrow_size(p.dilation[axis]);
    q.w_tap[axis] = p.w_stride[3 + axis];
  }
  q.w_group = p.w_stride[0];
  q.w_filter = p.w_stride[1];
  q.w_channel = p.w_stride[2];
  return q;
}

template <typename T, typename Tile>
void launch_weight_grad(const ConvProblem& p, const ConvArguments& args) {
  using Traits = Sm90WeightGradTraits<Tile>;
  GemmCall call = {};
  call.gather = sums_of(p);
  call.y = args.out;
  call.stream = args.stream;
  cut_terms(call.gather, pieces_of_sums<Tile>(p, args.request).terms);
  if (call.gather.splits > 1) call.partial = pieces_at(args.workspace, call.gather);

  const Sm90WeightGradProblem q = problem_of<Tile>(p, call.gather);
  const std::int64_t tiles = std::int64_t{q.pieces} * q.groups * q.tiles_m * q.tiles_n;
  const int axes = map_axes(p);
  const DType dtype = args.request.dtype;
  launch("weight_grad_sm90", weight_grad_sm90_kernel<T, Tile>,
         {{std::min<std::int64_t>(tiles, multiprocessors())}, {Traits::kThreads}, Traits::kSharedBytes},
         args.stream, q, map_of_pixels(p, axes, args.b, dtype, kBoxPositions, false),
         map_of_pixels(view_of_dy(p), axes, args.a, dtype, kBoxPositions, false), partial_of<float>(call),
         static_cast<T*>(args.out));
  if (call.gather.splits > 1) launch_split_k(dtype, call);
}

}  // namespace

template <typename Tile>
Suitability Sm90WeightGrad<Tile>::suits(const ConvProblem& p, const ConvRequest& request) {
  if (const std::string why = refuse(p, request); !why.empty()) return {why};
  const Pieces pieces = pieces_of_sums<Tile>(p, request);
  constexpr double kMostTiles = (std::int64_t{1} << 31) - 1;
  if (tiles_of<Tile>(p) * double(pieces.count) > kMostTiles) return {"its tiles are more than 2^31"};
  return {"", pieces.bytes, work_of<Tile>(p)};
}

template <typename Tile>
void Sm90WeightGrad<Tile>::run(const ConvProblem& p, const ConvArguments& args) {
  if (weights_of(p) == 0) return;
  if (tma_can_read(p, args)) {
    return args.request.dtype == DType::kFloat16 ? launch_weight_grad<half_t, Tile>(p, args)
                                                 : launch_weight_grad<bfloat16_t, Tile>(p, args);
  }
  ConvArguments in_that_workspace = args;
  in_that_workspace.request.workspace_limit = pieces_of_sums<Tile>(p, args.request).bytes;
  ImplicitGemm<TensorCore<TensorCoreTile128x128>, Direction::kWeightGrad>::run(p, in_that_workspace);
}

template struct Sm90WeightGrad<Sm90WeightGradTile128x128>;
template struct Sm90WeightGrad<Sm90WeightGradTile256x128>;

}  // namespace cuconv
