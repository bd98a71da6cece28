#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>

#include "kernels/implicit_gemm/sm90.cuh"
#include "launch/capability.h"
#include "launch/conv.h"
#include "launch/gather.h"
#include "launch/gemm.h"
#include "launch/mainloops.h"
#include "launch/sm90.h"
#include "launch/tensor_map.h"
#include "launch/tiles.h"
#include "launch/tma_operands.h"

namespace cuconv {
namespace {

// ---- views ----

// One of the forward convolutions that are run: p itself, or a phase of its input gradient. It walks some of
// the taps of p, forwards or backwards, and w stays as it is.
struct View {
  ConvProblem problem;
  std::int64_t y_offset = 0;  // elements
  std::int64_t tap[kSpatial] = {0, 0, 0};
  std::int64_t tap_step[kSpatial] = {1, 1, 1};
};

View view_of(Direction direction, const ConvProblem& p, std::int64_t index) {
  if (direction == Direction::kForward) return {p};
  const PhaseView phase = input_grad_phase(p, index);
  View view{phase.problem, phase.y_offset};
  for (int axis = 0; axis < kSpatial; ++axis) {
    view.tap[axis] = phase.tap[axis];
    view.tap_step[axis] = -phase.tap_step[axis];
  }
  return view;
}

// ---- by sizes ----

// Of outputs of one image, and one more where they do not fill a tile.
template <typename Tile>
double tiles_of_image(const ConvProblem& p) {
  const double rows = double(volume(p.out)) / Tile::kBlockM + 1;
  return double(p.groups) * rows * std::ceil(double(p.k) / Tile::kBlockN);
}

// Of a view without taps nothing is read.
template <typename Tile>
std::string refuse_view(const ConvProblem& p) {
  constexpr double kMost = (std::int64_t{1} << 31) - 1;
  if (double(p.groups) * std::max(double(p.c), double(p.k)) > kMost || tiles_of_image<Tile>(p) > kMost) {
    return "its tiles, or channels of all groups, are more than 2^31";
  }
  const int axes = map_axes(p);
  for (int axis = kSpatial - axes; axis < kSpatial && volume(p.filter) > 0; ++axis) {
    if (const std::string why = refuse_axis(p, axis, axes); !why.empty()) return why;
  }
  return "";
}

template <typename Tile, Direction kDirection>
std::string refuse(const ConvProblem& problem, const ConvRequest& request) {
  if (!has_wgmma()) return "it needs a device of compute capability 90 and code compiled for sm_90a";
  if (const std::string why = refuse_indices(kDirection, problem); !why.empty()) return why;
  if (const std::string why = refuse_products(kDirection, problem); !why.empty()) return why;
  if (kDirection == Direction::kInputGrad) {
    if (request.dtype == DType::kFloat32) return "its input gradient is of 16 bits: wgmma transposes no tf32";
    if (problem.c * size_of(request.dtype) % kTmaAlignment != 0)
      return refuse_channels(problem.c, request.dtype);
  }
  const ConvProblem p = view_of(kDirection, problem, 0).problem;  // channels are the same in all
  if (request.dtype == DType::kFloat32) {
    if (request.precision != Precision::kTf32) return "its float32 is tf32, once: precision=\"tf32\"";
  } else if (request.dtype != DType::kFloat16 && request.dtype != DType::kBfloat16) {
    return std::string("tensor cores have no ") + name_of(request.dtype);
  }
  if (!request.channels_last) return "TMA reads channels that are neighbours in memory: channels last";
  if (p.c < 1 || p.in[0] < 1 || p.in[1] < 1 || p.in[2] < 1) return "its input is empty";
  if (p.c * size_of(request.dtype) % kTmaAlignment != 0) return refuse_channels(p.c, request.dtype);
  if (p.groups > 1 && p.c % kLineElements(request.dtype) != 0) {
    return "groups share its copies of x, so each needs a multiple of " +
           std::to_string(kLineElements(request.dtype)) + " channels, not " + std::to_string(p.c);
  }
  for (std::int64_t i = 0; i < product_count(kDirection, problem); ++i) {
    const std::string why = refuse_view<Tile>(view_of(kDirection, problem, i).problem);
    if (!why.empty()) return why;
  }
  return "";
}

template <typename Tile>
double multiply_adds_of(const ConvProblem& p, DType dtype) {
  constexpr int kBatch = 8;  // of nobody in particular, as in gemm_work: rows of several images share tiles
  const double rows = padded(volume(p.out) * kBatch, Tile::kBlockM) / kBatch;
  const double terms = double(volume(p.filter)) * padded(p.c, kLineElements(dtype));
  return Tile::kCost * double(p.groups) * rows * padded(p.k, Tile::kBlockN) * terms;
}

// ---- by addresses and strides ----

// w as its map has it, whichever the direction: from the lowest address on, which of a flipped filter is that
// of its last tap.
struct FilterMap {
  const void* address;
  std::int64_t channels, filters, channel_stride, filter_stride, group_stride;
  std::int64_t taps[kSpatial], stride[kSpatial];
  bool flipped[kSpatial];
};
FilterMap filter_map(const ConvProblem& p, const ConvArguments& args) {
  FilterMap w = {args.b, p.c, p.groups * p.k, p.w_stride[2], p.w_stride[1], p.w_stride[0], {}, {}, {}};
  std::int64_t lowest = 0;
  for (int axis = 0; axis < kSpatial; ++axis) {
    const std::int64_t stride = p.w_stride[3 + axis];
    w.taps[axis] = p.filter[axis];
    w.stride[axis] = std::abs(stride);
    w.flipped[axis] = stride < 0;
    if (w.flipped[axis]) lowest += (p.filter[axis] - 1) * stride;
  }
  w.address = advanced(args.b, lowest, args.request.dtype);
  return w;
}

bool tma_can_read(const ConvProblem& p, const FilterMap& w, const ConvArguments& args) {
  const DType dtype = args.request.dtype;
  bool can = aligned(args.a) && aligned(w.address) && p.x_stride[2] == 1 && w.channel_stride == 1;
  if (p.groups > 1) {
    can = can && p.x_stride[1] == p.c && w.group_stride == w.filters / p.groups * w.filter_stride;
  }
  can = can && tma_stride(p.n, p.x_stride[0], dtype) && tma_stride(w.filters, w.filter_stride, dtype);
  for (int axis = 0; axis < kSpatial; ++axis) {
    can = can && tma_stride(p.in[axis], p.x_stride[3 + axis], dtype) &&
          tma_stride(w.taps[axis], w.stride[axis], dtype);
  }
  return can;
}

// ---- maps and launch ----

bool is_tf32(const ConvArguments& args) { return args.request.dtype == DType::kFloat32; }

template <typename Tile>
TensorMap map_of_x(const ConvProblem& p, const ConvArguments& args) {
  return map_of_pixels(p, map_axes(p), args.a, args.request.dtype, Tile::kBlockM, is_tf32(args));
}

template <typename Tile>
TensorMap map_of_w(const FilterMap& f, const ConvArguments& args, Sm90Filter filter) {
  const int line = kLineElements(args.request.dtype);
  const MappedTensor w{args.request.dtype,
                       f.address,
                       kMostMapDims,
                       {f.channels, f.taps[2], f.taps[1], f.taps[0], f.filters},
                       {1, f.stride[2], f.stride[1], f.stride[0], f.filter_stride}};
  const int lines = filter == Sm90Filter::kChannelsInnermost ? Tile::kBlockN : line;
  return make_tile_map(w, {line, 1, 1, 1, lines}, is_tf32(args));
}

template <typename Tile>
Sm90Problem problem_of(const View& view, const FilterMap& w, const ConvArguments& args) {
  const ConvProblem& p = view.problem;
  const auto narrow = [](std::int64_t value) { return static_cast<std::int32_t>(value); };
  Sm90Problem q = {};
  q.rank = map_axes(p) + 2;
  q.groups = narrow(p.groups);
  q.rows = narrow(p.n * volume(p.out));
  q.filters = narrow(p.k);
  q.channels = narrow(p.c);
  q.tiles_m = narrow(ceil_div(q.rows, Tile::kBlockM));
  q.tiles_n = narrow(ceil_div(q.filters, Tile::kBlockN));
  for (int axis = 0; axis < kSpatial; ++axis) {
    q.out[axis] = fast_divisor(p.out[axis]);
    q.first[axis] = narrow(-p.pad[axis]);
    q.stride[axis] = narrow(p.stride[axis]);
    q.taps[axis] = narrow(p.filter[axis]);
    q.dilation[axis] = narrow(p.dilation[axis]);
    q.w_tap[axis] = narrow(w.flipped[axis] ? w.taps[axis] - 1 - view.tap[axis] : view.tap[axis]);
    q.w_step[axis] = narrow(w.flipped[axis] ? -view.tap_step[axis] : view.tap_step[axis]);
    q.y_position[axis] = p.y_stride[3 + axis];
  }
  q.y_image = p.y_stride[0];
  q.y_group = p.y_stride[1];
  q.y_filter = p.y_stride[2];
  const int width = kTmaAlignment / size_of(args.request.dtype);
  const auto even = [=](std::int64_t size, std::int64_t stride) { return size <= 1 || stride % width == 0; };
  q.y_by_vectors = aligned(args.out) && p.k % width == 0 && q.y_filter == 1 && even(p.groups, q.y_group) &&
                   even(p.n, q.y_image) && even(p.out[0], q.y_position[0]) &&
                   even(p.out[1], q.y_position[1]) && even(p.out[2], q.y_position[2]);
  return q;
}

template <typename T, typename Tile, Sm90Filter kFilter>
void launch_sm90(const View& view, const FilterMap& w, const ConvArguments& args) {
  using Traits = Sm90Traits<T, Tile>;
  const Sm90Problem q = problem_of<Tile>(view, w, args);
  const std::int64_t tiles = std::int64_t{q.groups} * q.tiles_m * q.tiles_n;
  launch("implicit_gemm_sm90", implicit_gemm_sm90_kernel<T, Tile, kFilter>,
         {{std::min<std::int64_t>(tiles, multiprocessors())}, {Traits::kThreads}, Traits::kSharedBytes},
         args.stream, q, map_of_x<Tile>(view.problem, args), map_of_w<Tile>(w, args, kFilter),
         epilogue_of<T>(args), static_cast<T*>(args.out));
}

template <typename Tile, Direction kDirection>
void launch_of_dtype(const View& view, const FilterMap& w, const ConvArguments& args) {
  constexpr Sm90Filter kFilter =
      kDirection == Direction::kForward ? Sm90Filter::kChannelsInnermost : Sm90Filter::kFiltersInnermost;
  if (args.request.dtype == DType::kFloat16) return launch_sm90<half_t, Tile, kFilter>(view, w, args);
  if (args.request.dtype == DType::kBfloat16) return launch_sm90<bfloat16_t, Tile, kFilter>(view, w, args);
  if constexpr (kDirection == Direction::kForward) return launch_sm90<float, Tile, kFilter>(view, w, args);
}

template <typename Tile, Direction kDirection>
void run_view(const ConvProblem& p, const ConvArguments& args, std::int64_t index) {
  const View whole = view_of(kDirection, p, index);
  const ConvProblem& v = whole.problem;
  if (outputs_of(v) == 0) return;
  const FilterMap w = filter_map(p, args);
  // Tiles are counted in 31 bits. Images that lie one after another as no map can say go one by one, each as
  // it would go alone: its bits must not depend on its batch.
  const auto images = static_cast<std::int64_t>(double(kMostIndices) / tiles_of_image<Tile>(v));
  const bool together = tma_stride(v.n, v.x_stride[0], args.request.dtype);
  for_each_stretch(
      Direction::kForward, v, args,
      together ? std::clamp<std::int64_t>(images, 1, countable_images(Direction::kForward, v)) : 1,
      [&](const ConvProblem& stretch, ConvArguments moved) {
        // Without taps there are no products, and nothing to read: the bias remains.
        if (volume(stretch.filter) > 0 && tma_can_read(stretch, w, moved)) {
          View view = whole;
          view.problem = stretch;
          moved.out = advanced(moved.out, whole.y_offset, args.request.dtype);
          return launch_of_dtype<Tile, kDirection>(view, w, moved);
        }
        ConvProblem part = p;
        part.n = stretch.n;
        TensorCore<TensorCoreTile128x128>::launch(
            args.request, call_of(kDirection, moved, product_of(kDirection, part, index)));
      });
}

}  // namespace

template <typename Tile, Direction kDirection>
Suitability Sm90<Tile, kDirection>::suits(const ConvProblem& p, const ConvRequest& request) {
  if (const std::string why = refuse<Tile, kDirection>(p, request); !why.empty()) return {why};
  Work work = {0, Unit::kTensorCores, 0, double(product_count(kDirection, p))};
  for (std::int64_t i = 0; i < product_count(kDirection, p); ++i) {
    work.multiply_adds += multiply_adds_of<Tile>(view_of(kDirection, p, i).problem, request.dtype);
  }
  return {"", 0, work};
}

template <typename Tile, Direction kDirection>
void Sm90<Tile, kDirection>::run(const ConvProblem& p, const ConvArguments& args) {
  for (std::int64_t i = 0; i < product_count(kDirection, p); ++i) run_view<Tile, kDirection>(p, args, i);
}

template struct Sm90<Sm90Tile128x128, Direction::kForward>;
template struct Sm90<Sm90Tile256x128, Direction::kForward>;
template struct Sm90<Sm90Tile128x128, Direction::kInputGrad>;
template struct Sm90<Sm90Tile256x128, Direction::kInputGrad>;

}  // namespace cuconv
