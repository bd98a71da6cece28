// The sequence of iterator_analytic.cuh with its divisions hoisted: one thread works each term out for the
// whole block, a stage ahead, into a table in shared memory, and divides by multiplication. What is left for
// every element is an addition and three comparisons.
#pragma once

#include "kernels/gather/iterator_analytic.cuh"

namespace cuconv {

struct FastDivision {
  CUCONV_DEVICE static std::int32_t take_digit(std::int32_t& index, const FastDivisor& size) {
    return take_last(index, size);
  }
};

class OptimizedIterator : public IteratorBase<FastDivision> {
 public:
  // Of one stage's table.
  template <int kBlockK>
  static constexpr std::size_t kSharedBytes = kBlockK * sizeof(Term);

  // Fills a stage's table with the terms from `begin` on. A barrier must follow before anyone reads it.
  template <int kBlockK>
  CUCONV_DEVICE static void prepare(const GatherProblem& g, void* table, std::int32_t begin, std::int32_t end,
                                    std::int32_t thread) {
    if (thread < kBlockK) static_cast<Term*>(table)[thread] = make(g, begin + thread, end);
  }

  CUCONV_DEVICE static Term term(const GatherProblem&, const void* table, std::int32_t, int i, std::int32_t) {
    return static_cast<const Term*>(table)[i];
  }
  // Without a table.
  CUCONV_DEVICE static Term term_of(const GatherProblem& g, std::int32_t index) {
    return make(g, index, g.term_end);
  }
};

}  // namespace cuconv
