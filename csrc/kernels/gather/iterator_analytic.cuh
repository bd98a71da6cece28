// Where rows and terms lie, by the definition: plain divisions, everything anew for every element. Obviously
// right and slow; iterator_optimized.cuh is the one to be fast, and tests hold the two to the same bits.
#pragma once

#include "device/platform.cuh"
#include "kernels/gather/product.h"

namespace cuconv {

struct Row {
  std::int64_t offset;
  std::int32_t position[kSpatial];
};

struct Term {
  std::int64_t x_offset;
  std::int64_t w_offset;
  std::int32_t position[kSpatial];
  bool exists;
};

// A position that no term brings back into the input.
constexpr std::int32_t kNowhere = -(1 << 30);

template <typename TakeDigit>
CUCONV_DEVICE Row make_row(const GatherProblem& g, std::int32_t index, TakeDigit take_digit) {
  Row row{g.x_start, {g.start[0], g.start[1], g.start[2]}};
  if (index >= g.row_end) return {0, {kNowhere, kNowhere, kNowhere}};
  CUCONV_UNROLL
  for (int i = 0; i < kDigits; ++i) {
    const std::int32_t digit = take_digit(index, g.row[i].size);
    row.offset += digit * g.row[i].x_step;
    CUCONV_UNROLL
    for (int axis = 0; axis < kSpatial; ++axis) row.position[axis] += digit * g.row[i].position_step[axis];
  }
  return row;
}

template <typename TakeDigit>
CUCONV_DEVICE Term make_term(const GatherProblem& g, std::int32_t index, std::int32_t end,
                             TakeDigit take_digit) {
  Term term{0, 0, {0, 0, 0}, index < end};
  CUCONV_UNROLL
  for (int i = 0; i < kDigits; ++i) {
    const std::int32_t digit = take_digit(index, g.term[i].size);
    term.x_offset += digit * g.term[i].x_step;
    term.w_offset += digit * g.term[i].other_step;
    CUCONV_UNROLL
    for (int axis = 0; axis < kSpatial; ++axis) term.position[axis] += digit * g.term[i].position_step[axis];
  }
  return term;
}

template <typename TakeDigit>
CUCONV_DEVICE std::int64_t row_in_y(const GatherProblem& g, std::int32_t index, TakeDigit take_digit) {
  std::int64_t offset = 0;
  CUCONV_UNROLL
  for (int i = 0; i < kDigits; ++i) offset += take_digit(index, g.row[i].size) * g.row[i].other_step;
  return offset;
}

template <typename TakeDigit>
CUCONV_DEVICE std::int64_t filter_in_w(const GatherProblem& g, std::int32_t index, TakeDigit take_digit) {
  std::int64_t offset = 0;
  CUCONV_UNROLL
  for (int i = 0; i < kDigits; ++i) offset += take_digit(index, g.filter[i].size) * g.filter[i].w_step;
  return offset;
}

CUCONV_DEVICE bool inside(const GatherProblem& g, const Row& row, const Term& term) {
  bool all = term.exists;
  CUCONV_UNROLL
  for (int axis = 0; axis < kSpatial; ++axis) {
    // One comparison for both ends: a negative position is a huge unsigned one.
    all &= static_cast<std::uint32_t>(row.position[axis] + term.position[axis]) <
           static_cast<std::uint32_t>(g.extent[axis]);
  }
  return all;
}

// What iterators share, over a Division that takes the last digit off an index.
template <typename Division>
class IteratorBase {
 public:
  CUCONV_DEVICE static Row row(const GatherProblem& g, std::int32_t index) {
    return make_row(g, index, Division::take_digit);
  }
  CUCONV_DEVICE static std::int64_t w_offset(const GatherProblem& g, std::int32_t index) {
    return filter_in_w(g, index, Division::take_digit);
  }
  CUCONV_DEVICE static std::int64_t y_offset(const GatherProblem& g, std::int32_t index) {
    return row_in_y(g, index, Division::take_digit);
  }

 protected:
  CUCONV_DEVICE static Term make(const GatherProblem& g, std::int32_t index, std::int32_t end) {
    return make_term(g, index, end, Division::take_digit);
  }
};

struct PlainDivision {
  CUCONV_DEVICE static std::int32_t take_digit(std::int32_t& index, const FastDivisor& size) {
    return take_last(index, static_cast<std::int32_t>(size.divisor));
  }
};

class AnalyticIterator : public IteratorBase<PlainDivision> {
 public:
  template <int kBlockK>
  static constexpr std::size_t kSharedBytes = 0;

  template <int kBlockK>
  CUCONV_DEVICE static void prepare(const GatherProblem&, void*, std::int32_t, std::int32_t, std::int32_t) {}

  CUCONV_DEVICE static Term term(const GatherProblem& g, const void*, std::int32_t begin, int i,
                                 std::int32_t end) {
    return make(g, begin + i, end);
  }
};

}  // namespace cuconv
