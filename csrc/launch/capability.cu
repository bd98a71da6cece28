#include <algorithm>
#include <string_view>

#include "kernels/implicit_gemm/split_k.cuh"
#include "launch/capability.h"
#include "launch/launch.cuh"

namespace cuconv {

int compute_capability() {
#if defined(__CUDACC__)
  int device = 0, major = 0, minor = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
             "cudaDeviceGetAttribute");
  check_cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device),
             "cudaDeviceGetAttribute");
  // Any kernel tells: a file is compiled for all architectures or none.
  cudaFuncAttributes code = {};
  check_cuda(cudaFuncGetAttributes(&code, split_k_kernel<float>), "cudaFuncGetAttributes");
  return std::min(10 * major + minor, code.ptxVersion);
#else
  return 90;
#endif
}

bool has_wgmma() {
#if defined(__CUDACC__)
  return compute_capability() == 90 &&
         std::string_view(CUCONV_ARCHITECTURES).find("90a") != std::string_view::npos;
#else
  return true;
#endif
}

int multiprocessors() {
#if defined(__CUDACC__)
  int device = 0, count = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  check_cuda(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device),
             "cudaDeviceGetAttribute");
  return count;
#else
  return 3;
#endif
}

}  // namespace cuconv
