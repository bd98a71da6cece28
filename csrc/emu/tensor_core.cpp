// What a warp does as one: ldmatrix and mma, by the fragment layouts of the PTX ISA ("Warp-level matrix
// instructions"). The last lane to come does the work for all; the others' registers stay in place on their
// stacks, since each of them waits.
//
// Lane 4g + t has the pairs 2t, 2t + 1 of row g of a matrix of 8 by 8 (of column g, for the right operand).
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "emu/block.h"
#include "emu/elements.h"
#include "emu/flavour.h"
#include "emu/shadow.h"
#include "emu/shared.h"

namespace cuconv::emu {
namespace {

template <typename Operands>
const Operands& operands_of(const std::uint64_t* of_lane, int lane) {
  return *reinterpret_cast<const Operands*>(of_lane[lane]);
}

// ---- ldmatrix ----

constexpr int kMatrices = 4;
constexpr int kRowBytes = 16;

struct LoadOperands {
  const char* name;
  std::uint32_t* registers;
  const std::byte* row;  // lane i's is row i % 8 of matrix i / 8
};

void check_row(const Block& block, const LoadOperands& lane) {
  if (!shared_window.addresses.holds(lane.row)) {
    block.fail_here(std::string(lane.name) + " of a row that is not in shared memory");
  }
  const auto off = reinterpret_cast<std::uintptr_t>(lane.row) % kRowBytes;
  if (off == 0) return;
  block.fail_here("misaligned " + std::string(lane.name) + ": its row at byte " +
                  std::to_string(lane.row - shared_memory) + " of shared memory lies " + std::to_string(off) +
                  " bytes off the 16-byte alignment that it needs");
}

// A read counts as the receiving lane's: what another lane has written needs a barrier or __syncwarp between,
// even if it was the lane that gives the row's address.
template <typename T>
T receive(const std::byte* from) {
  if (kChecked) check_read(from, sizeof(T));
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

template <bool kTransposed>
void load(Block& block, const std::uint64_t* of_lane) {
  const std::byte* rows[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    const auto& operands = operands_of<LoadOperands>(of_lane, lane);
    block.act_as(lane);
    check_row(block, operands);
    rows[lane] = operands.row;
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    block.act_as(lane);
    const int g = lane / 4;
    const int t = lane % 4;
    std::uint32_t* registers = operands_of<LoadOperands>(of_lane, lane).registers;
    for (int matrix = 0; matrix < kMatrices; ++matrix) {
      const std::byte* const* row = rows + 8 * matrix;
      if constexpr (kTransposed) {
        const std::uint32_t low = receive<std::uint16_t>(row[2 * t] + 2 * g);
        const std::uint32_t high = receive<std::uint16_t>(row[2 * t + 1] + 2 * g);
        registers[matrix] = high << 16 | low;
      } else {
        registers[matrix] = receive<std::uint32_t>(row[g] + 4 * t);
      }
    }
  }
}

// ---- mma ----

struct MultiplyOperands {
  float* sum;
  const std::uint32_t* a;
  const std::uint32_t* b;
};

template <typename Element>
float element(std::uint32_t reg, int i) {
  if constexpr (Element::kPerRegister == 1) return Element::widen(reg);
  return Element::widen(i ? reg >> 16 : reg & 0xffff);
}

// Each sum by fused multiply-adds in float, k rising.
template <typename Element, int kDepth>
void multiply(Block&, const std::uint64_t* of_lane) {
  constexpr int kM = 16;
  constexpr int kN = 8;
  constexpr int kPer = Element::kPerRegister;
  constexpr int kRegistersB = kDepth / (4 * kPer);
  using Exact = typename Element::Exact;
  Exact a[kM][kDepth];
  Exact b[kDepth][kN];
  for (int lane = 0; lane < kLanes; ++lane) {
    const auto& operands = operands_of<MultiplyOperands>(of_lane, lane);
    const int g = lane / 4;
    const int t = lane % 4;
    for (int reg = 0; reg < kRegistersB; ++reg) {
      for (int i = 0; i < kPer; ++i) {
        const int k = (4 * reg + t) * kPer + i;
        a[g][k] = element<Element>(operands.a[2 * reg], i);
        a[g + 8][k] = element<Element>(operands.a[2 * reg + 1], i);
        b[k][g] = element<Element>(operands.b[reg], i);
      }
    }
  }
  float sums[kM][kN];
  const auto lane_sum = [&](int lane, int i) -> float& {
    return sums[lane / 4 + i / 2 * 8][2 * (lane % 4) + i % 2];
  };
  for (int lane = 0; lane < kLanes; ++lane) {
    const float* sum = operands_of<MultiplyOperands>(of_lane, lane).sum;
    for (int i = 0; i < 4; ++i) lane_sum(lane, i) = sum[i];
  }
  for (int m = 0; m < kM; ++m) {
    for (int k = 0; k < kDepth; ++k) {
      for (int n = 0; n < kN; ++n) sums[m][n] = static_cast<float>(a[m][k] * b[k][n] + sums[m][n]);
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    float* sum = operands_of<MultiplyOperands>(of_lane, lane).sum;
    for (int i = 0; i < 4; ++i) sum[i] = lane_sum(lane, i);
  }
}

template <typename Element, int kDepth>
void multiply_in_warp(float* sum, const std::uint32_t* a, const std::uint32_t* b, const char* name,
                      Where where) {
  MultiplyOperands operands{sum, a, b};
  running_block()->perform_in_warp(&operands, multiply<Element, kDepth>, name, where);
}

template <bool kTransposed>
void load_in_warp(std::uint32_t* registers, const void* row, const char* name, Where where) {
  LoadOperands operands{name, registers, static_cast<const std::byte*>(row)};
  running_block()->perform_in_warp(&operands, load<kTransposed>, name, where);
}

}  // namespace

void load_matrices(std::uint32_t* registers, const void* shared_row, Where where) {
  load_in_warp<false>(registers, shared_row, "ldmatrix_x4", where);
}
void load_matrices_transposed(std::uint32_t* registers, const void* shared_row, Where where) {
  load_in_warp<true>(registers, shared_row, "ldmatrix_x4_trans", where);
}

void multiply_half_k8(float* sum, const std::uint32_t* a, const std::uint32_t* b, Where where) {
  multiply_in_warp<Half, 8>(sum, a, b, "mma_m16n8k8", where);
}
void multiply_half_k16(float* sum, const std::uint32_t* a, const std::uint32_t* b, Where where) {
  multiply_in_warp<Half, 16>(sum, a, b, "mma_m16n8k16", where);
}
void multiply_bfloat16_k16(float* sum, const std::uint32_t* a, const std::uint32_t* b, Where where) {
  multiply_in_warp<Bfloat16, 16>(sum, a, b, "mma_m16n8k16", where);
}
void multiply_tf32_k8(float* sum, const std::uint32_t* a, const std::uint32_t* b, Where where) {
  multiply_in_warp<Tf32, 8>(sum, a, b, "mma_m16n8k8_tf32", where);
}

}  // namespace cuconv::emu
