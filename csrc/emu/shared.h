// The shared memory of the block that runs.
#pragma once

#include <cstddef>

#include "emu/device_api.h"
#include "emu/reservation.h"
#include "emu/shadow.h"

namespace cuconv::emu {

// The largest that any supported GPU gives a block.
constexpr std::size_t kMaxSharedBytes = 227 * 1024;

// What the running launch has.
struct SharedWindow {
  AddressRange addresses;  // that only shared memory, or a wrong index into it, can have
  std::size_t bytes;
  Cell* cells;  // for each byte, in the race flavour
};

extern CUCONV_EMU_THREAD_LOCAL SharedWindow shared_window;

// Gives the running launch `bytes` of shared memory at the address dynamic_shared() returns. The address has
// the 1024-byte alignment that is promised and never a stricter one, so nothing works by luck of a better
// one.
class SharedMemory {
 public:
  explicit SharedMemory(std::size_t bytes);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  // NaN in every floating-point type: what a block starts with.
  void fill() const;
};

}  // namespace cuconv::emu
