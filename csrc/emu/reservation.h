// A stretch of addresses, most of them without memory behind.
//
// Memory that kernels use lies in the middle of one, so that an index that is off by a lot (by 2^32, say) is
// still recognised as an access beside an array, instead of hitting something else in the process.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cuconv::emu {

struct AddressRange {
  const std::byte* begin;
  std::size_t bytes;
  bool holds(const std::byte* address) const { return static_cast<std::size_t>(address - begin) < bytes; }
};

class Reservation {
 public:
  // Settles for less where the process may not have so many addresses. Throws std::bad_alloc.
  explicit Reservation(std::size_t bytes);
  ~Reservation();
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;

  AddressRange range() const { return {begin_, bytes_}; }
  std::byte* middle() const { return begin_ + bytes_ / 2; }

  // Puts memory behind a part, or throws std::bad_alloc; takes it away again.
  void commit(std::byte* begin, std::size_t bytes) const;
  void release(std::byte* begin, std::size_t bytes) const;

 private:
  std::byte* begin_;
  std::size_t bytes_;
};

}  // namespace cuconv::emu
