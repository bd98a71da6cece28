// Which of the three builds this is; CMake decides.
//
//   plain  nothing but execution
//   asan   AddressSanitizer
//   race   every memory access of a kernel is checked against a shadow (emu/shadow.h)
#pragma once

#include <string_view>

namespace cuconv::emu {

constexpr std::string_view kFlavour = CUCONV_EMULATED_FLAVOUR;
constexpr bool kChecked = kFlavour == "race";

}  // namespace cuconv::emu
