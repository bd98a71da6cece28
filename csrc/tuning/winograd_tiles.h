// The tiles of winograd/fused.cuh and the chunks of the staged form. Pure data; chosen by reasoning, not
// measured on a device yet. docs/winograd.md has the arithmetic.
#pragma once

#include <cstdint>

namespace cuconv {

// F(2x2,3x3): a warp has two of the 16 frequencies, a thread 8 x 4 sums of each: 64 accumulators, so that
// two blocks of 256 threads fit a multiprocessor. 36 KiB of shared memory with 8 channels at a time.
struct WinogradTile2x2 {
  static constexpr int kOutputs = 2;
  static constexpr int kLogTiles = 5;
  static constexpr int kTiles = 1 << kLogTiles;
  static constexpr int kFilters = 32;
  static constexpr int kLogChannels = 3;
  static constexpr int kChannels = 1 << kLogChannels;  // at a time
  static constexpr int kWarps = 8;
  static constexpr int kLanesM = 4;
  static constexpr int kFinished = 1;   // of a thread's filters, at a time in the end
  static constexpr int kBlocks = 2;     // a multiprocessor
  static constexpr double kCost = 2.0;  // of a multiply-add, next to the peak of the CUDA cores
};

// F(4x4,3x3): 36 frequencies would be 144 accumulators a thread with as many filters. Half as many filters,
// a warp for four frequencies, 4 x 4 sums of each: 64 again. 42 KiB, most of them for the products at the
// end; 4 channels at a time take 32.
struct WinogradTile4x4 {
  static constexpr int kOutputs = 4;
  static constexpr int kLogTiles = 5;
  static constexpr int kTiles = 1 << kLogTiles;
  static constexpr int kFilters = 16;
  static constexpr int kLogChannels = 2;
  static constexpr int kChannels = 1 << kLogChannels;  // at a time
  static constexpr int kWarps = 9;
  static constexpr int kLanesM = 8;
  static constexpr int kFinished = 2;   // of a thread's filters, at a time in the end
  static constexpr int kBlocks = 2;     // a multiprocessor
  static constexpr double kCost = 2.5;  // each transformed input serves half as many filters
};

// The staged form's inputs and products, where the caller sets no limit: they stay in the L2 of a large GPU
// (40 MiB of an A100, 50 of an H100) on their way from one kernel to the next.
constexpr std::int64_t kStagedBytes = std::int64_t{32} << 20;

// The staged form cuts at multiples of this: a tile of the product's rows.
constexpr std::int64_t kStagedTiles = 64;

}  // namespace cuconv
