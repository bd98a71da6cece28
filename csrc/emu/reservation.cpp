#include "emu/reservation.h"

#include <sys/mman.h>

#include <new>

namespace cuconv::emu {
namespace {

constexpr std::uintptr_t kPage = 4096;

void protect(std::byte* begin, std::size_t bytes, int protection) {
  const std::uintptr_t first = reinterpret_cast<std::uintptr_t>(begin) / kPage * kPage;
  const std::uintptr_t end = reinterpret_cast<std::uintptr_t>(begin) + bytes;
  if (mprotect(reinterpret_cast<void*>(first), end - first, protection) != 0) throw std::bad_alloc();
}

}  // namespace

Reservation::Reservation(std::size_t bytes) {
  constexpr std::size_t kLeast = std::size_t{64} << 20;
  for (; bytes >= kLeast; bytes /= 2) {
    void* memory = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) continue;
    begin_ = static_cast<std::byte*>(memory);
    bytes_ = bytes;
    return;
  }
  throw std::bad_alloc();
}

Reservation::~Reservation() { munmap(begin_, bytes_); }

void Reservation::commit(std::byte* begin, std::size_t bytes) const {
  if (begin < begin_ || begin + bytes > begin_ + bytes_) throw std::bad_alloc();
  protect(begin, bytes, PROT_READ | PROT_WRITE);
}

void Reservation::release(std::byte* begin, std::size_t bytes) const {
  madvise(begin, bytes, MADV_DONTNEED);
  protect(begin, bytes, PROT_NONE);
}

}  // namespace cuconv::emu
