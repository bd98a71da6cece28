// The elements that tensor cores multiply: as they lie in registers or memory, and the type in which a
// product and a sum are a fused multiply-add of float: one that holds every product exactly. A product has at
// most 22 significant bits. Those of float16 fit a float; others can leave its range, and a sum in double,
// which has more than twice the digits of float, rounds to what the fused operation gives. Without the calls
// that fmaf() would be on x86-64.
#pragma once

#include <bit>
#include <cstdint>

namespace cuconv::emu {

// By bits and not by _Float16, whose conversion is a call on x86-64.
struct Half {
  using Exact = float;
  static constexpr int kPerRegister = 2;
  static float widen(std::uint32_t bits) {
    constexpr float kRebias =
        0x1p112f;  // from an exponent of bias 15 to one of bias 127; exact for denormals
    const std::uint32_t magnitude = (bits & 0x7fff) << 13;
    const auto value = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) * kRebias);
    const std::uint32_t special = magnitude | 0x7f800000;  // infinity, NaN
    const std::uint32_t sign = (bits & 0x8000) << 16;
    return std::bit_cast<float>(sign | (magnitude >= 0x7c00u << 13 ? special : value));
  }
};
struct Bfloat16 {
  using Exact = double;
  static constexpr int kPerRegister = 2;
  static float widen(std::uint32_t bits) { return std::bit_cast<float>(bits << 16); }
};
struct Tf32 {
  using Exact = double;
  static constexpr int kPerRegister = 1;
  static float widen(std::uint32_t bits) { return std::bit_cast<float>(bits & 0xffffe000); }
};

}  // namespace cuconv::emu
