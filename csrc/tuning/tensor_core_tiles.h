// The tiles of implicit_gemm/tensor_core.cuh. Pure data; chosen by reasoning, not measured on a device yet.
// docs/gemm.md has the arithmetic.
#pragma once

namespace cuconv {

// A warp computes 64 x 32: sixteen mma for six ldmatrix. 16 KiB a stage: three stages leave room for two
// blocks on an A100.
struct TensorCoreTile128x128 {
  static constexpr int kBlockM = 128;
  static constexpr int kBlockN = 128;
  static constexpr int kWarpsM = 2;
  static constexpr int kWarpsN = 4;
  static constexpr int kStages = 3;
  static constexpr int kBlocks = 2;     // a multiprocessor
  static constexpr double kCost = 1.2;  // of a multiply-add, next to the peak of the tensor cores
};

// A warp computes 32 x 32: eight mma for four ldmatrix, and more blocks where there are few tiles.
struct TensorCoreTile64x64 {
  static constexpr int kBlockM = 64;
  static constexpr int kBlockN = 64;
  static constexpr int kWarpsM = 2;
  static constexpr int kWarpsN = 2;
  static constexpr int kStages = 4;
  static constexpr int kBlocks = 1;  // a multiprocessor
  static constexpr double kCost = 1.7;
};

// sm_75 has no asynchronous copies: a stage ahead is all that pays.
struct Sm75Tile64x64 {
  static constexpr int kBlockM = 64;
  static constexpr int kBlockN = 64;
  static constexpr int kWarpsM = 2;
  static constexpr int kWarpsN = 2;
  static constexpr int kStages = 2;
  static constexpr int kBlocks = 1;  // a multiprocessor
  static constexpr double kCost = 3;
};

}  // namespace cuconv
