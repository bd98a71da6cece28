// What g++ calls at every memory access of a kernel built with -fsanitize=thread, defined here instead of by
// the sanitizer's own library: each goes to the shadow. Only in the race flavour, and never instrumented
// itself.
//
// The names are hidden, so that a sanitizer's library in the same process keeps its own.
#include <cstddef>

#include "emu/fiber.h"
#include "emu/shadow.h"

// The C library's own: the module is linked with --wrap.
extern "C" {
void* __real_memcpy(void* to, const void* from, std::size_t bytes);
void* __real_memmove(void* to, const void* from, std::size_t bytes);
void* __real_memset(void* to, int value, std::size_t bytes);
}

#pragma GCC visibility push(hidden)

using cuconv::emu::check_read;
using cuconv::emu::check_write;
using cuconv::emu::running_fiber;

extern "C" {

#define CUCONV_EMU_ACCESS(bytes)                                                  \
  void __tsan_read##bytes(const std::byte* p) { check_read(p, bytes); }           \
  void __tsan_write##bytes(const std::byte* p) { check_write(p, bytes); }         \
  void __tsan_unaligned_read##bytes(const std::byte* p) { check_read(p, bytes); } \
  void __tsan_unaligned_write##bytes(const std::byte* p) { check_write(p, bytes); }

CUCONV_EMU_ACCESS(1)
CUCONV_EMU_ACCESS(2)
CUCONV_EMU_ACCESS(4)
CUCONV_EMU_ACCESS(8)
CUCONV_EMU_ACCESS(16)
#undef CUCONV_EMU_ACCESS

// Structs that are copied whole.
void __tsan_read_range(const std::byte* p, std::size_t bytes) { check_read(p, bytes); }
void __tsan_write_range(const std::byte* p, std::size_t bytes) { check_write(p, bytes); }

void __tsan_init() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}

// Copies for which g++ calls the C library, which is not instrumented. Those of the emulator itself happen on
// the host.
void* __wrap_memcpy(void* to, const void* from, std::size_t bytes) {
  if (running_fiber()) {
    check_read(static_cast<const std::byte*>(from), bytes);
    check_write(static_cast<const std::byte*>(to), bytes);
  }
  return __real_memcpy(to, from, bytes);
}

void* __wrap_memmove(void* to, const void* from, std::size_t bytes) {
  if (running_fiber()) {
    check_read(static_cast<const std::byte*>(from), bytes);
    check_write(static_cast<const std::byte*>(to), bytes);
  }
  return __real_memmove(to, from, bytes);
}

void* __wrap_memset(void* to, int value, std::size_t bytes) {
  if (running_fiber()) check_write(static_cast<const std::byte*>(to), bytes);
  return __real_memset(to, value, bytes);
}

}  // extern "C"
