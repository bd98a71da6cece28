#include "emu/arena.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "emu/fault.h"
#include "emu/flavour.h"
#include "emu/poison.h"

namespace cuconv::emu {
namespace {

constexpr std::size_t kGuard = 4096;
constexpr std::size_t kResidue = 64;              // alignment of an array that is kept
constexpr std::size_t kWorkspaceAlignment = 256;  // what CUDA allocators promise

std::int64_t distance(const std::byte* from, const std::byte* to) { return to - from; }

void copy_elements(const Layout& layout, const std::byte* from, std::byte* to) {
  layout.for_each([&](std::int64_t offset) { std::memcpy(to + offset, from + offset, layout.itemsize); });
}

void check_written(const Region& region) {
  std::int64_t missing = 0;
  std::int64_t first_missing = 0;
  region.layout.for_each([&](std::int64_t offset) {
    const Cell* cell = &region.cells[distance(region.first, region.element0 + offset)];
    const bool written =
        std::all_of(cell, cell + region.layout.itemsize, [](const Cell& c) { return c.initialised(); });
    if (!written && missing++ == 0) first_missing = offset;
  });
  if (missing == 0) return;
  throw Fault("output '" + region.name + "': " + region.layout.describe(first_missing) +
              " was never written (" + std::to_string(missing) + " such elements)");
}

}  // namespace

CUCONV_EMU_THREAD_LOCAL AddressRange arena_addresses = {};

Arena& arena() {
  thread_local const auto the_arena = std::make_unique<Arena>();  // on the heap: see CUCONV_EMU_THREAD_LOCAL
  arena_addresses = the_arena->addresses();
  return *the_arena;
}

std::string Region::describe(const std::byte* address) const {
  const std::int64_t offset = distance(first, address);
  const std::string quoted = "'" + name + "'";
  if (offset < 0) return std::to_string(-offset) + " bytes before the start of " + quoted;
  if (offset >= static_cast<std::int64_t>(bytes)) {
    return std::to_string(offset - static_cast<std::int64_t>(bytes)) + " bytes past the end of " + quoted;
  }
  return layout.describe(distance(element0, address)) + " of " + quoted;
}

Region& Arena::add(Access access, std::size_t residue, Layout layout, std::string name) {
  const std::int64_t low = layout.low();
  const auto bytes = static_cast<std::size_t>(layout.high() - low);
  const std::size_t alignment = access == Access::kWorkspace ? kWorkspaceAlignment : kResidue;
  auto at = reinterpret_cast<std::uintptr_t>(next_) + kGuard - low;
  at += (residue - at) % alignment;
  std::byte* element0 = reinterpret_cast<std::byte*>(at);
  std::byte* first = element0 + low;
  std::byte* end = first + bytes + kGuard;
  addresses_.commit(next_, distance(next_, end));
  poison(next_, distance(next_, end));
  next_ = end;

  Region region{std::move(name), access, std::move(layout), element0, first, bytes, {}, {}};
  if (region.layout.dense()) {
    unpoison(first, bytes);
  } else {
    region.is_element.assign(bytes, false);
    region.layout.for_each([&](std::int64_t offset) {
      unpoison(element0 + offset, region.layout.itemsize);
      const auto begin = region.is_element.begin() + distance(first, element0 + offset);
      std::fill(begin, begin + region.layout.itemsize, true);
    });
  }
  if (kChecked && access != Access::kInput) region.cells.resize(bytes);
  found_ = nullptr;
  return regions_.emplace_back(std::move(region));
}

std::byte* Arena::place(Access access, const std::byte* host, Layout layout, std::string name) {
  Region& region =
      add(access, reinterpret_cast<std::uintptr_t>(host) % kResidue, std::move(layout), std::move(name));
  const auto fill = [&](std::int64_t offset) {
    std::memset(region.element0 + offset, 0xff, region.layout.itemsize);
  };
  if (access == Access::kOutput) {
    region.layout.for_each(fill);
  } else {
    copy_elements(region.layout, host, region.element0);
    for (Cell& cell : region.cells) cell = Cell::initialised_by_host();
  }
  return region.element0;
}

std::byte* Arena::workspace(std::size_t bytes) {
  const Region& region =
      add(Access::kWorkspace, 0, {{static_cast<std::int64_t>(bytes)}, {1}, 1}, "workspace");
  std::memset(region.first, 0xff, bytes);
  return region.first;
}

void Arena::collect(const std::byte* device, std::byte* host, const Layout& layout) const {
  throw_fault();
  const auto region = std::find_if(regions_.begin(), regions_.end(), [&](const Region& r) {
    return r.element0 == device && r.access != Access::kWorkspace;
  });
  if (region == regions_.end() || region->layout.shape != layout.shape ||
      region->layout.byte_strides != layout.byte_strides || region->layout.itemsize != layout.itemsize) {
    throw std::invalid_argument(
        "collect: no array of this shape and these strides was placed at this address");
  }
  if (kChecked && region->access == Access::kOutput) check_written(*region);
  copy_elements(layout, device, host);
}

void Arena::reset() {
  std::byte* begin = addresses_.middle();
  if (next_ == begin) return;
  unpoison(begin, distance(begin, next_));
  addresses_.release(begin, distance(begin, next_));
  next_ = begin;
  regions_.clear();
  found_ = nullptr;
}

Region* Arena::find(const std::byte* address) {
  const auto holds = [address](const Region& r) { return address >= r.first && address < r.first + r.bytes; };
  if (found_ && holds(*found_)) return found_;
  const auto region = std::find_if(regions_.begin(), regions_.end(), holds);
  if (region == regions_.end()) return nullptr;
  return found_ = &*region;
}

std::string Arena::describe(const std::byte* address) const {
  const Region* nearest = nullptr;
  std::int64_t least = 0;
  for (const Region& region : regions_) {
    const std::byte* end = region.first + region.bytes;
    const std::int64_t gap = address < region.first ? distance(address, region.first)
                                                    : std::max<std::int64_t>(0, distance(end, address) + 1);
    if (!nearest || gap < least) {
      nearest = &region;
      least = gap;
    }
  }
  return nearest ? nearest->describe(address) : "an address outside all arrays";
}

}  // namespace cuconv::emu
