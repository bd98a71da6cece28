#include <algorithm>
#include <cmath>
#include <string>

#include "kernels/winograd/transform.cuh"
#include "launch/dispatch.h"
#include "launch/grid.h"
#include "launch/implicit_gemm.h"
#include "launch/product.h"
#include "launch/winograd.h"
#include "launch/winograd_common.h"

namespace cuconv {
namespace {

// Calls f(type_tag<T>{}): numbers of 16 bits have tensor cores, or the fused form.
template <typename F>
void dispatch_staged(DType dtype, F f) {
  if (dtype == DType::kFloat64) return f(type_tag<double>{});
  f(type_tag<float>{});
}

// ---- the product ----

// m[tile, k] = sum over c of v[tile, c] * u[k, c] at every frequency of every group: a convolution of one tap
// over a line of tiles, with frequencies for groups.
struct Layout {
  FrequencySteps inputs, products;
  bool channels_innermost, filters_innermost;
};

// What is innermost in x and y stays so, where vectors come out whole.
Layout layout_of(const ConvProblem& p, std::int64_t tiles) {
  const std::int64_t k = rounded_up_to_vectors(p.k);
  const bool channels = p.c > 1 && p.x_stride[2] == 1 && p.c % kWinogradVector == 0;
  const bool filters = p.k > 1 && p.y_stride[2] == 1;
  const auto steps = [&](std::int64_t count, bool innermost) {
    return FrequencySteps{p.groups * count * tiles, count * tiles, innermost ? 1 : tiles,
                          innermost ? count : 1};
  };
  return {steps(p.c, channels), steps(k, filters), channels, filters};
}

ConvProblem product_problem(const ConvProblem& p, int outputs, const Layout& layout, std::int64_t tiles) {
  const std::int64_t k = rounded_up_to_vectors(p.k);
  ConvProblem q = {};
  q.n = 1;
  q.groups = frequencies(outputs) * p.groups;
  q.c = p.c;
  q.k = k;
  for (int axis = 0; axis < kSpatial; ++axis) {
    q.in[axis] = q.out[axis] = q.filter[axis] = q.stride[axis] = q.dilation[axis] = 1;
  }
  q.in[2] = q.out[2] = tiles;
  const auto place = [](std::int64_t (&stride)[6], const FrequencySteps& steps) {
    stride[1] = steps.group;
    stride[2] = steps.channel;
    stride[5] = steps.tile;
  };
  place(q.x_stride, layout.inputs);
  place(q.y_stride, layout.products);
  q.w_stride[0] = p.c * k;
  q.w_stride[1] = 1;
  q.w_stride[2] = k;
  return q;
}

// For one image, since the batch must not decide.
ChosenProduct choose_product(const ConvProblem& p, int outputs, DType dtype) {
  const std::int64_t tiles = rounded_up_to_vectors(tiles_of_image(p, outputs));
  return cheapest_product({kProductBy<ImplicitGemm<Simt<SimtTile128x128>, Direction::kForward>>,
                           kProductBy<ImplicitGemm<Simt<SimtTile64x64>, Direction::kForward>>,
                           kProductBy<ImplicitGemm<Simt<SimtTile32x32>, Direction::kForward>>},
                          product_problem(p, outputs, layout_of(p, tiles), tiles), dtype);
}

// ---- chunks ----

// How many tiles are done at a time, and the bytes of filters, inputs and products.
struct Chunk {
  std::int64_t tiles;  // 0: not even the least fits
  std::int64_t filters, inputs, products;
  std::int64_t bytes() const { return filters + inputs + products; }
};

// Whether the least chunk fits depends on an image alone, as all that decides must.
Chunk chunk_of(const ConvProblem& p, int outputs, const ConvRequest& request) {
  const std::int64_t size = size_of(request.dtype);
  const std::int64_t image = tiles_of_image(p, outputs);
  const std::int64_t least = std::min(kStagedTiles, rounded_up_to_vectors(image));
  const std::int64_t all = rounded_up_to_vectors(std::min(p.n, tileable_images(p, outputs)) * image);
  const std::int64_t input = frequencies(outputs) * p.groups * p.c * size;  // of a tile
  const std::int64_t product = frequencies(outputs) * p.groups * rounded_up_to_vectors(p.k) * size;
  const std::int64_t bytes = std::max<std::int64_t>(least * (input + product), 1);
  Chunk chunk = {0, transformed_filters(p, outputs) * size, 0, 0};
  const std::int64_t room = request.workspace_limit - chunk.filters;
  const bool fits = bytes <= room;
  const std::int64_t units = fits ? std::max<std::int64_t>(std::min(room, kStagedBytes) / bytes, 1) : 1;
  const std::int64_t tiles = std::min(units * least, all);
  chunk.tiles = fits ? tiles : 0;
  chunk.inputs = tiles * input;
  chunk.products = tiles * product;
  return chunk;
}

// ---- transforms ----

template <int kOutputs>
void launch_inputs(const ConvProblem& p, const ConvArguments& args, const TileGrid& grid, std::int32_t first,
                   std::int32_t tiles, const Layout& layout, void* inputs) {
  const std::int64_t items = p.groups * p.c * tiles;
  if (items == 0) return;
  dispatch_staged(args.request.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch("winograd_inputs", winograd_input_kernel<T, kOutputs>,
           {{blocks_for(items, kTransformThreads)}, {kTransformThreads}, 0}, args.stream, p, grid, first,
           tiles, layout.inputs, layout.channels_innermost, static_cast<const T*>(args.a),
           static_cast<accumulator_t<T>*>(inputs));
  });
}

template <int kOutputs>
void launch_outputs(const ConvProblem& p, const ConvArguments& args, const TileGrid& grid, std::int32_t first,
                    std::int32_t tiles, const Layout& layout, const void* products) {
  const std::int64_t items = p.groups * p.k * tiles;
  dispatch_staged(args.request.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch("winograd_outputs", winograd_output_kernel<T, kOutputs>,
           {{blocks_for(items, kTransformThreads)}, {kTransformThreads}, 0}, args.stream, p, grid, first,
           tiles, layout.products, layout.filters_innermost, static_cast<const accumulator_t<T>*>(products),
           epilogue_of<T>(args), static_cast<T*>(args.out));
  });
}

