#include "emu/shared.h"

#include <cstring>
#include <memory>
#include <vector>

#include "emu/flavour.h"
#include "emu/poison.h"

namespace cuconv::emu {

namespace {

constexpr std::size_t kPromisedAlignment = 1024;
constexpr std::size_t kGuard = 4 * kPromisedAlignment;

// The guards lie around the largest block, so that one allocation serves all.
struct Storage {
  Storage() : base(addresses.middle() + kPromisedAlignment), cells(kChecked ? kMaxSharedBytes : 0) {
    addresses.commit(base - kGuard, kGuard + kMaxSharedBytes + kGuard);
  }
  Reservation addresses{std::size_t{16} << 30};
  std::byte* base;
  std::vector<Cell> cells;
};

}  // namespace

CUCONV_EMU_THREAD_LOCAL std::byte* shared_memory = nullptr;
CUCONV_EMU_THREAD_LOCAL SharedWindow shared_window = {};

SharedMemory::SharedMemory(std::size_t bytes) {
  thread_local const auto storage = std::make_unique<Storage>();  // on the heap: see CUCONV_EMU_THREAD_LOCAL
  shared_memory = storage->base;
  shared_window = {storage->addresses.range(), bytes, storage->cells.data()};
  poison(shared_memory - kGuard, kGuard + kMaxSharedBytes + kGuard);
  unpoison(shared_memory, bytes);
}

SharedMemory::~SharedMemory() { shared_memory = nullptr; }

void SharedMemory::fill() const { std::memset(shared_memory, 0xff, shared_window.bytes); }

}  // namespace cuconv::emu
