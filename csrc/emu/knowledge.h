// Who acts in a block, and what one actor knows that others have done, by way of mbarriers.
//
// Barriers and warp operations put whole groups of threads in order, and a tick says all of it (emu/block.h).
// An mbarrier does not: who has waited for a phase knows what those knew who arrived at it, and nobody else
// does. So every thread has a vector clock: for each actor a tick before which it knows everything.
#pragma once

#include <memory>
#include <vector>

#include "emu/tick.h"

namespace cuconv::emu {

// Threads by their index, and then the hardware that works beside them.
constexpr int kMostThreads = 1024;
constexpr int kWarpgroup = 128;  // threads
constexpr int kMostMbarriers = 64;
constexpr int kFirstTensorCore = kMostThreads;  // + a warpgroup's index: the wgmma that it issues
constexpr int kFirstCopier = kFirstTensorCore + kMostThreads / kWarpgroup;  // + an mbarrier's: its TMA copies
constexpr int kActors = kFirstCopier + kMostMbarriers;

constexpr bool is_thread(int actor) { return actor < kMostThreads; }
constexpr bool is_tensor_core(int actor) { return actor >= kFirstTensorCore && actor < kFirstCopier; }

class Knowledge {
 public:
  // Of what `actor` did at `tick`.
  bool has(int actor, Tick tick) const {
    const std::size_t i = index(actor);
    return seen_ && i < seen_->size() && tick < (*seen_)[i];
  }
  // Everything that `actor` did before `tick`.
  void learn(int actor, Tick tick);
  void merge(const Knowledge& other);
  void forget() { seen_.reset(); }

 private:
  using Seen = std::vector<Tick>;
  // Hardware first: most blocks have few threads.
  static std::size_t index(int actor) {
    return is_thread(actor) ? kActors - kMostThreads + actor : actor - kMostThreads;
  }
  Seen& own();

  std::shared_ptr<Seen> seen_;  // shared until one of the owners learns more
};

}  // namespace cuconv::emu
