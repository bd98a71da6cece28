// Lowers a convolution: writes every product's operand of x out, so that a plain matrix product remains.
//
//   columns[group, term, row] = x[row, term], zero in the padding
//
// for the rows and terms that the problem says.
//
// Rows are innermost: neighbouring threads read neighbours in x (NCHW) and write neighbours in the columns.
// A thread keeps its row and walks the terms, which are the same for its whole block.
//
// Floor: x read, and terms * rows elements written, which is as many times x as the filter has taps.
#pragma once

#include "device/numeric.cuh"
#include "device/platform.cuh"
#include "kernels/gather/iterator_optimized.cuh"

namespace cuconv {

constexpr int kIm2colThreads = 128;
constexpr int kIm2colTerms = 16;  // a block

template <typename T>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS(kIm2colThreads)
    im2col_kernel(GatherProblem g, const T* x, T* columns) {
  const std::int64_t rows = g.row_end - g.row_begin;
  const std::int64_t row_blocks = (rows + kIm2colThreads - 1) / kIm2colThreads;
  const std::int64_t terms = g.term_end - g.term_begin;
  const std::int64_t term_blocks = (terms + kIm2colTerms - 1) / kIm2colTerms;
  const std::int64_t blocks = row_blocks * term_blocks * g.groups;
  for (std::int64_t block = blockIdx.x; block < blocks; block += gridDim.x) {
    std::int64_t rest = block;
    const std::int64_t index = take_last(rest, row_blocks) * kIm2colThreads + threadIdx.x;
    const std::int64_t first = take_last(rest, term_blocks) * kIm2colTerms;
    const std::int64_t group = rest;
    if (index >= rows) continue;
    const Row row = OptimizedIterator::row(g, g.row_begin + static_cast<std::int32_t>(index));
    const std::int64_t end = terms - first < kIm2colTerms ? terms : first + kIm2colTerms;
    const T* image = x + group * g.x_group + row.offset;
    T* target = columns + (group * terms + first) * rows + index;
    for (std::int64_t t = first; t < end; ++t, target += rows) {
      const Term term = OptimizedIterator::term_of(g, g.term_begin + static_cast<std::int32_t>(t));
      *target = inside(g, row, term) ? image[term.x_offset] : T{};
    }
  }
}

}  // namespace cuconv
