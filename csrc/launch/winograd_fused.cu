#include <algorithm>
#include <string>
#include <type_traits>

#include "kernels/winograd/fused.cuh"
#include "launch/dispatch.h"
#include "launch/gemm.h"
#include "launch/tiles.h"
#include "launch/winograd.h"
#include "launch/winograd_common.h"

namespace cuconv {
namespace {

// The larger transform is for float32 alone: an instance of it is long to compile.
template <typename T, typename Tile>
constexpr bool kFused = std::is_same_v<accumulator_t<T>, float> && (Tile::kOutputs == 2 || sizeof(T) == 4);

template <typename Tile>
bool is_fused(DType dtype) {
  return dtype == DType::kFloat32 ||
         (Tile::kOutputs == 2 && (dtype == DType::kFloat16 || dtype == DType::kBfloat16));
}

// Of an image alone, in a grid; several images share blocks.
template <typename Tile>
double blocks_of_image(const ConvProblem& p) {
  return double(ceil_div(tiles_of_image(p, Tile::kOutputs), Tile::kTiles)) * double(p.groups) *
         double(ceil_div(p.k, Tile::kFilters));
}

template <typename Tile>
std::int64_t filter_bytes(const ConvProblem& p) {
  return transformed_filters(p, Tile::kOutputs) * std::int64_t{sizeof(float)};
}

}  // namespace

template <typename Tile>
Suitability WinogradFused<Tile>::suits(const ConvProblem& p, const ConvRequest& request) {
  if (const std::string why = refuse_winograd(p, request.dtype); !why.empty()) return {why, 0, 0};
  if (!is_fused<Tile>(request.dtype)) {
    return {std::string("its accumulators are float32, and it takes ") +
                (Tile::kOutputs == 2 ? "float32, float16 and bfloat16, not " : "float32 alone, not ") +
                name_of(request.dtype),
            0, 0};
  }
  if (blocks_of_image<Tile>(p) > double(kMostGrid))
    return {"its tiles are more blocks than a grid has", 0, 0};
  const std::int64_t bytes = filter_bytes<Tile>(p);
  if (bytes > request.workspace_limit) {
    return {"its transformed filters take " + std::to_string(bytes) + " bytes of workspace, the limit is " +
                std::to_string(request.workspace_limit),
            0, 0};
  }
  const double tiles =
      padded(tiles_of_image(p, Tile::kOutputs) * kNominalBatch, Tile::kTiles) / kNominalBatch;
  const double products = double(frequencies(Tile::kOutputs)) * double(p.groups) *
                          padded(p.k, Tile::kFilters) * padded(p.c, Tile::kChannels) * tiles;
  const double filters = 2.0 * double(bytes) / kNominalBatch;
  return {"", bytes, {Tile::kCost * products, Unit::kCudaCores, filters, 2}};
}

template <typename Tile>
void WinogradFused<Tile>::run(const ConvProblem& p, const ConvArguments& args) {
  if (outputs_of(p) == 0) return;
  launch_filter_transform<Tile::kOutputs>(p, args, args.workspace);
  const bool channels_innermost = p.c > 1 && p.x_stride[2] == 1;
  const PairOrder order =
      channels_innermost ? PairOrder{Tile::kLogChannels, 0} : PairOrder{0, Tile::kLogTiles};
  const auto run_stretch = [&](const ConvProblem& part, const ConvArguments& at) {
    const TileGrid grid = tile_grid(part, Tile::kOutputs);
    const std::int64_t blocks = ceil_div(grid.tiles, Tile::kTiles) * p.groups * ceil_div(p.k, Tile::kFilters);
    dispatch_real_dtype(args.request.dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      if constexpr (kFused<T, Tile>) {
        using Traits = WinogradTraits<T, Tile>;
        launch("winograd_fused", winograd_fused_kernel<T, Tile>,
               {{blocks}, {Traits::kThreads}, Traits::kSharedBytes}, at.stream, part, grid,
               rounded_up_to_vectors(p.k), order, static_cast<const T*>(at.a),
               static_cast<const accumulator_t<T>*>(args.workspace), epilogue_of<T>(at),
               static_cast<T*>(at.out));
      }
    });
  };
  const auto grids = static_cast<std::int64_t>(double(kMostGrid) / blocks_of_image<Tile>(p));
  const std::int64_t images = std::min(tileable_images(p, Tile::kOutputs), grids);
  for_each_stretch(Direction::kForward, p, args, images, run_stretch);
}

template struct WinogradFused<WinogradTile2x2>;
template struct WinogradFused<WinogradTile4x4>;

}  // namespace cuconv
