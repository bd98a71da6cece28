// Several products in one launch: the siblings of an Inception module, which do not depend on each other.
//
//   y_i[row, filter] = act_i(bias_i[filter] + sum over terms of x_i[row, term] * w_i[filter, term])
//
// A block finds the product that it belongs to and then does what the kernel of that one would do
// (simt.cuh, tensor_core.cuh: same tiles, same sums, same bits); nothing else differs. Filters, biases and
// results stay where they are, so nothing is concatenated before or split after: each product stores at the
// channels of its own result. A product may take the maxima of windows while it loads x, so that a pooling
// branch is one of the siblings.
//
// Products over one x run side by side and share it in the L2 cache.
// Floor: that of the products, with an x they share read once.
#pragma once

#include "kernels/gather/iterator_optimized.cuh"
#include "kernels/implicit_gemm/simt.cuh"
#include "kernels/implicit_gemm/tensor_core.cuh"

namespace cuconv {

constexpr int kMostGrouped = 4;

template <typename T>
struct GroupedProduct {
  GatherProblem gather;
  const T* x;
  const T* w;
  Epilogue<T> epilogue;
  T* y;
  std::int64_t first_block;
  bool pooled;
};

template <typename T>
struct GroupedProducts {
  std::int32_t count;
  GroupedProduct<T> of[kMostGrouped];
};
static_assert(sizeof(GroupedProducts<double>) <= 4096, "a kernel's parameters are 4 KiB at the most");

template <typename T>
CUCONV_DEVICE const GroupedProduct<T>& product_of_block(const GroupedProducts<T>& products) {
  int i = 0;
  while (i + 1 < products.count && products.of[i + 1].first_block <= blockIdx.x) ++i;
  return products.of[i];
}

// kPooled: some of the products take maxima of windows while they load x.
template <typename T, typename Tile, bool kPooled>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS_FOR((SimtTraits<T, Tile>::kThreads), Tile::kBlocks)
    implicit_gemm_simt_grouped_kernel(CUCONV_GRID_CONSTANT const GroupedProducts<T> products) {
  const GroupedProduct<T>& p = product_of_block(products);
  const std::int64_t block = blockIdx.x - p.first_block;
  if constexpr (kPooled) {
    if (p.pooled) {
      implicit_gemm_simt<T, Tile, OptimizedIterator, true>(p.gather, p.x, p.w, p.epilogue, {}, p.y, block);
      return;
    }
  }
  implicit_gemm_simt<T, Tile, OptimizedIterator, false>(p.gather, p.x, p.w, p.epilogue, {}, p.y, block);
}

// x comes by rows to all the products without maxima, or to none; w by terms or gathered.
template <typename T, typename Tile, bool kXByRows, bool kPooled>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS_FOR((TensorCoreTraits<T, Tile>::kThreads), Tile::kBlocks)
    implicit_gemm_tensor_core_grouped_kernel(CUCONV_GRID_CONSTANT const GroupedProducts<T> products) {
  const GroupedProduct<T>& p = product_of_block(products);
  const std::int64_t block = blockIdx.x - p.first_block;
  if constexpr (kPooled) {
    if (p.pooled) {
      implicit_gemm_tensor_core<T, Tile, Sm80, Precision::kIeee, false, false, true>(
          p.gather, p.x, p.w, p.epilogue, {}, p.y, block);
      return;
    }
  }
  implicit_gemm_tensor_core<T, Tile, Sm80, Precision::kIeee, kXByRows, false, false>(
      p.gather, p.x, p.w, p.epilogue, {}, p.y, block);
}

}  // namespace cuconv
