// The instructions of tensor cores, on registers as they come; and kernels that use them wrongly with
// fault != 0.
#include "device/cp_async.cuh"
#include "device/mma_sm80.cuh"
#include "device/platform.cuh"
#include "launch/launch.cuh"
#include "selftest.h"

namespace cuconv::selftest {
namespace {

using Word = std::uint32_t;

constexpr int kRowWords = 4;  // of a matrix of 8 by 8 elements of 16 bits

CUCONV_DEVICE int thread() { return static_cast<int>(threadIdx.x); }
CUCONV_DEVICE Word* shared_words() { return reinterpret_cast<Word*>(dynamic_shared()); }

// What each thread brings to a product; half_k8 uses the first of a and b.
struct Fragments {
  Word a[4];
  Word b[2];
  float sum[4];
};
struct Sums {
  float value[4];
};

enum Product { kHalfK8, kHalfK16, kBfloat16K16, kTf32K8 };

template <Product kProduct>
CUCONV_GLOBAL void multiply(const Fragments* x, Sums* y, int times, bool partial) {
  Fragments f = x[thread()];
  Word(&a)[4] = f.a;
  Word(&b)[2] = f.b;
  Word a_half[2] = {a[0], a[1]};
  Word b_half[1] = {b[0]};
  for (int i = 0; i < times; ++i) {
    if (partial && thread() >= 16) continue;
    if constexpr (kProduct == kHalfK8) mma_m16n8k8(f.sum, a_half, b_half, half_t{});
    if constexpr (kProduct == kHalfK16) mma_m16n8k16(f.sum, a, b, half_t{});
    if constexpr (kProduct == kBfloat16K16) mma_m16n8k16(f.sum, a, b, bfloat16_t{});
    if constexpr (kProduct == kTf32K8) mma_m16n8k8_tf32(f.sum, a, b);
  }
  for (int i = 0; i < 4; ++i) y[thread()].value[i] = f.sum[i];
}

enum LoadFault {
  kPartialWarp = 1,
  kNoSync,
  kNoWait,
  kMisaligned,
  kGlobalRow,
  kPastShared,
};

// Each warp: 32 rows into shared memory, one a lane, and out through ldmatrix. y has four words a thread.
template <bool kTransposed>
CUCONV_GLOBAL void load_rows(const Word* x, Word* y, int fault) {
  Word* row = shared_words() + kRowWords * thread();
  cp_async<16>(row, x + kRowWords * thread(), true);
  cp_async_commit();
  if (fault != kNoWait) cp_async_wait<0>();
  if (fault != kNoSync) __syncwarp();
  const void* address = row;
  if (thread() == 5) {
    if (fault == kMisaligned) address = row + 1;
    if (fault == kGlobalRow) address = x;
    if (fault == kPastShared) address = row + 4096;
  }
  Word r[4] = {};
  if (fault != kPartialWarp || thread() < 16) {
    if constexpr (kTransposed) {
      ldmatrix_x4_trans(r, address);
    } else {
      ldmatrix_x4(r, address);
    }
  }
  for (int i = 0; i < 4; ++i) y[4 * thread() + i] = r[i];
}

// All warps load the same rows; then the last thread writes to one.
CUCONV_GLOBAL void write_after_load(const Word* x, Word* y, bool skip_barrier) {
  Word* tile = shared_words();
  if (thread() < 32) {
    for (int i = 0; i < kRowWords; ++i) tile[kRowWords * thread() + i] = x[kRowWords * thread() + i];
  }
  __syncthreads();
  Word r[4];
  ldmatrix_x4(r, tile + kRowWords * (thread() % 32));
  if (!skip_barrier) __syncthreads();
  if (threadIdx.x == blockDim.x - 1) tile[0] = 0;
  for (int i = 0; i < 4; ++i) y[4 * thread() + i] = r[i];
}

CUCONV_GLOBAL void round_floats(const float* x, Word* y) { y[thread()] = round_to_tf32(x[thread()]); }

}  // namespace

bool launch_tensor_core(const std::string& name, const Launch& l) {
  const auto run = [&](auto kernel, auto... args) {
    launch(name.c_str(), kernel, shape_of(l), 0, args...);
    return true;
  };
  const auto* words = reinterpret_cast<const Word*>(l.x);
  const auto* fragments = reinterpret_cast<const Fragments*>(l.x);
  auto* y = reinterpret_cast<Word*>(l.y);
  auto* sums = reinterpret_cast<Sums*>(l.y);
  const std::int64_t a = l.argument;
  if (name == "half_k8") return run(multiply<kHalfK8>, fragments, sums, l.stride, a);
  if (name == "half_k16") return run(multiply<kHalfK16>, fragments, sums, l.stride, a);
  if (name == "bfloat16_k16") return run(multiply<kBfloat16K16>, fragments, sums, l.stride, a);
  if (name == "tf32_k8") return run(multiply<kTf32K8>, fragments, sums, l.stride, a);
  if (name == "load_rows") return run(load_rows<false>, words, y, a);
  if (name == "load_rows_trans") return run(load_rows<true>, words, y, a);
  if (name == "write_after_load") return run(write_after_load, words, y, a);
  if (name == "round_floats") return run(round_floats, reinterpret_cast<const float*>(l.x), y);
  return false;
}

}  // namespace cuconv::selftest