// Each chunk is transformed, multiplied and transformed back, then the next.
template <int kOutputs>
void run_chunks(const ConvProblem& p, const ConvArguments& args) {
  const Chunk chunk = chunk_of(p, kOutputs, args.request);
  const ProductKernel product = choose_product(p, kOutputs, args.request.dtype).kernel;
  char* filters = static_cast<char*>(args.workspace);
  char* inputs = filters + chunk.filters;
  char* products = inputs + chunk.inputs;
  launch_filter_transform<kOutputs>(p, args, filters);

  const auto run_stretch = [&](const ConvProblem& part, const ConvArguments& at) {
    const TileGrid grid = tile_grid(part, kOutputs);
    for (std::int64_t first = 0; first < grid.tiles; first += chunk.tiles) {
      const std::int64_t tiles = rounded_up_to_vectors(std::min(chunk.tiles, grid.tiles - first));
      const Layout layout = layout_of(p, tiles);
      const auto from = static_cast<std::int32_t>(first), count = static_cast<std::int32_t>(tiles);
      launch_inputs<kOutputs>(part, at, grid, from, count, layout, inputs);
      const ConvArguments operands = {product_request(args.request.dtype),
                                      false,
                                      Activation::kNone,
                                      inputs,
                                      filters,
                                      nullptr,
                                      0,
                                      products,
                                      nullptr,
                                      args.stream};
      product.run(product_problem(p, kOutputs, layout, tiles), operands);
      launch_outputs<kOutputs>(part, at, grid, from, count, layout, products);
    }
  };
  for_each_stretch(Direction::kForward, p, args, tileable_images(p, kOutputs), run_stretch);
}

}  // namespace

template <int kOutputs>
Suitability WinogradStaged<kOutputs>::suits(const ConvProblem& p, const ConvRequest& request) {
  if (const std::string why = refuse_winograd(p, request.dtype); !why.empty()) return {why, 0, 0};
  if (request.dtype != DType::kFloat32 && request.dtype != DType::kFloat64) {
    return {std::string("it takes float32 and float64, not ") + name_of(request.dtype), 0, 0};
  }
  const Chunk chunk = chunk_of(p, kOutputs, request);
  if (chunk.tiles == 0 && p.n > 0 && outputs_of(p) > 0) {
    return {"its filters and its least chunk of tiles take " + std::to_string(chunk.bytes()) +
                " bytes of workspace, the limit is " + std::to_string(request.workspace_limit),
            0, 0};
  }
  const Suitability product = choose_product(p, kOutputs, request.dtype).answer;
  if (!product.refusal.empty()) return {product.refusal, 0, 0};
  // All is written once and read once; filters and launches are for several images.
  ConvProblem batch = p;
  batch.n = kNominalBatch;
  const Chunk usual = chunk_of(batch, kOutputs, request);
  const double tiles = double(std::max<std::int64_t>(usual.tiles, 1));
  const double image = double(tiles_of_image(p, kOutputs));
  const double chunks = std::ceil(image * kNominalBatch / tiles);
  const double transformed = double(usual.inputs + usual.products) * image / tiles;
  const double bytes = 2 * (transformed + double(usual.filters) / kNominalBatch);
  const Work work = {product.work.multiply_adds, product.work.unit, bytes,
                     1 + chunks * (2 + product.work.launches)};
  return {"", chunk.bytes(), work};
}

template <int kOutputs>
void WinogradStaged<kOutputs>::run(const ConvProblem& p, const ConvArguments& args) {
  if (outputs_of(p) > 0) run_chunks<kOutputs>(p, args);
}

template struct WinogradStaged<2>;
template struct WinogradStaged<4>;

}  // namespace cuconv
