// The emulated device's global memory: copies of the caller's arrays, each between guards, and workspace.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "emu/device_api.h"
#include "emu/layout.h"
#include "emu/reservation.h"
#include "emu/shadow.h"

namespace cuconv::emu {

enum class Access { kInput, kOutput, kInout, kWorkspace };

// One placed array. `first` is the lowest byte of any element, which under negative strides is not element
// [0, ...].
struct Region {
  std::string name;
  Access access;
  Layout layout;
  std::byte* element0;
  std::byte* first;
  std::size_t bytes;
  std::vector<bool> is_element;  // for each byte; empty when all are
  std::vector<Cell> cells;       // for each byte; empty when nothing is to be tracked

  std::string describe(const std::byte* address) const;
};

class Arena {
 public:
  // A place for an array, at the residue modulo 64 that `host` has: misaligned arrays stay so. Inputs and
  // inouts are copied there, everything else starts as NaN (and -1).
  std::byte* place(Access access, const std::byte* host, Layout layout, std::string name);
  std::byte* workspace(std::size_t bytes);

  // Copies the array whose element [0, ...] is at `device` back to `host`. Throws Fault when an element of an
  // output was never written (where writes are tracked).
  void collect(const std::byte* device, std::byte* host, const Layout& layout) const;

  // Frees everything.
  void reset();

  // The array that holds a byte; nullptr for a guard or an address that is nobody's.
  Region* find(const std::byte* address);
  AddressRange addresses() const { return addresses_.range(); }
  // "element [0, 3] of 'x'", "8 bytes past the end of 'x'"
  std::string describe(const std::byte* address) const;

 private:
  Region& add(Access access, std::size_t residue, Layout layout, std::string name);

  Reservation addresses_{std::size_t{128} << 30};
  std::byte* next_ = addresses_.middle();
  std::deque<Region> regions_;  // by rising address
  Region* found_ = nullptr;     // by the last search
};

// This host thread's, and the addresses that only its arrays, or wrong indices into them, can have.
Arena& arena();
extern CUCONV_EMU_THREAD_LOCAL AddressRange arena_addresses;

}  // namespace cuconv::emu
