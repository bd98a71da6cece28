// Several elements moved by one instruction, up to 16 bytes. The address must be aligned to the whole.
#pragma once

#include "device/platform.cuh"

namespace cuconv {

template <typename T, int kWidth>
struct alignas(sizeof(T) * kWidth) Vec {
  static_assert(sizeof(T) * kWidth <= 16, "one instruction moves 16 bytes at the most");
  T at[kWidth];
};

template <int kWidth, typename T>
CUCONV_DEVICE Vec<T, kWidth> load_vec(const T* address) {
  return *reinterpret_cast<const Vec<T, kWidth>*>(address);
}

template <int kWidth, typename T>
CUCONV_DEVICE void store_vec(T* address, const Vec<T, kWidth>& value) {
  *reinterpret_cast<Vec<T, kWidth>*>(address) = value;
}

}  // namespace cuconv
