// Complex numbers as plain pairs: trivially copyable, the memory layout of NumPy's and C's.
#pragma once

namespace cuconv {

template <typename Real>
struct complex_t {
  Real re;
  Real im;
};

}  // namespace cuconv
