#include "emu/mbarrier.h"

#include <algorithm>
#include <cstdlib>

#include "emu/block.h"
#include "emu/flavour.h"
#include "emu/shadow.h"
#include "emu/shared.h"

namespace cuconv::emu {
namespace {

constexpr std::size_t kBytes = 8;
constexpr unsigned kMostCount = (1u << 20) - 1;

std::byte* checked_address(const Block& block, void* address, const char* operation) {
  auto* at = static_cast<std::byte*>(address);
  if (!shared_window.addresses.holds(at)) {
    block.fail_here(std::string(operation) + " of an mbarrier that is not in shared memory");
  }
  if ((at - shared_memory) % kBytes != 0) {
    block.fail_here(std::string(operation) + " of an mbarrier at byte " + std::to_string(at - shared_memory) +
                    ", which is no multiple of 8");
  }
  return at;
}

}  // namespace

void Mbarrier::add_bytes(std::int64_t more) {
  constexpr std::int64_t kMostBytes = (1 << 20) - 1;
  bytes += more;
  if (std::abs(bytes) > kMostBytes) {
    fail(running_block()->name() + ": " + std::to_string(bytes) + " bytes are to come at " + name_of(*this) +
         ", which counts to " + std::to_string(kMostBytes) + " either way");
  }
}

void Mbarrier::complete_if_due() {
  if (pending != 0 || bytes != 0) return;
  ++phase;
  pending = count;
  released.merge(arriving);
}

Mbarrier* Mbarriers::find(const std::byte* address) {
  const auto at =
      std::find_if(all_.begin(), all_.end(), [=](const Mbarrier& m) { return m.address == address; });
  return at == all_.end() ? nullptr : &*at;
}

Mbarrier& Mbarriers::add(std::byte* address) {
  if (Mbarrier* there = find(address)) return *there;
  all_.push_back({address, static_cast<int>(all_.size()), 0, 0, 0, 0, 0, false, {}, {}});
  return all_.back();
}

void Mbarriers::fence(int thread) {
  for (Mbarrier& each : all_) each.fenced |= each.initialised_by == thread;
}

std::string Mbarriers::name(int index) const { return name_of(all_[index]); }

std::string name_of(const Mbarrier& mbarrier) {
  return "the mbarrier at byte " + std::to_string(mbarrier.address - shared_memory) + " of shared memory";
}

std::string describe_wait(const Mbarrier& m, unsigned parity) {
  const std::uint64_t awaited = m.phase + ((m.phase & 1) != parity);
  return "for phase " + std::to_string(awaited) + " of " + name_of(m) + ", which is in phase " +
         std::to_string(m.phase) + ": " + std::to_string(m.pending) + " of " + std::to_string(m.count) +
         " arrivals and " + std::to_string(m.bytes) + " bytes are to come";
}

Mbarrier& mbarrier_at(Block& block, void* address, const char* operation) {
  std::byte* at = checked_address(block, address, operation);
  Mbarrier* mbarrier = block.mbarriers().find(at);
  if (!mbarrier) {
    block.fail_here(std::string(operation) + " at byte " + std::to_string(at - shared_memory) +
                    " of shared memory, where no mbarrier has been initialised");
  }
  if (kChecked) check_read(at, kBytes);
  return *mbarrier;
}

void mbarrier_init(void* address, unsigned count) {
  Block& block = *running_block();
  std::byte* at = checked_address(block, address, "mbarrier_init");
  if (count < 1 || count > kMostCount) {
    block.fail_here("mbarrier_init for " + std::to_string(count) + " arrivals");
  }
  if (!block.mbarriers().find(at) && block.mbarriers().full()) {
    block.fail_here("more than " + std::to_string(kMostMbarriers) +
                    " mbarriers, which is all the emulator has");
  }
  if (kChecked) check_write(at, kBytes);
  Mbarrier& m = block.mbarriers().add(at);
  m = {at, m.index, count, count, 0, 0, block.current(), false, {}, {}};
}

void mbarrier_fence_init() { running_block()->mbarriers().fence(running_block()->current()); }

void mbarrier_arrive(void* address, unsigned bytes, const char* operation) {
  Block& block = *running_block();
  Mbarrier& m = mbarrier_at(block, address, operation);
  if (m.pending == 0) {
    block.fail_here(std::string(operation) + " once more than the " + std::to_string(m.count) +
                    " arrivals of a phase, at " + name_of(m));
  }
  m.add_bytes(bytes);
  --m.pending;
  if (kChecked) m.arriving.merge(block.release());
  m.complete_if_due();
}

void mbarrier_wait(void* address, unsigned parity, Where where) {
  Block& block = *running_block();
  block.wait_at_mbarrier(mbarrier_at(block, address, "mbarrier_wait"), parity, where);
}

}  // namespace cuconv::emu
