// The tiles of implicit_gemm/simt.cuh. Pure data; chosen by reasoning, not measured on a device yet.
// docs/gemm.md has the arithmetic: bytes of shared memory a multiply-add, blocks a multiprocessor, waste.
#pragma once

namespace cuconv {

// The most products for each load: 16 numbers for 64 multiply-adds. For accumulators of 4 bytes; the wider
// ones would spill.
struct SimtTile128x128 {
  static constexpr int kBlockM = 128;
  static constexpr int kBlockN = 128;
  static constexpr int kBlockK = 8;
  static constexpr int kWarpsM = 2;
  static constexpr int kWarpsN = 4;
  static constexpr int kMostBytes = 4;  // of an accumulator
  static constexpr int kBlocks = 2;     // a multiprocessor
  static constexpr double kCost = 1.1;  // of a multiply-add, next to the peak of the CUDA cores
};

// Layers with fewer filters or positions; all accumulators but complex128.
struct SimtTile64x64 {
  static constexpr int kBlockM = 64;
  static constexpr int kBlockN = 64;
  static constexpr int kBlockK = 8;
  static constexpr int kWarpsM = 2;
  static constexpr int kWarpsN = 2;
  static constexpr int kMostBytes = 8;
  static constexpr int kBlocks = 1;  // a multiprocessor
  static constexpr double kCost = 1.45;
};

// What is left: few channels a group, small planes, complex128.
struct SimtTile32x32 {
  static constexpr int kBlockM = 32;
  static constexpr int kBlockN = 32;
  static constexpr int kBlockK = 8;
  static constexpr int kWarpsM = 1;
  static constexpr int kWarpsN = 2;
  static constexpr int kMostBytes = 16;
  static constexpr int kBlocks = 1;  // a multiprocessor
  static constexpr double kCost = 2.2;
};

}  // namespace cuconv
