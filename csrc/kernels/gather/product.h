// A convolution, or either of its gradients, as one matrix product whose operands are never written out:
//
//   y[row, filter] = sum over terms of x[row, term] * w[filter, term]
//
// A row is an element of the result's plane and batch, a term one product of a sum. Both are flat indices;
// their digits (batch, depth, height, width; channel, tap) say where in x, w and y the element lies. Which
// digit is which, and in which order, is the host's choice (launch/gather.h): kernels see steps alone, and so
// one kernel does forward convolutions, both gradients, every layout, and the product over lowered columns.
#pragma once

#include <cstdint>

#include "device/index.cuh"
#include "problem.h"

namespace cuconv {

// One digit of a row or term index.
struct Digit {
  FastDivisor size;
  std::int32_t position_step[kSpatial];  // in the input, along each axis
  std::int64_t x_step;
  std::int64_t other_step;  // of a row: in y; of a term: in w
};

// One digit of a filter index.
struct FilterDigit {
  FastDivisor size;
  std::int64_t w_step;
};

constexpr int kDigits = 4;

// How elements of an operand are fetched; the bits of the result do not depend on it.
enum class Load : std::int32_t {
  kGather,  // one by one
  kTerms,   // several terms of one row, neighbours in memory, aligned
  kRows,    // several rows (or filters) of one term
};

// Which elements of the result are neighbours in memory, aligned for a vector.
enum class Store : std::int32_t { kScatter, kRows, kFilters };

// Sizes are counted for one group. Indices have 31 bits, offsets 64.
struct GatherProblem {
  std::int64_t groups;
  std::int32_t row_begin, row_end;  // the rows to compute
  std::int32_t filters;
  std::int32_t term_begin, term_end;   // the terms to sum
  std::int32_t splits, terms_a_split;  // in so many pieces
  Digit row[kDigits];                  // innermost first
  Digit term[kDigits];
  FilterDigit filter[kDigits];
  std::int32_t start[kSpatial];  // position of row 0, term 0: in the padding, where negative
  std::int32_t extent[kSpatial];
  std::int64_t x_start;  // its offset
  std::int64_t x_group, w_group, y_group;
  std::int64_t y_filter;
  // Of products over maxima (gather/pooled.cuh): the window over x, and how far apart its elements are.
  std::int32_t window[kSpatial];
  std::int64_t window_step[kSpatial];
  Load x_load, w_load;
  Store y_store;
  bool conjugate_x, conjugate_w;
};

// Where sums go before they are finished: several pieces of each, or columns that are gathered later.
template <typename Acc>
struct Partial {
  Acc* sums;  // null: the sums are finished and go through the epilogue
  bool add;   // to what is there
  std::int64_t split_step, group_step, row_step, filter_step;
};

}  // namespace cuconv
