// TMA copies from global to shared memory, by the PTX ISA ("Tensors", "cp.async.bulk.tensor"): which elements
// a box or a column of pixels has, where each lies in shared memory, and zeros for those outside the tensor.
//
// The source counts as read when the copy is issued. The target is in flight from then on: nobody may touch
// it until a thread has waited for the phase of the mbarrier that the copy reports to, and then that thread,
// and those who hear from it, may.
#include "emu/tensor_copy.h"

#include <cstring>
#include <string>

#include "emu/block.h"
#include "emu/flavour.h"
#include "emu/mbarrier.h"
#include "emu/shadow.h"
#include "emu/shared.h"
#include "emu/tensor_map_content.h"

namespace cuconv::emu {
namespace {

constexpr std::size_t kChunk = 16;
constexpr int kLine = 128;
constexpr std::size_t kSwizzleSpan = 1024;  // after which the pattern repeats

// Swizzling within 128 bytes: which chunk of 16 in a line of 128 changes with the line, by address.
std::size_t swizzled(std::size_t offset) { return offset ^ (offset / 128 % 8 * kChunk); }

// Maps of tf32 round float32 on the way; to the nearest here, ties away from zero, which no document says.
void round_to_tf32(std::byte* number) {
  constexpr std::uint32_t kHalfUlp = 1 << 12;
  std::uint32_t bits;
  std::memcpy(&bits, number, 4);
  const bool finite = (bits & 0x7f800000) != 0x7f800000;
  bits = ((finite ? bits + kHalfUlp : bits | (bits & 0x1fff ? 0x00400000 : 0)) & ~(2 * kHalfUlp - 1));
  std::memcpy(number, &bits, 4);
}

struct Pixel {
  std::int64_t at[kMostDims];  // coordinates in the tensor; at[0] is the first channel
};

// One row of a box: its elements inside the tensor, zeros for the others.
void gather_row(const TensorMapContent& map, const Pixel& pixel, std::byte* row) {
  std::memset(row, 0, map.row_bytes());
  std::int64_t offset = 0;
  for (int i = 1; i < map.rank; ++i) {
    if (pixel.at[i] < 0 || pixel.at[i] >= map.size(i)) return;
    offset += pixel.at[i] * static_cast<std::int64_t>(map.byte_stride[i - 1]);
  }
  const std::int64_t first = std::max<std::int64_t>(pixel.at[0], 0);
  const std::int64_t end = std::min<std::int64_t>(pixel.at[0] + map.box[0], map.size(0));
  if (first >= end) return;
  const std::size_t bytes = (end - first) * map.element_bytes;
  const std::byte* source = map.address + offset + first * map.element_bytes;
  if (kChecked) check_read(source, bytes);
  std::byte* target = row + (first - pixel.at[0]) * map.element_bytes;
  for (std::size_t i = 0; i < bytes; i += 2) std::memcpy(target + i, source + i, 2);
  for (std::size_t i = 0; map.data_type == kTf32 && i < bytes; i += 4) round_to_tf32(target + i);
}

// The next pixel of a tile: a box, the innermost dimension but one first.
void next_in_tile(const TensorMapContent& map, const int* start, Pixel& pixel) {
  for (int i = 1; i < map.rank; ++i) {
    pixel.at[i] += map.element_stride[i];
    if (pixel.at[i] < start[i] + map.box[i]) return;
    pixel.at[i] = start[i];
  }
}

// The next of a column: along the width by the traversal stride to the end of the bounding box, then the next
// line of it, the next plane, the next image.
void next_in_column(const TensorMapContent& map, Pixel& pixel) {
  for (int i = 1; i + 1 < map.rank; ++i) {
    pixel.at[i] += map.element_stride[i];
    if (pixel.at[i] < map.size(i) + map.upper[i - 1]) return;
    pixel.at[i] = map.lower[i - 1];
  }
  ++pixel.at[map.rank - 1];
}

const TensorMapContent& checked_map(const Block& block, const void* address, int rank, bool im2col) {
  if (reinterpret_cast<std::uintptr_t>(address) % 64 != 0)
    block.fail_here("a tensor map that is not aligned to 64 bytes");
  const TensorMapContent* map = content_of(address);
  if (!map) block.fail_here("a TMA copy by something that is no tensor map");
  if (map->rank != rank || map->im2col != im2col) {
    block.fail_here("a TMA copy in " + std::to_string(rank) + " dimensions, " +
                    (im2col ? "im2col" : "tiled") + ", by a tensor map of " + std::to_string(map->rank) +
                    ", " + (map->im2col ? "im2col" : "tiled"));
  }
  if (map->row_bytes() != kLine)
    block.fail_here("a TMA copy of rows that are not 128 bytes, which the emulator has not");
  return *map;
}

std::byte* checked_target(const Block& block, void* address, std::size_t bytes) {
  auto* shared = static_cast<std::byte*>(address);
  if (!shared_window.addresses.holds(shared)) {
    block.fail_here("a TMA copy to an address that is not in shared memory");
  }
  const std::size_t offset = shared - shared_memory;
  if (offset % 128 != 0) {
    block.fail_here("misaligned TMA copy: its target at byte " + std::to_string(offset) +
                    " of shared memory is no multiple of 128");
  }
  if (offset + bytes > shared_window.bytes) {
    block.fail_here("a TMA copy of " + std::to_string(bytes) + " bytes to byte " + std::to_string(offset) +
                    " of " + std::to_string(shared_window.bytes) + " bytes of shared memory");
  }
  return shared;
}

Mbarrier& checked_mbarrier(Block& block, void* address) {
  Mbarrier& mbarrier = mbarrier_at(block, address, "a TMA copy");
  if (!mbarrier.fenced) {
    block.fail_here("a TMA copy reports to " + name_of(mbarrier) + ", which " +
                    block.thread_name(mbarrier.initialised_by) +
                    " has initialised with no fence_mbarrier_init after it");
  }
  return mbarrier;
}

// Rows, one after another, as they come to lie from `shared` on.
template <typename Next>
std::vector<std::byte> gather(const TensorMapContent& map, Pixel pixel, const std::byte* shared, Next next) {
  const std::size_t row_bytes = map.row_bytes();
  const std::int64_t rows = map.pixels();
  std::vector<std::byte> row(row_bytes), data(rows * row_bytes);
  const std::size_t base = (shared - shared_memory) % kSwizzleSpan;
  for (std::int64_t i = 0; i < rows; ++i) {
    gather_row(map, pixel, row.data());
    for (std::size_t at = 0; at < row_bytes; at += kChunk) {
      std::memcpy(&data[swizzled(base + i * row_bytes + at) - base], &row[at], kChunk);
    }
    next(pixel);
  }
  return data;
}

// A loop of 16-byte copies that must not become a call of the C library's, which is checked.
__attribute__((optimize("no-tree-loop-distribute-patterns"))) void move(std::byte* to,
                                                                        const std::vector<std::byte>& data) {
  for (std::size_t i = 0; i < data.size(); i += kChunk) std::memcpy(to + i, &data[i], kChunk);
}

}  // namespace

void TensorCopies::issue(Block& block, std::byte* shared, std::vector<std::byte> data, Mbarrier& mbarrier) {
  if (kChecked) check_copy_issue(shared, data.size(), kFirstCopier + mbarrier.index);
  Copy copy{shared, std::move(data), &mbarrier};
  if (block.arrival() == Arrival::kEager) return land(copy);
  copies_.push_back(std::move(copy));
}

void TensorCopies::land(const Copy& copy) {
  move(copy.shared, copy.data);
  Mbarrier& mbarrier = *copy.mbarrier;
  const int actor = kFirstCopier + mbarrier.index;
  if (kChecked) {
    next_tick();
    check_copy_landing(copy.shared, copy.data.size(), actor);
    mbarrier.arriving.learn(actor, next_tick());
  }
  mbarrier.add_bytes(-static_cast<std::int64_t>(copy.data.size()));
  mbarrier.complete_if_due();
}

bool TensorCopies::land_one(Block&, Order order, std::mt19937_64& random) {
  if (copies_.empty()) return false;
  std::size_t which = 0;
  if (order == Order::kReverse) which = copies_.size() - 1;
  if (order == Order::kShuffled) which = random() % copies_.size();
  land(copies_[which]);
  copies_.erase(copies_.begin() + static_cast<std::ptrdiff_t>(which));
  return true;
}

void tma_load_tile(void* shared, const void* map_address, void* mbarrier, const int* at, int rank) {
  Block& block = *running_block();
  const TensorMapContent& map = checked_map(block, map_address, rank, false);
  std::byte* target = checked_target(block, shared, map.pixels() * map.row_bytes());
  Mbarrier& reports_to = checked_mbarrier(block, mbarrier);
  Pixel pixel = {};
  for (int i = 0; i < rank; ++i) pixel.at[i] = at[i];
  auto data = gather(map, pixel, target, [&](Pixel& p) { next_in_tile(map, at, p); });
  block.tensor_copies().issue(block, target, std::move(data), reports_to);
}

void tma_load_im2col(void* shared, const void* map_address, void* mbarrier, const int* at,
                     const std::uint16_t* offset, int rank) {
  Block& block = *running_block();
  const TensorMapContent& map = checked_map(block, map_address, rank, true);
  std::byte* target = checked_target(block, shared, map.pixels() * map.row_bytes());
  Mbarrier& reports_to = checked_mbarrier(block, mbarrier);
  const int most = rank == 3 ? 0xffff : rank == 4 ? 0xff : 0x1f;
  for (int i = 0; i + 2 < rank; ++i) {
    if (offset[i] > most) {
      block.fail_here("an im2col offset of " + std::to_string(offset[i]) + ": in " + std::to_string(rank) +
                      " dimensions it is " + std::to_string(most) + " at the most");
    }
    if (at[1 + i] < map.lower[i] || at[1 + i] >= map.size(1 + i) + map.upper[i]) {
      block.fail_here("im2col coordinate " + std::to_string(at[1 + i]) + " of dimension " +
                      std::to_string(1 + i) + " is outside of the bounding box, " +
                      std::to_string(map.lower[i]) + " to " +
                      std::to_string(map.size(1 + i) + map.upper[i] - 1));
    }
  }
  Pixel base = {};
  for (int i = 0; i < rank; ++i) base.at[i] = at[i];
  const auto with_offset = [&](const Pixel& p) {
    Pixel moved = p;
    for (int i = 0; i + 2 < rank; ++i) moved.at[1 + i] += offset[i];
    return moved;
  };
  auto data = gather(map, with_offset(base), target, [&](Pixel& p) {
    next_in_column(map, base);
    p = with_offset(base);
  });
  block.tensor_copies().issue(block, target, std::move(data), reports_to);
}

}  // namespace cuconv::emu
