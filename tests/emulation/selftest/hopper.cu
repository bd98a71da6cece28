// mbarriers, TMA copies and wgmma: right with fault = 0, with one bug each otherwise.
#include <stdexcept>

#include "device/platform.cuh"
#include "device/tma_sm90.cuh"
#include "device/wgmma_sm90.cuh"
#include "launch/launch.cuh"
#include "selftest.h"

namespace cuconv::selftest {
namespace {

constexpr int kLine = 128;  // bytes: a row of a box
constexpr int kStages = 2;
constexpr int kStageLines = 32;
constexpr int kStageBytes = kStageLines * kLine;

CUCONV_DEVICE int thread() { return static_cast<int>(threadIdx.x); }
CUCONV_DEVICE std::byte* stage(int i) { return dynamic_shared() + i * kStageBytes; }
CUCONV_DEVICE Mbarrier* full(int i) { return reinterpret_cast<Mbarrier*>(stage(kStages)) + i; }
CUCONV_DEVICE Mbarrier* empty(int i) { return full(kStages + i); }

enum RingFault {
  kNoWait = 1,
  kWrongParity,
  kTooManyBytes,
  kTooFewBytes,
  kNoEmptyWait,
  kNoFence,
  kNoBarrier,
  kArriveTwice,
  kMisaligned,
  kLeaveEarly,
  kUninitialised,
  kNotAnMbarrier,
  kWrongMap,
  kOtherStage,
  kEarlyRelease,
  kMoreThanCounted,
};

// y = x, by steps of 32 lines of 128 bytes through two stages. Thread 0 of the first warp copies in; the
// second warp copies out, a line a thread.
CUCONV_GLOBAL void ring(CUCONV_GRID_CONSTANT const TensorMap map, float* y, int steps, int fault) {
  if (thread() == 0 && fault != kUninitialised) {
    for (int i = 0; i < kStages; ++i) {
      mbarrier_init(full(i), 1);
      mbarrier_init(empty(i), 1);
    }
    if (fault != kNoFence) fence_mbarrier_init();
  }
  if (fault != kNoBarrier) __syncthreads();
  if (thread() == 0) {
    for (int step = 0; step < steps; ++step) {
      const int at = step % kStages;
      const int parity = step / kStages % 2;
      if (fault != kNoEmptyWait) mbarrier_wait(empty(at), parity ^ 1);
      int bytes = kStageBytes;
      if (fault == kTooManyBytes) bytes += 16;
      if (fault == kTooFewBytes) bytes -= 16;
      if (fault == kMoreThanCounted) bytes = 1 << 20;
      Mbarrier* bar = full(at);
      if (fault == kNotAnMbarrier) bar = empty(kStages);
      mbarrier_arrive_expect(bar, bytes);
      if (fault == kArriveTwice) mbarrier_arrive(bar);
      std::byte* target = stage(at) + (fault == kMisaligned ? 64 : 0);
      if (fault == kWrongMap) {
        tma_load_im2col_3d(target, &map, bar, {0, 0, 0}, {0});
      } else {
        tma_load_tile_5d(target, &map, bar, {0, step * kStageLines, 0, 0, 0});
      }
    }
  }
  if (thread() >= 32 && fault != kLeaveEarly) {
    const int row = thread() - 32;
    for (int step = 0; step < steps; ++step) {
      const int at = step % kStages;
      const int parity = step / kStages % 2;
      if (fault != kNoWait) mbarrier_wait(full(at), fault == kWrongParity ? parity ^ 1 : parity);
      if (fault == kEarlyRelease && row == 0) mbarrier_arrive(empty(at));
      const std::byte* line = stage(fault == kOtherStage ? (at + 1) % kStages : at) + row * kLine;
      for (int i = 0; i < 32; ++i) {
        const int chunk = i / 4 ^ row % 8;  // as TMA swizzles
        y[(step * kStageLines + row) * 32 + i] =
            *reinterpret_cast<const float*>(line + chunk * 16 + i % 4 * 4);
      }
      __syncwarp();
      if (fault != kEarlyRelease && row == 0) mbarrier_arrive(empty(at));
    }
  }
}

enum ProductFault {
  kNoWgmmaFence = 1,
  kNoWgmmaWait,
  kWriteSum,
  kNoMbarrierWait,
  kRefill,
  kOtherLayout,
  kOtherOperands,
  kHalfWarpgroup,
  kReadEarly,
  kPastEnd,
  kWriteAfterFence,
};

// 64 lines of A and 128 of B, 128 bytes each, of which the products of all 32-byte steps are summed: twice,
// so that the second product adds to the first. y has 64 sums a thread.
template <typename T>
CUCONV_GLOBAL void product(CUCONV_GRID_CONSTANT const TensorMap map, float* y, int fault) {
  std::byte* a = dynamic_shared();
  std::byte* b = a + 64 * kLine;
  auto* bar = reinterpret_cast<Mbarrier*>(b + 128 * kLine);
  if (thread() == 0) {
    mbarrier_init(bar, 1);
    fence_mbarrier_init();
    mbarrier_arrive_expect(bar, 192 * kLine);
    tma_load_tile_5d(a, &map, bar, {0, 0, 0, 0, 0});
  }
  __syncthreads();
  if (fault != kNoMbarrierWait) mbarrier_wait(bar, 0);
  float sum[64];
  for (int i = 0; i < 64; ++i) sum[i] = 0;
  if (fault == kHalfWarpgroup && thread() >= 64) return;
  if (fault != kNoWgmmaFence) wgmma_fence();
  if (fault == kWriteAfterFence && thread() == 70) sum[5] = 1;
  for (int turn = 0; turn < 2; ++turn) {
    for (int k = 0; k < 4; ++k) {
      std::uint64_t left = wgmma_descriptor(a) + k * kWgmmaStep;
      if (fault == kOtherLayout) left ^= std::uint64_t{3} << 62;
      if (fault == kOtherOperands && thread() == 100) left += 2;
      if (fault == kPastEnd) left += 64 * kLine * 3 / 16;
      wgmma_m64n128(sum, left, wgmma_descriptor(b) + k * kWgmmaStep, T{}, turn > 0 || k > 0);
    }
    wgmma_commit();
  }
  wgmma_wait<1>();
  if (fault == kReadEarly) y[0] = sum[0];
  if (fault == kWriteSum && thread() == 70) sum[5] = 1;
  if (fault == kRefill && thread() == 0) {
    mbarrier_arrive_expect(bar, 192 * kLine);
    tma_load_tile_5d(a, &map, bar, {0, 0, 0, 0, 0});
  }
  if (fault != kNoWgmmaWait) wgmma_wait(sum);
  for (int i = 0; i < 64 && fault != kReadEarly; ++i) y[64 * thread() + i] = sum[i];
  if (fault == kRefill) mbarrier_wait(bar, 1);
}

CUCONV_GLOBAL void descriptor(std::uint64_t* y) {
  if (thread() != 0) return;
  y[0] = wgmma_descriptor(dynamic_shared() + 4096);
  y[1] = wgmma_descriptor_by_k(dynamic_shared() + 4096);
}

// The same of 16 bits with B by its k: 64 lines of B's first 64 columns, then 64 of the others; or with both,
// A in 64 lines of its 64 rows.
template <typename T, bool kBoth>
CUCONV_GLOBAL void product_by_k(CUCONV_GRID_CONSTANT const TensorMap map, float* y) {
  std::byte* a = dynamic_shared();
  std::byte* b = a + 64 * kLine;
  auto* bar = reinterpret_cast<Mbarrier*>(b + 128 * kLine);
  if (thread() == 0) {
    mbarrier_init(bar, 1);
    fence_mbarrier_init();
    mbarrier_arrive_expect(bar, 192 * kLine);
    tma_load_tile_5d(a, &map, bar, {0, 0, 0, 0, 0});
  }
  __syncthreads();
  mbarrier_wait(bar, 0);
  float sum[64];
  wgmma_fence();
  for (int k = 0; k < 4; ++k) {
    const std::uint64_t right = wgmma_descriptor_by_k(b) + k * kWgmmaStepByK;
    if constexpr (kBoth) {
      wgmma_m64n128_both_by_k(sum, wgmma_descriptor_by_k(a) + k * kWgmmaStepByK, right, T{}, k > 0);
    } else {
      wgmma_m64n128_by_k(sum, wgmma_descriptor(a) + k * kWgmmaStep, right, T{}, k > 0);
    }
  }
  wgmma_commit();
  wgmma_wait(sum);
  for (int i = 0; i < 64; ++i) y[64 * thread() + i] = sum[i];
}

TensorMap map_of(const Launch& l, int data_type, std::uint64_t lines, std::uint32_t box_lines) {
  TensorMap map;
  const std::uint64_t per_line = data_type == 7 ? 32 : 64;
  const std::uint64_t dims[5] = {per_line, lines, 1, 1, 1};
  const std::uint64_t strides[4] = {kLine, kLine * lines, kLine * lines, kLine * lines};
  const std::uint32_t box[5] = {static_cast<std::uint32_t>(per_line), box_lines, 1, 1, 1};
  const std::uint32_t steps[5] = {1, 1, 1, 1, 1};
  if (emu::encode_tiled(&map, data_type, 5, reinterpret_cast<void*>(l.x), dims, strides, box, steps, 0, 3, 0,
                        0) != 0) {
    throw std::runtime_error("no tensor map of this");
  }
  return map;
}

// ---- a TMA copy as it is asked for ----

struct ImageCopy {
  int rank;
  int at[5];
  std::uint16_t offset[3];
  int bytes;
};

// One im2col copy, and then the bytes as they lie.
CUCONV_GLOBAL void copy_image(CUCONV_GRID_CONSTANT const TensorMap map, ImageCopy c, std::uint16_t* y) {
  auto* bar = reinterpret_cast<Mbarrier*>(dynamic_shared() + (c.bytes + 7) / 8 * 8);
  if (thread() == 0) {
    mbarrier_init(bar, 1);
    fence_mbarrier_init();
    mbarrier_arrive_expect(bar, c.bytes);
    std::byte* target = dynamic_shared();
    if (c.rank == 3) {
      tma_load_im2col_3d(target, &map, bar, {c.at[0], c.at[1], c.at[2]}, {c.offset[0]});
    } else if (c.rank == 4) {
      tma_load_im2col_4d(target, &map, bar, {c.at[0], c.at[1], c.at[2], c.at[3]}, {c.offset[0], c.offset[1]});
    } else {
      tma_load_im2col_5d(target, &map, bar, c.at, c.offset);
    }
  }
  __syncthreads();
  mbarrier_wait(bar, 0);
  const auto* shared = reinterpret_cast<const std::uint16_t*>(dynamic_shared());
  for (int i = thread(); i < c.bytes / 2; i += static_cast<int>(blockDim.x)) y[i] = shared[i];
}

}  // namespace

int encode_image(const ImageMap& m, TensorMap& map) {
  return emu::encode_im2col(&map, m.data_type, m.rank, reinterpret_cast<void*>(m.x), m.dims.data(),
                            m.strides.data(), m.lower.data(), m.upper.data(), m.channels, m.pixels,
                            m.steps.data(), m.interleave, m.swizzle, 0, m.fill);
}

void launch_image_copy(const ImageMap& m, std::uintptr_t y, const std::vector<int>& at,
                       const std::vector<int>& offset) {
  TensorMap map;
  if (encode_image(m, map) != 0) throw std::runtime_error("no tensor map of this");
  ImageCopy copy{m.rank, {}, {}, static_cast<int>(m.pixels * m.channels * 2)};
  for (std::size_t i = 0; i < at.size(); ++i) copy.at[i] = at[i];
  for (std::size_t i = 0; i < offset.size(); ++i) copy.offset[i] = static_cast<std::uint16_t>(offset[i]);
  const std::size_t shared = (copy.bytes + 7) / 8 * 8 + sizeof(Mbarrier);
  launch("copy_image", copy_image, {{1}, {64}, shared}, 0, map, copy, reinterpret_cast<std::uint16_t*>(y));
}

bool launch_hopper(const std::string& name, const Launch& l) {
  const auto run = [&](auto kernel, auto... args) {
    launch(name.c_str(), kernel, shape_of(l), 0, args...);
    return true;
  };
  auto* y = reinterpret_cast<float*>(l.y);
  const int a = static_cast<int>(l.argument);
  const int steps = static_cast<int>(l.stride);
  if (name == "ring") return run(ring, map_of(l, 7, steps * kStageLines, kStageLines), y, steps, a);
  if (name == "descriptor") return run(descriptor, reinterpret_cast<std::uint64_t*>(l.y));
  if (name == "product_half") return run(product<half_t>, map_of(l, 6, 192, 192), y, a);
  if (name == "product_bfloat16") return run(product<bfloat16_t>, map_of(l, 9, 192, 192), y, a);
  if (name == "product_by_k_half") return run(product_by_k<half_t, false>, map_of(l, 6, 192, 192), y);
  if (name == "product_by_k_bfloat16") {
    return run(product_by_k<bfloat16_t, false>, map_of(l, 9, 192, 192), y);
  }
  if (name == "product_both_by_k_half") return run(product_by_k<half_t, true>, map_of(l, 6, 192, 192), y);
  if (name == "product_both_by_k_bfloat16") {
    return run(product_by_k<bfloat16_t, true>, map_of(l, 9, 192, 192), y);
  }
  if (name == "product_tf32") return run(product<float>, map_of(l, 7, 192, 192), y, a);
  return false;
}

}  // namespace cuconv::selftest
