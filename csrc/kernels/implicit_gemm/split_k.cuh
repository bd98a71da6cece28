// The second pass of split-K: adds the pieces of each sum in order, and finishes it. Always the same order,
// so the same bits; atomics in one pass would give others on every run.
//
// Floor: every piece read once, y written once. One thread a sum, filters innermost, as the pieces lie.
#pragma once

#include "device/grid.cuh"
#include "device/numeric.cuh"
#include "kernels/epilogue.cuh"
#include "kernels/gather/iterator_optimized.cuh"
#include "kernels/gather/product.h"

namespace cuconv {

constexpr int kSplitKThreads = 256;

template <typename T>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS(kSplitKThreads)
    split_k_kernel(GatherProblem g, Partial<accumulator_t<T>> partial, Epilogue<T> epilogue, T* y) {
  const std::int64_t rows = g.row_end - g.row_begin;
  const std::int64_t count = g.groups * rows * g.filters;
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    std::int64_t rest = i;
    const std::int64_t filter = take_last(rest, std::int64_t{g.filters});
    const std::int64_t row = take_last(rest, rows);
    const std::int64_t group = rest;
    const accumulator_t<T>* piece =
        partial.sums + group * partial.group_step + row * partial.row_step + filter * partial.filter_step;
    accumulator_t<T> sum = *piece;
    for (int split = 1; split < g.splits; ++split) sum = add(sum, piece[split * partial.split_step]);
    y[group * g.y_group + OptimizedIterator::y_offset(g, g.row_begin + static_cast<std::int32_t>(row)) +
      filter * g.y_filter] = epilogue(sum, group * g.filters + filter);
  }
}

}  // namespace cuconv
