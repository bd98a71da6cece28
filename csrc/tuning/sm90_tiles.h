// The tiles of implicit_gemm/sm90.cuh and sm90_weight_grad.cuh. Pure data; chosen by reasoning, not measured
// on a device yet. docs/hopper.md has the arithmetic.
#pragma once

namespace cuconv {

// Two warpgroups multiply 64 rows each. 32 KiB a stage: with the sums on their way out (68 KiB), four fill a
// multiprocessor, of which the block is the only one.
struct Sm90Tile128x128 {
  static constexpr int kBlockM = 128;
  static constexpr int kBlockN = 128;
  static constexpr int kStages = 4;
  static constexpr int kBand = 8;       // tiles of rows that take turns before the next filters
  static constexpr double kCost = 1.4;  // of a multiply-add, next to the peak of the tensor cores
};

// Two products of 64 rows each: a quarter less to load for each of them. 48 KiB a stage.
struct Sm90Tile256x128 {
  static constexpr int kBlockM = 256;
  static constexpr int kBlockN = 128;
  static constexpr int kStages = 3;
  static constexpr int kBand = 8;
  static constexpr double kCost = 1.25;
};

// Of weight gradients: the same tiles and stages, and as many stages as there is room for, because sums do
// not pass through shared memory.
struct Sm90WeightGradTile128x128 {
  static constexpr int kBlockM = 128;  // channels under taps
  static constexpr int kBlockN = 128;  // filters
  static constexpr int kStages = 6;
  static constexpr double kCost = 1.4;
};

struct Sm90WeightGradTile256x128 {
  static constexpr int kBlockM = 256;
  static constexpr int kBlockN = 128;
  static constexpr int kStages = 4;
  static constexpr double kCost = 1.25;
};

}  // namespace cuconv
