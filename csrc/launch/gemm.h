// One matrix product of a convolution, as the main loops launch it, and how sums are cut into pieces.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/epilogue.cuh"
#include "launch/gather.h"
#include "launch/registry.h"

namespace cuconv {

struct GemmCall {
  GatherProblem gather;
  const void* x;
  const void* w;
  void* y;
  const void* bias;
  std::int64_t bias_stride;
  Activation activation;
  Partial<void> partial;  // its sums are accumulators
  Stream stream;
};

// The tile of a main loop, as the host reckons with it.
struct TileShape {
  int block_m, block_n, block_k;
  double cost;  // of a multiply-add, next to the peak of the unit
  Unit unit;
};

// Blocks of a product: tiles of rows by tiles of filters by groups by pieces.
std::int64_t blocks_of(const GatherProblem& g, const TileShape& tile);

// Why a product has more blocks than a grid; empty if it has not.
std::string refuse_blocks(const GatherProblem& g, const TileShape& tile);

// Of one image: multiply-adds with those past the edges of tiles, and a launch for each product.
Work gemm_work(Direction direction, const ConvProblem& p, const TileShape& tile);

// How sums are cut, for want of tiles to fill a GPU with: into `count` pieces of `terms` (but the last).
struct Pieces {
  std::int64_t count;
  std::int64_t terms;
  std::int64_t bytes;  // of all pieces of all sums; 0 for one piece, which needs no memory
};
// For the sums of one product, of one image if images are apart; `limit` is for them.
Pieces pieces_of(Direction direction, const GatherProblem& g, const TileShape& tile, DType dtype,
                 std::int64_t limit);

// Adds the pieces of `call` up and finishes them.
void launch_split_k(DType dtype, const GemmCall& call);

// A product with the operands of its direction in place.
GemmCall call_of(Direction direction, const ConvArguments& args, const Product& product);

inline const void* advanced(const void* base, std::int64_t elements, DType dtype) {
  return static_cast<const char*>(base) + elements * size_of(dtype);
}
inline void* advanced(void* base, std::int64_t elements, DType dtype) {
  return static_cast<char*>(base) + elements * size_of(dtype);
}

// Pieces of sums that lie [split][group][row][filter].
Partial<void> pieces_at(void* workspace, const GatherProblem& g);

template <typename Acc>
Partial<Acc> partial_of(const GemmCall& call) {
  const Partial<void>& p = call.partial;
  return {static_cast<Acc*>(p.sums), p.add, p.split_step, p.group_step, p.row_step, p.filter_step};
}

template <typename T>
Epilogue<T> epilogue_of(const GemmCall& call) {
  return {static_cast<const T*>(call.bias), call.bias_stride, call.activation};
}

// Calls run(problem, arguments) for stretches of so many images, with the operands moved on to them.
template <typename Run>
void for_each_stretch(Direction direction, const ConvProblem& p, const ConvArguments& args,
                      std::int64_t images, Run run) {
  for (std::int64_t first = 0; first < p.n; first += images) {
    ConvProblem stretch = p;
    ConvArguments moved = args;
    stretch.n = p.n - first < images ? p.n - first : images;
    const bool forward = direction == Direction::kForward;
    moved.a = advanced(args.a, first * (forward ? p.x_stride[0] : p.y_stride[0]), args.request.dtype);
    moved.out = advanced(args.out, first * (forward ? p.y_stride[0] : p.x_stride[0]), args.request.dtype);
    run(stretch, moved);
  }
}

// As many images as can be counted at a time; a weight gradient is one sum over all.
std::int64_t countable_images(Direction direction, const ConvProblem& p);

}  // namespace cuconv
