// What g++ calls where code built with -fsanitize=undefined does something undefined, defined here instead of
// by the sanitizer's own library: each is a fault of the kernel (or launcher) that names the source line.
//
// Each handler is given a record that begins with the place in the source. The names are hidden, so that a
// sanitizer's library in the same process keeps its own.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "emu/block.h"

namespace {

struct Place {
  const char* file;
  std::uint32_t line;
  std::uint32_t column;
};

struct TypeMismatch {
  Place place;
  const void* type;
  unsigned char log_alignment;
};

void report(const Place* place, const std::string& what) {
  const char* slash = std::strrchr(place->file, '/');
  cuconv::emu::fail_soon("undefined behaviour at " + std::string(slash ? slash + 1 : place->file) + ":" +
                         std::to_string(place->line) + ": " + what);
}

}  // namespace

#pragma GCC visibility push(hidden)

extern "C" {

#define CUCONV_EMU_UNDEFINED(handler, what) \
  void __ubsan_handle_##handler(const Place* place) { report(place, what); }

CUCONV_EMU_UNDEFINED(add_overflow, "a signed sum overflows")
CUCONV_EMU_UNDEFINED(sub_overflow, "a signed difference overflows")
CUCONV_EMU_UNDEFINED(mul_overflow, "a signed product overflows")
CUCONV_EMU_UNDEFINED(negate_overflow, "a negation overflows")
CUCONV_EMU_UNDEFINED(divrem_overflow, "a division by zero, or one that overflows")
CUCONV_EMU_UNDEFINED(shift_out_of_bounds, "a shift by too much, or of a negative number")
CUCONV_EMU_UNDEFINED(out_of_bounds, "an index beyond the bounds of its array")
CUCONV_EMU_UNDEFINED(load_invalid_value, "a bool or enumeration with a value that it cannot have")
CUCONV_EMU_UNDEFINED(pointer_overflow, "pointer arithmetic that overflows")
CUCONV_EMU_UNDEFINED(nonnull_arg, "a null pointer where none is allowed")
CUCONV_EMU_UNDEFINED(nonnull_return_v1, "a null pointer returned where none is allowed")
CUCONV_EMU_UNDEFINED(invalid_builtin, "a bit count of zero")
#undef CUCONV_EMU_UNDEFINED

void __ubsan_handle_type_mismatch_v1(const TypeMismatch* record, std::uintptr_t address) {
  const std::uintptr_t alignment = std::uintptr_t{1} << record->log_alignment;
  if (address == 0) {
    report(&record->place, "access through a null pointer");
  } else if (address % alignment != 0) {
    report(&record->place, "a misaligned address: an access that needs " + std::to_string(alignment) +
                               "-byte alignment lies " + std::to_string(address % alignment) + " bytes off");
  } else {
    report(&record->place, "an access larger than the object");
  }
}

// The code after these does not exist.
void __ubsan_handle_builtin_unreachable(const Place* place) {
  report(place, "a place declared unreachable was reached");
  std::abort();
}

void __ubsan_handle_missing_return(const Place* place) {
  report(place, "a function ended without returning its value");
  std::abort();
}

}  // extern "C"
