#include <algorithm>
#include <cmath>
#include <string>

#include "kernels/direct/depthwise_rows.cuh"
#include "launch/conv.h"
#include "launch/depthwise.h"
#include "launch/dispatch.h"
#include "launch/grid.h"
#include "tuning/depthwise_tiles.h"

namespace cuconv {
namespace {

// A tile of one plane, as far as the sizes decide it: not the batch, not the layout.
struct PlaneTile {
  std::int64_t across, down;              // threads
  std::int64_t filter_rows, filter_cols;  // taps at a time
  double bytes;                           // of shared memory; in floating point, for steps may be huge
};

constexpr double kForPlanes = kDepthwiseSharedLimit - double(sizeof(TilePlace));
constexpr std::int64_t kMostTaps = std::int64_t{1} << 30;

struct PlaneLayout {
  double rows, cells, residues, piece_pitch, row_pitch, taps_pitch;
};

constexpr std::int64_t round_up(std::int64_t size, std::int64_t multiple) {
  return ceil_div(size, multiple) * multiple;
}

template <typename Tile>
PlaneLayout layout_of(const TapAxis& h, const TapAxis& w, const PlaneTile& tile, int acc_bytes) {
  PlaneLayout layout;
  const std::int64_t taps = round_up(ceil_div(tile.filter_cols, w.step), kTapsALoad);
  layout.rows = double(tile.down * Tile::kRows - 1) * double(h.step) + double(tile.filter_rows);
  layout.cells = double(tile.across * Tile::kCols + taps);
  layout.residues = double(std::min(w.step, tile.filter_cols));
  // Skewed by 16 bytes in 128; and 16 more, so that threads one below the other are in other banks as well.
  const double line = 128.0 / acc_bytes, part = 16.0 / acc_bytes;
  layout.piece_pitch = layout.cells + std::floor((layout.cells - 1) / line) * part + part;
  layout.row_pitch = layout.residues * layout.piece_pitch;
  layout.taps_pitch = double(taps);
  return layout;
}

template <typename Tile>
double bytes_of(const TapAxis& h, const TapAxis& w, const PlaneTile& tile, int acc_bytes) {
  const PlaneLayout l = layout_of<Tile>(h, w, tile, acc_bytes);
  const double elements = l.rows * l.row_pitch + double(tile.filter_rows) * l.residues * l.taps_pitch;
  return elements * acc_bytes + double(sizeof(PlanePlace));
}

// As many threads as there are outputs for, evenly; then less of what takes the most, until it fits.
template <typename Tile>
PlaneTile plane_tile_of(const ConvProblem& p, DType dtype) {
  const TapAxis h = tap_axis_of(p, 1), w = tap_axis_of(p, 2);
  const int acc_bytes = accumulator_bytes(dtype);
  const auto evenly = [](std::int64_t threads, std::int64_t most) {
    return ceil_div(threads, ceil_div(threads, most));
  };
  const auto threads_for = [](std::int64_t out, const TapAxis& axis, int each) {
    return std::max<std::int64_t>(ceil_div(ceil_div(out, axis.phases), each), 1);
  };
  // A square of outputs where there are rows to share.
  constexpr std::int64_t kAcross = Tile::kRows > 1 ? 16 : Tile::kThreads;
  PlaneTile tile;
  tile.across = evenly(threads_for(p.out[2], w, Tile::kCols), kAcross);
  tile.down = evenly(threads_for(p.out[1], h, Tile::kRows), Tile::kThreads / tile.across);
  tile.filter_rows = std::max<std::int64_t>(p.filter[1], 1);
  tile.filter_cols = std::max<std::int64_t>(p.filter[2], 1);
  for (;;) {
    tile.bytes = bytes_of<Tile>(h, w, tile, acc_bytes);
    if (tile.bytes <= kForPlanes) return tile;
    const auto half = [](std::int64_t size) { return (size + 1) / 2; };
    const bool many_rows = tile.filter_rows > 1 &&
                           double(tile.filter_rows) >= double(tile.down * Tile::kRows - 1) * double(h.step);
    const bool many_cols = tile.filter_cols > 1 &&
                           double(tile.filter_cols) >= double(tile.across * Tile::kCols - 1) * double(w.step);
    if (many_rows) {
      tile.filter_rows = half(tile.filter_rows);
    } else if (tile.down > 1) {
      tile.down = half(tile.down);
    } else if (many_cols) {
      tile.filter_cols = half(tile.filter_cols);
    } else if (tile.across > 1) {
      tile.across = half(tile.across);
    } else if (tile.filter_rows > 1 || tile.filter_cols > 1) {
      tile.filter_rows = half(tile.filter_rows);
      tile.filter_cols = half(tile.filter_cols);
    } else {
      return tile;
    }
  }
}

template <typename Tile>
DepthwiseTiling tiling_of(const ConvProblem& p, DType dtype) {
  const PlaneTile tile = plane_tile_of<Tile>(p, dtype);
  DepthwiseTiling t;
  t.h = tap_axis_of(p, 1);
  t.w = tap_axis_of(p, 2);
  const PlaneLayout layout = layout_of<Tile>(t.h, t.w, tile, accumulator_bytes(dtype));
  const auto small = [](double size) { return static_cast<int>(size); };
  t.planes = p.n * p.groups * p.k;
  t.across = static_cast<int>(tile.across);
  t.down = static_cast<int>(tile.down);
  t.all_rows = static_cast<int>(p.filter[1]);
  t.all_cols = static_cast<int>(p.filter[2]);
  t.filter_rows = static_cast<int>(tile.filter_rows);
  t.filter_cols = static_cast<int>(tile.filter_cols);
  t.rows = small(layout.rows);
  t.cells = small(layout.cells);
  t.residues = small(layout.residues);
  t.piece_pitch = small(layout.piece_pitch);
  t.row_pitch = small(layout.row_pitch);
  t.plane_size = t.rows * t.row_pitch;
  t.taps_pitch = small(layout.taps_pitch);
  t.filter_size = t.filter_rows * t.residues * t.taps_pitch;
  // Beyond this a step is as good as any: no chunk has so many taps.
  constexpr std::int64_t kLargeStep = 1 << 20;
  t.step_w = static_cast<int>(std::min(t.w.step, kLargeStep));
  t.step_h = static_cast<int>(std::min(t.h.step, kLargeStep));
  const auto fit = static_cast<std::int64_t>(kForPlanes / tile.bytes);
  t.planes_a_block =
      static_cast<int>(std::min({std::int64_t{Tile::kThreads} / (tile.across * tile.down), fit, t.planes}));
  t.tiles_p = ceil_div(ceil_div(p.out[1], t.h.phases), t.down * Tile::kRows);
  t.tiles_q = ceil_div(ceil_div(p.out[2], t.w.phases), t.across * Tile::kCols);
  t.tiles = ceil_div(t.planes, t.planes_a_block) * p.out[0] * t.h.phases * t.w.phases * t.tiles_p * t.tiles_q;
  const int width = 16 / size_of(dtype);
  // Of steps longer than the chunk of taps most elements would be fetched in vain.
  t.vectors = p.x_stride[5] == 1 && t.w.unit == 1 && t.w.step <= std::max(t.residues, 2);
  t.fetches_by = fast_divisor(t.vectors ? ceil_div(std::int64_t{t.cells} * t.step_w + width - 1, width) : 1);
  t.rows_by = fast_divisor(t.rows);
  t.step_by = fast_divisor(t.step_w);
  t.cells_by = fast_divisor(t.cells);
  t.residues_by = fast_divisor(t.residues);
  return t;
}

}  // namespace

template <typename Tile>
std::string refuse_depthwise_rows(const ConvProblem& p, DType dtype) {
  const double bytes = plane_tile_of<Tile>(p, dtype).bytes;
  if (bytes <= kForPlanes && p.filter[1] <= kMostTaps && p.filter[2] <= kMostTaps) return "";
  if (bytes <= kForPlanes) return "it counts taps along an axis to 2^30 at the most";
  return "the rows under one thread's outputs take " + std::to_string(bytes / 1024) +
         " KiB of shared memory, the limit is " + std::to_string(kDepthwiseSharedLimit / 1024) + " KiB";
}

template <typename Tile>
DepthwiseWork depthwise_rows_work(const ConvProblem& p, DType dtype) {
  const PlaneTile tile = plane_tile_of<Tile>(p, dtype);
  const TapAxis h = tap_axis_of(p, 1), w = tap_axis_of(p, 2);
  const PlaneLayout layout = layout_of<Tile>(h, w, tile, accumulator_bytes(dtype));
  const auto padded = [](std::int64_t out, const TapAxis& axis, std::int64_t each) {
    return double(axis.phases) * double(round_up(ceil_div(out, axis.phases), each));
  };
  const double planes = double(p.groups) * double(p.k) * double(p.c) * double(p.out[0]) * double(p.filter[0]);
  const double outputs = padded(p.out[1], h, Tile::kRows) * padded(p.out[2], w, Tile::kCols);
  const double tiles = padded(p.out[1], h, tile.down * Tile::kRows) *
                       padded(p.out[2], w, tile.across * Tile::kCols) /
                       double(tile.down * Tile::kRows * tile.across * Tile::kCols);
  const double chunks =
      double(ceil_div(p.filter[1], tile.filter_rows)) * double(ceil_div(p.filter[2], tile.filter_cols));
  return {planes * outputs * double(p.filter[1]) * double(p.filter[2]),
          planes * tiles * chunks * layout.rows * layout.residues * layout.cells};
}

template <typename Tile>
void run_depthwise_rows(const ConvProblem& p, const ConvArguments& args) {
  const DepthwiseTiling t = tiling_of<Tile>(p, args.request.dtype);
  const std::size_t elements = static_cast<std::size_t>(t.planes_a_block) * (t.plane_size + t.filter_size);
  const std::size_t shared = elements * accumulator_bytes(args.request.dtype) +
                             static_cast<std::size_t>(t.planes_a_block) * sizeof(PlanePlace) +
                             sizeof(TilePlace);
  dispatch_dtype(args.request.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch("depthwise_rows", depthwise_rows_kernel<T, Tile>,
           {{std::min(kMaxBlocks, t.tiles)}, {Tile::kThreads}, shared}, args.stream, p, t,
           static_cast<const T*>(args.a), static_cast<const T*>(args.b), args.conjugate, epilogue_of<T>(args),
           static_cast<T*>(args.out));
  });
}

#define CUCONV_DEPTHWISE_ROWS(Tile)                                            \
  template std::string refuse_depthwise_rows<Tile>(const ConvProblem&, DType); \
  template DepthwiseWork depthwise_rows_work<Tile>(const ConvProblem&, DType); \
  template void run_depthwise_rows<Tile>(const ConvProblem&, const ConvArguments&);
CUCONV_DEPTHWISE_ROWS(DepthwiseTile4x4)
CUCONV_DEPTHWISE_ROWS(DepthwiseTile1x8)
#undef CUCONV_DEPTHWISE_ROWS

}  // namespace cuconv
