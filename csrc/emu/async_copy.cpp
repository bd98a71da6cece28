#include "emu/async_copy.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "emu/arena.h"
#include "emu/block.h"
#include "emu/flavour.h"
#include "emu/shadow.h"
#include "emu/shared.h"

namespace cuconv::emu {
namespace {

constexpr int kMostBytes = 16;
alignas(kMostBytes) constexpr std::byte kZeros[kMostBytes] = {};

void check_alignment(const Block& block, const void* address, int bytes, const char* side) {
  const auto off = reinterpret_cast<std::uintptr_t>(address) % static_cast<unsigned>(bytes);
  if (off == 0) return;
  block.fail_here("misaligned cp_async: its address in " + std::string(side) + " memory lies " +
                  std::to_string(off) + " bytes off the " + std::to_string(bytes) +
                  "-byte alignment that a copy of that size needs");
}

void check_spaces(const Block& block, const std::byte* shared, const std::byte* global) {
  if (!shared_window.addresses.holds(shared)) {
    block.fail_here("cp_async to an address that is not in shared memory");
  }
  if (global && !arena_addresses.holds(global)) {
    block.fail_here("cp_async from an address that is not in global memory");
  }
}

}  // namespace

// Of constant size each, because the C library's memcpy is checked (emu/tsan_hooks.cpp).
void CopyQueue::move(const Copy& copy) {
  if (copy.bytes == 16) {
    std::memcpy(copy.shared, copy.from, 16);
  } else if (copy.bytes == 8) {
    std::memcpy(copy.shared, copy.from, 8);
  } else {
    std::memcpy(copy.shared, copy.from, 4);
  }
}

void CopyQueue::issue(Block& block, std::byte* shared, const std::byte* from, int bytes) {
  copies_.push_back({shared, from, bytes, open_group_});
  if (block.arrival() == Arrival::kEager) move(copies_.back());
}

void CopyQueue::land_before(Block& block, std::int64_t group) {
  const auto stays = [group](const Copy& copy) { return copy.group >= group; };
  const auto end = std::find_if(copies_.begin(), copies_.end(), stays);
  for (auto copy = copies_.begin(); copy != end; ++copy) {
    if (block.arrival() == Arrival::kLate) move(*copy);
    if (kChecked) check_copy_landing(copy->shared, copy->bytes, block.current());
  }
  copies_.erase(copies_.begin(), end);
}

void copy_async(void* shared, const void* global, int bytes, bool copy) {
  Block& block = *running_block();
  auto* to = static_cast<std::byte*>(shared);
  const auto* from = copy ? static_cast<const std::byte*>(global) : nullptr;
  check_alignment(block, shared, bytes, "shared");
  check_alignment(block, global, bytes, "global");
  check_spaces(block, to, from);
  if (kChecked) {
    if (from) check_read(from, bytes);
    check_copy_issue(to, bytes, block.current());
  }
  block.copies().issue(block, to, from ? from : kZeros, bytes);
}

void commit_copies() { running_block()->copies().commit(); }

void wait_for_copies(int pending_groups) {
  Block& block = *running_block();
  block.copies().wait(block, pending_groups);
}

}  // namespace cuconv::emu
