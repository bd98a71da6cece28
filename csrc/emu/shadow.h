// What the race flavour knows of each byte of global and shared memory.
//
// An access is stamped with the moment (Tick) and the thread. It is in order with the running thread when it
// was that thread's own, or happened before the last thing that put both in order: their warp's last
// operation, their block's last barrier, the launch; or the thread has learned of it by way of an mbarrier
// (emu/knowledge.h). Nothing else orders threads; blocks of one launch are never in order. TMA copies and
// wgmma are actors beside the threads, in order with them through mbarriers and waits alone.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emu/block.h"
#include "emu/knowledge.h"

namespace cuconv::emu {

class Stamp {
 public:
  constexpr Stamp() = default;
  constexpr Stamp(Tick tick, int actor, bool in_flight = false)
      : bits_(tick << kBelowTick | Tick{in_flight} << kActorBits | static_cast<Tick>(actor)) {}
  constexpr Tick tick() const { return bits_ >> kBelowTick; }
  constexpr int actor() const { return static_cast<int>(bits_ & ((Tick{1} << kActorBits) - 1)); }
  // Of a write: by an asynchronous copy that has been issued and not yet waited for (cp.async), or has not
  // arrived (TMA).
  constexpr bool in_flight() const { return bits_ >> kActorBits & 1; }
  constexpr bool operator==(const Stamp&) const = default;

 private:
  static constexpr int kActorBits = 11;
  static_assert(kActors <= 1 << kActorBits, "an actor's number fits");
  static constexpr int kBelowTick = kActorBits + 1;
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

// A read by hardware: whether the acting thread could read these bytes; and that the acting hardware does.
void check_readable(const std::byte* shared, std::size_t bytes);
void note_reads(const std::byte* shared, std::size_t bytes);

// An asynchronous copy into shared memory that the running thread issues: the bytes come into flight, and
// nobody may touch them until it has landed, when they count as written by `actor`.
void check_copy_issue(const std::byte* shared, std::size_t bytes, int actor);
void check_copy_landing(const std::byte* shared, std::size_t bytes, int actor);

}  // namespace cuconv::emu
