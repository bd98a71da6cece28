// What the race flavour knows of each byte of global and shared memory.
//
// An access is stamped with the moment (Tick) and the thread. It is in order with the running thread when it
// was that thread's own, or happened before the last thing that put both in order: their warp's last
// operation, their block's last barrier, the launch. Nothing else orders threads; blocks of one launch are
// never in order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emu/block.h"

namespace cuconv::emu {

class Stamp {
 public:
  constexpr Stamp() = default;
  constexpr Stamp(Tick tick, int thread, bool in_flight = false)
      : bits_(tick << kBelowTick | Tick{in_flight} << kThreadBits | static_cast<Tick>(thread)) {}
  constexpr Tick tick() const { return bits_ >> kBelowTick; }
  constexpr int thread() const { return static_cast<int>(bits_ & ((Tick{1} << kThreadBits) - 1)); }
  // Of a write: by an asynchronous copy that the thread has issued and not yet waited for.
  constexpr bool in_flight() const { return bits_ >> kThreadBits & 1; }
  constexpr bool operator==(const Stamp&) const = default;

 private:
  static constexpr int kThreadBits = 10;  // 1024 threads a block
  static constexpr int kBelowTick = kThreadBits + 1;
  Tick bits_ = 0;
};

// Of the reads since the last write two are kept, which is enough to find any later write out of order with
// any of them: the last, and the one of another thread that is hardest to be in order with.
struct Cell {
  Stamp written;
  Stamp read;
  Stamp read_by_other;

  bool operator==(const Cell&) const = default;
  bool initialised() const { return written != Stamp(); }
  static Cell initialised_by_host() { return {Stamp(1, 0), {}, {}}; }
};

// Called for every access of a kernel, before it happens. Other memory than the device's (a fiber's own
// stack, constants) passes unchecked.
void check_read(const std::byte* address, std::size_t bytes);
void check_write(const std::byte* address, std::size_t bytes);

// An asynchronous copy of the running thread into shared memory: at its issue the bytes come into flight, and
// nobody may touch them until its thread has waited for it, when they count as written.
void check_copy_issue(const std::byte* shared, std::size_t bytes);
void check_copy_landing(const std::byte* shared, std::size_t bytes);

}  // namespace cuconv::emu
