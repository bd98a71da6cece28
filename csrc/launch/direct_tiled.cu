#include <algorithm>
#include <string>

#include "kernels/direct/tiled.cuh"
#include "launch/conv.h"
#include "launch/direct.h"
#include "launch/dispatch.h"
#include "launch/grid.h"
#include "launch/tiles.h"

namespace cuconv {
namespace {

// How far the patch under a tile reaches along an axis, in floating point: the parameters may be huge.
double reach(const ConvProblem& p, int axis, int tile) {
  return (tile - 1.0) * static_cast<double>(p.stride[axis]) +
         static_cast<double>(p.dilation[axis]) * (static_cast<double>(p.filter[axis]) - 1) + 1;
}

template <typename Tile>
double shared_bytes_a_channel(const ConvProblem& p, DType dtype) {
  const double patch = reach(p, 1, Tile::kTileP) * reach(p, 2, Tile::kTileQ);
  const double filters = Tile::kFilters * static_cast<double>(p.filter[1]) * static_cast<double>(p.filter[2]);
  return (patch + filters) * accumulator_bytes(dtype);
}

template <typename Tile>
DirectTiling tiling_of(const ConvProblem& p, DType dtype) {
  DirectTiling tiling;
  tiling.tiles_p = ceil_div(p.out[1], Tile::kTileP);
  tiling.tiles_q = ceil_div(p.out[2], Tile::kTileQ);
  tiling.filter_tiles = ceil_div(p.k, Tile::kFilters);
  tiling.tiles = p.n * p.groups * tiling.filter_tiles * p.out[0] * tiling.tiles_p * tiling.tiles_q;
  const auto fit = static_cast<std::int64_t>(kDirectSharedLimit / shared_bytes_a_channel<Tile>(p, dtype));
  tiling.channels = static_cast<int>(std::clamp<std::int64_t>(std::min(fit, p.c), 1, kDirectMaxChannels));
  tiling.rows = static_cast<int>(reach(p, 1, Tile::kTileP));
  tiling.cols = static_cast<int>(reach(p, 2, Tile::kTileQ));
  tiling.filter_rows = static_cast<int>(p.filter[1]);
  tiling.filter_cols = static_cast<int>(p.filter[2]);
  // A step that is never taken may be too large for 32 bits.
  const auto step = [](std::int64_t length, std::int64_t count) {
    return count > 1 ? static_cast<int>(length) : 0;
  };
  tiling.tile_step_p = step(p.stride[1], Tile::kTileP);
  tiling.tile_step_q = step(p.stride[2], Tile::kTileQ);
  tiling.tap_step_p = step(p.dilation[1], p.filter[1]);
  tiling.tap_step_q = step(p.dilation[2], p.filter[2]);
  return tiling;
}

}  // namespace

template <typename Tile>
Suitability DirectTiled<Tile>::suits(const ConvProblem& p, const ConvRequest& request) {
  const double bytes = shared_bytes_a_channel<Tile>(p, request.dtype);
  if (bytes > kDirectSharedLimit) {
    return {"one channel of its tile takes " + std::to_string(bytes / 1024) +
                " KiB of shared memory, the limit is " + std::to_string(kDirectSharedLimit / 1024) + " KiB",
            0, 0};
  }
  const double computed = double(p.groups) * padded(p.k, Tile::kFilters) * double(p.out[0]) *
                          padded(p.out[1], Tile::kTileP) * padded(p.out[2], Tile::kTileQ);
  return {"", 0, {kDirectTiledCost * computed * double(p.c) * double(volume(p.filter))}};
}

template <typename Tile>
void DirectTiled<Tile>::run(const ConvProblem& p, const ConvArguments& args) {
  if (outputs_of(p) == 0) return;
  const DirectTiling tiling = tiling_of<Tile>(p, args.request.dtype);
  const auto shared =
      static_cast<std::size_t>(tiling.channels * shared_bytes_a_channel<Tile>(p, args.request.dtype));
  dispatch_dtype(args.request.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch("direct_tiled", direct_tiled_kernel<T, Tile>,
           {{std::min(kMaxBlocks, tiling.tiles)}, {Tile::kThreads}, shared}, args.stream, p, tiling,
           static_cast<const T*>(args.a), static_cast<const T*>(args.b), args.conjugate, epilogue_of<T>(args),
           static_cast<T*>(args.out));
  });
}

template struct DirectTiled<DirectTile16x16>;
template struct DirectTiled<DirectTile1x128>;

}  // namespace cuconv
