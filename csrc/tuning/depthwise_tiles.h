// The tiles of direct/depthwise_*.cuh. Pure data; chosen by reasoning, not measured on a device yet.
// docs/depthwise.md has the arithmetic.
#pragma once

namespace cuconv {

// Outputs a thread of direct/depthwise_rows.cuh. Planes: sixteen sums, of which four rows share a load of x
// and four columns a load of w.
struct DepthwiseTile4x4 {
  static constexpr int kRows = 4;
  static constexpr int kCols = 4;
  static constexpr int kThreads = 128;
  static constexpr int kBlocks = 4;      // a multiprocessor: 128 registers a thread
  static constexpr int kWideBlocks = 3;  // of sums wider than four bytes: 168
  static constexpr double kCost = 1.6;   // 64 of some 95 instructions, and the rows at the ends of a kernel
};

// Lines: 1-D problems, and planes of any number of rows without conditions on them. More loads of shared
// memory.
struct DepthwiseTile1x8 {
  static constexpr int kRows = 1;
  static constexpr int kCols = 8;
  static constexpr int kThreads = 128;
  static constexpr int kBlocks = 4;
  static constexpr int kWideBlocks = 3;
  static constexpr double kCost = 1.5;  // 64 of some 95 instructions are multiply-adds
};

// An element comes to shared memory with some ten instructions.
constexpr double kDepthwiseFetchCost = 10;

// What every GPU gives a block without asking. Four blocks of it fit an H100, and three an A100.
constexpr int kDepthwiseSharedLimit = 48 * 1024;
// Of that, for the taps of a strip's channels: small kernels stay far below.
constexpr int kStripSharedLimit = 24 * 1024;

// Taps a thread of direct/depthwise_weight_grad.cuh.
struct DepthwiseTaps4x4 {
  static constexpr int kRows = 4;
  static constexpr int kCols = 4;
  static constexpr double kCost = 3.4;  // 16 of some 55 instructions are multiply-adds
};

struct DepthwiseTaps1x16 {
  static constexpr int kRows = 1;
  static constexpr int kCols = 16;
  static constexpr double kCost = 7.5;  // 16 of some 120
};

// Weight gradients are cut so that every GPU has blocks enough, and each thread some columns of its own.
constexpr int kTapTargetBlocks = 1024;
constexpr int kTapLeastItems = 2;  // a thread
constexpr int kTapMostLanes = 32;  // threads along the channels: a warp's loads are one piece of memory

}  // namespace cuconv
