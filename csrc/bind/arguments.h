// From Python's words to the launchers' own. Pointers and streams arrive as integers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "config.h"
#include "launch/check.h"

namespace cuconv {

template <std::size_t kSize>
using Integers = std::array<std::int64_t, kSize>;  // checked for its length by pybind11

template <std::size_t kSize>
void copy_to(const Integers<kSize>& from, std::int64_t (&to)[kSize]) {
  for (std::size_t i = 0; i < kSize; ++i) to[i] = from[i];
}

template <typename T>
T* pointer(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

inline DType parse_dtype(const std::string& name) {
  for (const DType dtype : {DType::kFloat16, DType::kBfloat16, DType::kFloat32, DType::kFloat64,
                            DType::kComplex64, DType::kComplex128}) {
    if (name == name_of(dtype)) return dtype;
  }
  throw ArgumentError("no kernel takes dtype '" + name + "'");
}

inline Precision parse_precision(const std::string& name) {
  if (name == "ieee") return Precision::kIeee;
  if (name == "tf32") return Precision::kTf32;
  if (name == "tf32x3") return Precision::kTf32x3;
  throw ArgumentError("no precision is called '" + name + "'");
}

// "" is no activation.
inline Activation parse_activation(const std::string& name) {
  if (name.empty()) return Activation::kNone;
  if (name == "relu") return Activation::kRelu;
  if (name == "sigmoid") return Activation::kSigmoid;
  if (name == "tanh") return Activation::kTanh;
  throw ArgumentError("no kernel has the activation '" + name + "'");
}

}  // namespace cuconv
