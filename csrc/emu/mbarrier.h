// The mbarriers of a block: phases that complete by arrivals and by bytes, and what waiting for one tells.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "emu/knowledge.h"

namespace cuconv::emu {

struct Mbarrier {
  std::byte* address;
  int index;            // of the block's
  unsigned count;       // arrivals that complete a phase
  unsigned pending;     // of them, still to come
  std::int64_t bytes;   // of asynchronous copies, still to come
  std::uint64_t phase;  // the one that is not complete
  int initialised_by;   // a thread
  bool fenced;          // the initialisation, so that copies see it
  Knowledge arriving;   // of who has arrived in this phase or before
  Knowledge released;   // to those who wait for a complete phase

  // Whether the phase of that parity, the last or the next to last one, is complete.
  bool completed(unsigned parity) const { return (phase & 1) != parity; }
  // Bytes announced, or (negative) brought. Fails where there are more pending, either way, than it counts.
  void add_bytes(std::int64_t more);
  void complete_if_due();
};

class Mbarriers {
 public:
  Mbarriers() { all_.reserve(kMostMbarriers); }  // addresses of its elements are kept
  void clear() { all_.clear(); }
  Mbarrier* find(const std::byte* address);
  Mbarrier& add(std::byte* address);  // or the one that is there
  bool full() const { return all_.size() == kMostMbarriers; }
  void fence(int thread);
  std::string name(int index) const;

 private:
  std::vector<Mbarrier> all_;
};

// "the mbarrier at byte 128 of shared memory"
std::string name_of(const Mbarrier& mbarrier);
// "for phase 3 of the mbarrier at byte 128 of shared memory: 1 of 2 arrivals and 512 bytes are to come"
std::string describe_wait(const Mbarrier& mbarrier, unsigned parity);

class Block;

// The initialised mbarrier at an address that the running thread uses for `operation`; a fault without one.
Mbarrier& mbarrier_at(Block& block, void* address, const char* operation);

}  // namespace cuconv::emu
