#include "emu/shadow.h"

#include <algorithm>
#include <string>

#include "emu/arena.h"
#include "emu/flavour.h"
#include "emu/grid.h"
#include "emu/shared.h"
#include "emu/traffic.h"

namespace cuconv::emu {
namespace {

enum class Kind { kRead, kWrite };

// How far an access is from being in order with the running thread.
enum class Distance { kInOrder, kSameWarp, kSameBlock, kOtherBlock };

// Where an access goes, for the checks and for the messages.
struct Target {
  const std::byte* address;
  Tick oldest;  // a byte written before this tick counts as never written; in order is whatever was before it
  bool shared;
};

std::string describe(const Target& target) {
  if (!target.shared) return arena().describe(target.address);
  return "byte " + std::to_string(target.address - shared_memory) + " of shared memory";
}

std::string verb(Kind kind) { return kind == Kind::kRead ? " reads " : " writes "; }

[[noreturn]] void fail_access(const Block& block, Kind kind, const std::string& rest) {
  fail(block.name() + ", " + block.thread_name(block.current()) + verb(kind) + rest);
}

bool same_warp(int a, int b) { return is_thread(a) && is_thread(b) && a / kLanes == b / kLanes; }

Distance distance(const Block& block, Stamp event, Tick oldest) {
  if (event.tick() < block.first_tick()) {
    return event.tick() < oldest ? Distance::kInOrder : Distance::kOtherBlock;
  }
  if (event.actor() == block.actor() || block.knows(event.actor(), event.tick())) return Distance::kInOrder;
  if (same_warp(event.actor(), block.current())) {
    return event.tick() < block.warp_ordered_before() ? Distance::kInOrder : Distance::kSameWarp;
  }
  const bool ordered = is_thread(event.actor()) && event.tick() < block.ordered_before();
  return ordered ? Distance::kInOrder : Distance::kSameBlock;
}

// What would have put an event in order with the running thread.
std::string remedy(const Block& block, int actor) {
  if (is_tensor_core(actor)) return " with no wgmma_wait";
  if (!is_thread(actor)) return " with no mbarrier_wait";
  return std::string(" with no __syncthreads") + (same_warp(actor, block.current()) ? " or __syncwarp" : "");
}

[[noreturn]] void report_race(const Block& block, Kind kind, const Target& target, Kind other_kind,
                              Stamp other) {
  const std::string did = other_kind == Kind::kRead ? " read" : " wrote";
  std::string rest = describe(target) + ", which ";
  if (other.tick() < block.first_tick()) {
    rest += "block " + triple(block_at(other.tick())) + " of the same launch" + did;
  } else {
    rest += block.actor_name(other.actor()) + did + remedy(block, other.actor()) + " between: a race";
  }
  fail_access(block, kind, rest);
}

void note_read(Cell& cell, Stamp now, const Block& block, Tick oldest) {
  if (cell.read == now) return;
  if (distance(block, cell.read, oldest) >= distance(block, cell.read_by_other, oldest)) {
    cell.read_by_other = cell.read;
  }
  cell.read = now;
}

// Marks that a fault left behind are older than the block.
bool in_flight(const Block& block, const Cell& cell) {
  return cell.written.in_flight() && cell.written.tick() >= block.first_tick();
}

[[noreturn]] void report_in_flight(const Block& block, Kind kind, const Target& target, int actor) {
  const std::string by =
      is_thread(actor) ? "a cp_async of " + block.thread_name(actor) : block.actor_name(actor);
  const std::string why = is_thread(actor) ? "no cp_async_wait of that thread has waited for it"
                                           : "nobody has waited for its phase";
  fail_access(block, kind, describe(target) + ", where " + by + " is in flight: " + why);
}

// What the acting thread does, or would do.
template <Kind kKind, bool kNote = true>
void check_cell(const Block& block, Cell& cell, const Target& target) {
  if (in_flight(block, cell)) report_in_flight(block, kKind, target, cell.written.actor());
  if (distance(block, cell.written, target.oldest) != Distance::kInOrder) {
    report_race(block, kKind, target, Kind::kWrite, cell.written);
  }
  const Stamp now(current_tick(), block.actor());
  if constexpr (kKind == Kind::kRead) {
    if (cell.written.tick() < (target.shared ? target.oldest : 1)) {
      fail_access(block, kKind, describe(target) + ", which nothing has written: uninitialised");
    }
    if (kNote) note_read(cell, now, block, target.oldest);
  } else {
    for (const Stamp read : {cell.read, cell.read_by_other}) {
      if (distance(block, read, target.oldest) != Distance::kInOrder) {
        report_race(block, kKind, target, Kind::kRead, read);
      }
    }
    cell = {now, {}, {}};
  }
}

// The bytes of one element mostly have the same history: one verdict then serves them all.
template <Kind kKind, bool kNote = true>
void check_cells(const Block& block, Cell* cells, Target target, std::size_t bytes) {
  const Cell before = cells[0];
  check_cell<kKind, kNote>(block, cells[0], target);
  for (std::size_t i = 1; i < bytes; ++i) {
    ++target.address;
    if (cells[i] == before) {
      cells[i] = cells[0];
    } else {
      check_cell<kKind, kNote>(block, cells[i], target);
    }
  }
}

template <Kind kKind>
void check_shared(const Block& block, const std::byte* address, std::size_t bytes) {
  const std::size_t held = shared_window.bytes;
  const std::int64_t offset = address - shared_memory;
  if (offset < 0 || offset + bytes > held) {
    fail_access(block, kKind,
                "out of bounds: " + std::to_string(bytes) + " bytes at offset " + std::to_string(offset) +
                    " of " + std::to_string(held) + " bytes of shared memory");
  }
  check_cells<kKind>(block, shared_window.cells + offset, {address, block.first_tick(), true}, bytes);
}

template <Kind kKind>
void check_global(const Block& block, const std::byte* address, std::size_t bytes) {
  Region* region = arena().find(address);
  const std::size_t offset = region ? address - region->first : 0;
  bool inside = region && offset + bytes <= region->bytes;
  for (std::size_t i = offset; inside && !region->is_element.empty() && i < offset + bytes; ++i) {
    inside = region->is_element[i];
  }
  if (!inside) {
    fail_access(block, kKind,
                "out of bounds: " + std::to_string(bytes) + " bytes at " + arena().describe(address));
  }
  if (kKind == Kind::kWrite && region->access == Access::kInput) {
    fail_access(block, kKind, arena().describe(address) + ", an input: inputs are read-only");
  }
  note_traffic(*region, offset, bytes, kKind == Kind::kWrite);
  if (region->access == Access::kInput) return;
  check_cells<kKind>(block, &region->cells[offset], {address, launch_tick(), false}, bytes);
}

template <Kind kKind>
void check(const std::byte* address, std::size_t bytes) {
  const Block* block = running_block();
  if (!block) {
    if (arena_addresses.holds(address)) {
      fail_soon("the host" + verb(kKind) + arena().describe(address) + ", which lies in device memory");
    }
  } else if (shared_window.addresses.holds(address)) {
    check_shared<kKind>(*block, address, bytes);
  } else if (arena_addresses.holds(address)) {
    check_global<kKind>(*block, address, bytes);
  }
}

}  // namespace

namespace {

Cell* cells_of(const std::byte* shared) { return shared_window.cells + (shared - shared_memory); }

}  // namespace

void check_readable(const std::byte* shared, std::size_t bytes) {
  const Block& block = *running_block();
  check_cells<Kind::kRead, false>(block, cells_of(shared), {shared, block.first_tick(), true}, bytes);
}

void note_reads(const std::byte* shared, std::size_t bytes) {
  const Block& block = *running_block();
  Cell* cells = cells_of(shared);
  const Stamp now(current_tick(), block.actor());
  for (std::size_t i = 0; i < bytes; ++i) note_read(cells[i], now, block, block.first_tick());
}

void check_copy_issue(const std::byte* shared, std::size_t bytes, int actor) {
  const Block& block = *running_block();
  check_shared<Kind::kWrite>(block, shared, bytes);
  std::fill_n(cells_of(shared), bytes, Cell{Stamp(current_tick(), actor, true), {}, {}});
}

void check_copy_landing(const std::byte* shared, std::size_t bytes, int actor) {
  std::fill_n(cells_of(shared), bytes, Cell{Stamp(current_tick(), actor), {}, {}});
}

void check_read(const std::byte* address, std::size_t bytes) { check<Kind::kRead>(address, bytes); }
void check_write(const std::byte* address, std::size_t bytes) { check<Kind::kWrite>(address, bytes); }

}  // namespace cuconv::emu
