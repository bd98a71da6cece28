#include <algorithm>

#include "kernels/implicit_gemm/split_k.cuh"
#include "launch/conv.h"
#include "launch/dispatch.h"
#include "launch/gemm.h"
#include "launch/grid.h"
#include "launch/tiles.h"

namespace cuconv {
namespace {

// Two blocks for each multiprocessor of the largest GPUs.
constexpr std::int64_t kTargetBlocks = 264;
// A piece shorter than this is not worth its second pass.
constexpr std::int64_t kLeastTerms = 512;
constexpr std::int64_t kMostSplits = 64;
// Forward sums are cut only where an image is a fraction of a tile, and into few pieces, for the batch must
// not decide: a large one gets them, too, where they only cost.
constexpr std::int64_t kSmallImage = 64;
constexpr std::int64_t kMostForwardSplits = 4;

}  // namespace

std::int64_t blocks_of(const GatherProblem& g, const TileShape& tile) {
  return ceil_div(g.row_end - g.row_begin, tile.block_m) * ceil_div(g.filters, tile.block_n) * g.groups *
         g.splits;
}

std::string refuse_blocks(const GatherProblem& g, const TileShape& tile) {
  const double blocks = double(ceil_div(g.row_end, tile.block_m)) *
                        double(ceil_div(g.filters, tile.block_n)) * double(g.groups) * double(kMostSplits);
  if (blocks <= double(kMostGrid)) return "";
  return "its tiles could be " + std::to_string(blocks) + " blocks, more than a grid has";
}

Work gemm_work(Direction direction, const ConvProblem& p, const TileShape& tile) {
  constexpr int kBatch = 8;  // of nobody in particular: rows of several images share tiles
  ConvProblem image = p;
  image.n = 1;
  double computed = 0;
  for (std::int64_t i = 0; i < product_count(direction, p); ++i) {
    const GatherProblem g = product_of(direction, image, i).gather;
    const double rows = direction == Direction::kWeightGrad
                            ? padded(g.row_end, tile.block_m)
                            : padded(g.row_end * std::int64_t{kBatch}, tile.block_m) / kBatch;
    computed += double(g.groups) * rows * padded(g.filters, tile.block_n) * padded(g.term_end, tile.block_k);
  }
  return {tile.cost * computed, tile.unit, 0, double(product_count(direction, p))};
}

Pieces pieces_of(Direction direction, const GatherProblem& g, const TileShape& tile, DType dtype,
                 std::int64_t limit) {
  const std::int64_t rows = g.row_end - g.row_begin;
  const std::int64_t terms = g.term_end - g.term_begin;
  const std::int64_t bytes = g.groups * rows * g.filters * accumulator_bytes(dtype);
  const Pieces whole{1, std::max<std::int64_t>(terms, 1), 0};
  std::int64_t most = std::min(kMostSplits, terms / kLeastTerms);
  if (direction != Direction::kWeightGrad)
    most = rows <= kSmallImage ? std::min(most, kMostForwardSplits) : 1;
  const std::int64_t tiles = ceil_div(rows, tile.block_m) * ceil_div(g.filters, tile.block_n) * g.groups;
  std::int64_t count = std::min(most, kTargetBlocks / std::max<std::int64_t>(tiles, 1));
  if (bytes > 0) count = std::min(count, limit / bytes);
  if (count <= 1) return whole;
  const std::int64_t length = ceil_div(ceil_div(terms, kStageTerms), count) * kStageTerms;
  count = ceil_div(terms, length);
  return {count, length, count * bytes};
}

GemmCall call_of(Direction direction, const ConvArguments& args, const Product& product) {
  // The weight gradient gathers x, its second operand, and filters it with the gradient of y.
  const bool swapped = direction == Direction::kWeightGrad;
  const DType dtype = args.request.dtype;
  GemmCall call = {};
  call.gather = product.gather;
  (swapped ? call.gather.conjugate_x : call.gather.conjugate_w) = args.conjugate;
  call.x = advanced(swapped ? args.b : args.a, product.x_offset, dtype);
  call.w = advanced(swapped ? args.a : args.b, product.w_offset, dtype);
  call.y = advanced(args.out, product.y_offset, dtype);
  call.bias = args.bias;
  call.bias_stride = args.bias_stride;
  call.activation = args.activation;
  call.stream = args.stream;
  return call;
}

Partial<void> pieces_at(void* workspace, const GatherProblem& g) {
  const std::int64_t rows = g.row_end - g.row_begin;
  return {workspace, false, g.groups * rows * g.filters, rows * g.filters, g.filters, 1};
}

std::int64_t countable_images(Direction direction, const ConvProblem& p) {
  if (direction == Direction::kWeightGrad) return std::max<std::int64_t>(p.n, 1);
  const std::int64_t rows = direction == Direction::kForward ? volume(p.out) : volume(p.in);
  return std::max<std::int64_t>(kMostIndices / std::max<std::int64_t>(rows, 1), 1);
}

void launch_split_k(DType dtype, const GemmCall& call) {
  const GatherProblem& g = call.gather;
  const std::int64_t sums = g.groups * (g.row_end - g.row_begin) * g.filters;
  dispatch_dtype(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch("split_k", split_k_kernel<T>, {{blocks_for(sums, kSplitKThreads)}, {kSplitKThreads}, 0},
           call.stream, g, partial_of<accumulator_t<T>>(call), epilogue_of<T>(call), static_cast<T*>(call.y));
  });
}

}  // namespace cuconv
