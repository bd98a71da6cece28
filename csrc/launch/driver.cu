#include "launch/driver.h"

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#endif

namespace cuconv {

int driver_version() {
  int version = 0;
#if defined(__CUDACC__)
  // The one call that succeeds without a driver; others fail and leave their results untouched.
  cudaDriverGetVersion(&version);
#endif
  return version;
}

}  // namespace cuconv
