// The asynchronous products (wgmma) of one warpgroup, from issue to the wait for them.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "emu/knowledge.h"

namespace cuconv::emu {

class Block;

// What the threads of a warpgroup bring to a product. Accumulators lie in each thread's own `sum`.
struct ProductOperands {
  const char* name;
  float* sum;
  std::uint64_t a, b;  // descriptors
  int n;
  bool accumulate;
  bool a_by_k, b_by_k;  // rows of A, columns of B are innermost
  void (*multiply)(const std::byte* const* a, const std::byte* const* b, int n, float* sums);
};

class Warpgroup {
 public:
  int waiting = 0;  // at an operation of the whole warpgroup

  void fence(Block& block);
  void issue(Block& block, const std::uint64_t* of_thread);
  void commit();
  // All but the last `pending` groups are done, and their sums in the threads' registers.
  void wait(Block& block, int pending);
  bool idle() const { return open_.empty() && groups_.empty(); }

 private:
  // Sums that are being added to, while the threads' own are NaN.
  struct Held {
    float* sum[kWarpgroup];
    int n;
    std::vector<float> value;  // 64 rows of n
    int products = 0;          // in flight
  };
  struct Product {
    ProductOperands operands;  // of any thread: they agree
    Held* held;
    bool done = false;
  };
  struct Group {
    std::vector<Product> products;
    Tick end;
  };

  // What lay on a thread's stack, where its registers are, from an address on.
  struct Stack {
    const std::byte* from;
    std::vector<std::uint64_t> words;
  };

  Held& hold(Block& block, const std::uint64_t* of_thread);
  void check_untouched(Block& block, int thread, const float* sum, int count) const;
  void give_back(Block& block, Held& held);

  std::deque<Held> held_;
  std::vector<Product> open_;
  std::deque<Group> groups_;
  bool fenced_ = false;
  std::vector<Stack> at_fence_;  // of each thread; empty if there were sums in flight
};

}  // namespace cuconv::emu
