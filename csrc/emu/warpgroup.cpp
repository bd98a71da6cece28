// wgmma by the PTX ISA ("Asynchronous warpgroup level matrix instructions"): 64 rows of A and n columns of B,
// 32 bytes of k of each, from shared memory, swizzled within 128 bytes; both with k innermost, or B by k, or
// both, which is what kernels use. Thread 32w + 4g + t of the warpgroup holds, in registers 4j to 4j + 3,
// columns 8j + 2t and 8j + 2t + 1 of row 16w + g and then of row 16w + g + 8.
//
// Between issue and wait the tensor core reads shared memory beside the threads, and the sums are its own:
// the threads' registers hold NaN. Products happen at the issue or, arrival "late", at the wait.
#include "emu/warpgroup.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>

#include "emu/block.h"
#include "emu/elements.h"
#include "emu/flavour.h"
#include "emu/shadow.h"
#include "emu/shared.h"

namespace cuconv::emu {
namespace {

constexpr int kRows = 64;
constexpr int kDepthBytes = 32;  // of k, in one product
constexpr int kChunk = 16;
constexpr std::uint32_t kPoison = 0x7fe3d1c5;  // a NaN that no arithmetic gives

const ProductOperands& operands_of(const std::uint64_t* of_thread, int thread) {
  return *reinterpret_cast<const ProductOperands*>(of_thread[thread]);
}

// Where register i of a thread's sums lies: row * n + column.
int place(int thread, int i, int n) {
  const int row = thread / 32 * 16 + thread % 32 / 4 + i / 2 % 2 * 8;
  return row * n + i / 4 * 8 + thread % 4 * 2 + i % 2;
}

// ---- descriptors ----

struct Descriptor {
  std::uint64_t bits;
  int field(int first, int count) const { return static_cast<int>(bits >> first & ((1u << count) - 1)); }
  int start() const { return field(0, 14) * 16; }
  int block_step() const { return field(16, 14) * 16; }  // by k: from 64 columns to the next
  int eight_step() const { return field(32, 14) * 16; }  // from eight lines to the next
};

Descriptor checked(const Block& block, std::uint64_t bits, const char* name) {
  const Descriptor d{bits};
  constexpr int kSwizzle128 = 1;
  if (d.field(62, 2) != kSwizzle128 || d.field(49, 3) != 0) {
    block.fail_here(std::string(name) + " by a descriptor of a layout that the emulator does not have");
  }
  return d;
}

const std::byte* chunk_at(int offset) { return shared_memory + (offset ^ (offset / 128 % 8 * kChunk)); }

// The chunks of 16 bytes of an operand that lies by its rows (of A) or columns (of B), k innermost: two each.
std::vector<const std::byte*> chunks_of(const Descriptor& d, int rows) {
  std::vector<const std::byte*> found;
  for (int i = 0; i < 2 * rows; ++i) {
    const int row = i / 2;
    found.push_back(chunk_at(d.start() + row / 8 * d.eight_step() + row % 8 * 128 + i % 2 * kChunk));
  }
  return found;
}

// Those of an operand of 16 bits that lies by k: for each k, eight rows (columns) a chunk.
std::vector<const std::byte*> chunks_by_k(const Descriptor& d, int rows) {
  constexpr int kInLine = 128 / kChunk;
  std::vector<const std::byte*> found;
  for (int k = 0; k < kDepthBytes / 2; ++k) {
    for (int i = 0; i < rows / 8; ++i) {
      found.push_back(chunk_at(d.start() + i / kInLine * d.block_step() + k / 8 * d.eight_step() +
                               k % 8 * 128 + i % kInLine * kChunk));
    }
  }
  return found;
}

std::vector<const std::byte*> chunks_of_a(const ProductOperands& p) {
  return p.a_by_k ? chunks_by_k({p.a}, kRows) : chunks_of({p.a}, kRows);
}
std::vector<const std::byte*> chunks_of_b(const ProductOperands& p) {
  return p.b_by_k ? chunks_by_k({p.b}, p.n) : chunks_of({p.b}, p.n);
}

// ---- the product ----

template <typename Element, typename Storage, bool kAByK = false, bool kBByK = false>
void multiply(const std::byte* const* a, const std::byte* const* b, int n, float* sums) {
  constexpr int kDepth = kDepthBytes / int{sizeof(Storage)};
  constexpr int kInChunk = kChunk / int{sizeof(Storage)};
  using Exact = typename Element::Exact;
  const auto load_at = [](const std::byte* chunk, int i) {
    Storage bits;
    std::memcpy(&bits, chunk + i * sizeof(Storage), sizeof(Storage));
    return static_cast<Exact>(Element::widen(bits));
  };
  const auto load = [=]<bool kByK>(std::bool_constant<kByK>, const std::byte* const* chunks, int rows,
                                   int row, int k) {
    // By k, an element stands where k would: in the chunk of its eight rows (columns).
    return kByK ? load_at(chunks[(k * rows + row) / 8], row % 8)
                : load_at(chunks[2 * row + k / kInChunk], k % kInChunk);
  };
  std::vector<Exact> columns(kDepth * n);
  for (int column = 0; column < n; ++column) {
    for (int k = 0; k < kDepth; ++k) {
      columns[k * n + column] = load(std::bool_constant<kBByK>{}, b, n, column, k);
    }
  }
  for (int row = 0; row < kRows; ++row) {
    float* sum = sums + row * n;
    for (int k = 0; k < kDepth; ++k) {
      const Exact left = load(std::bool_constant<kAByK>{}, a, kRows, row, k);
      const Exact* right = &columns[k * n];
      for (int column = 0; column < n; column += 8) {
        for (int i = 0; i < 8; ++i) {
          sum[column + i] = static_cast<float>(left * right[column + i] + sum[column + i]);
        }
      }
    }
  }
}

// Of 16 bits. A by k and B not is nobody's.
template <typename Element>
auto multiply_of(bool a_by_k, bool b_by_k) {
  if (a_by_k) return multiply<Element, std::uint16_t, true, true>;
  return b_by_k ? multiply<Element, std::uint16_t, false, true> : multiply<Element, std::uint16_t>;
}

void compute(const ProductOperands& p, float* sums) {
  const auto a = chunks_of_a(p);
  const auto b = chunks_of_b(p);
  p.multiply(a.data(), b.data(), p.n, sums);
}

// All four warps issue the product: each must be in order with what lies there.
void check_operand(Block& block, const std::vector<const std::byte*>& chunks, const char* name) {
  for (const std::byte* each : chunks) {
    if (each < shared_memory || each + kChunk > shared_memory + shared_window.bytes) {
      block.fail_here(std::string(name) + " of an operand that reaches past the end of shared memory");
    }
    if (!kChecked) continue;
    for (int warp = 0; warp < kWarpgroup / kLanes; ++warp) {
      block.act_as_thread(warp * kLanes);
      check_readable(each, kChunk);
    }
    block.act_as_hardware(block.tensor_core());
    note_reads(each, kChunk);
  }
}

// Reads between variables, too, where AddressSanitizer has its marks: so by none of its functions.
__attribute__((no_sanitize("address"))) void copy_stack(std::span<const std::byte> stack,
                                                        std::vector<std::uint64_t>& words) {
  const auto* from = reinterpret_cast<const volatile std::uint64_t*>(stack.data());
  words.resize(stack.size() / sizeof(std::uint64_t));
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = from[i];
}

}  // namespace

// Which variables will be sums nobody knows yet: all are kept.
void Warpgroup::fence(Block& block) {
  fenced_ = true;
  at_fence_.clear();
  if (!held_.empty()) return;
  at_fence_.resize(kWarpgroup);
  for (int thread = 0; thread < kWarpgroup; ++thread) {
    const std::span<const std::byte> stack = block.stack_of(thread);
    at_fence_[thread].from = stack.data();
    copy_stack(stack, at_fence_[thread].words);
  }
}

void Warpgroup::check_untouched(Block& block, int thread, const float* sum, int count) const {
  if (at_fence_.empty()) return;
  const Stack& stack = at_fence_[thread];
  const std::ptrdiff_t offset = reinterpret_cast<const std::byte*>(sum) - stack.from;
  const auto bytes = static_cast<std::ptrdiff_t>(stack.words.size() * sizeof(std::uint64_t));
  if (offset < 0 || offset + count * std::ptrdiff_t{sizeof(float)} > bytes) return;
  const auto* then = reinterpret_cast<const std::byte*>(stack.words.data()) + offset;
  for (int i = 0; i < count; ++i) {
    if (std::memcmp(then + i * sizeof(float), sum + i, sizeof(float)) == 0) continue;
    block.act_as_thread(thread);
    block.fail_here("register " + std::to_string(i) + " of the sums was written after wgmma_fence");
  }
}

Warpgroup::Held& Warpgroup::hold(Block& block, const std::uint64_t* of_thread) {
  const ProductOperands& first = operands_of(of_thread, 0);
  for (Held& each : held_) {
    if (each.sum[0] == first.sum) return each;
  }
  if (!fenced_) {
    block.fail_here(std::string(first.name) +
                    " on sums that the threads had to themselves, with no wgmma_fence since");
  }
  Held& held = held_.emplace_back();
  held.n = first.n;
  held.value.resize(kRows * first.n);
  for (int thread = 0; thread < kWarpgroup; ++thread) {
    held.sum[thread] = operands_of(of_thread, thread).sum;
    check_untouched(block, thread, held.sum[thread], first.n / 2);
    for (int i = 0; i < first.n / 2; ++i) {
      held.value[place(thread, i, first.n)] = held.sum[thread][i];
      held.sum[thread][i] = std::bit_cast<float>(kPoison);
    }
  }
  return held;
}

void Warpgroup::give_back(Block& block, Held& held) {
  for (int thread = 0; thread < kWarpgroup; ++thread) {
    for (int i = 0; i < held.n / 2; ++i) {
      if (std::bit_cast<std::uint32_t>(held.sum[thread][i]) != kPoison) {
        block.act_as_thread(thread);
        block.fail_here("register " + std::to_string(i) +
                        " of the sums was written while a wgmma was adding to it");
      }
      held.sum[thread][i] = held.value[place(thread, i, held.n)];
    }
  }
}

void Warpgroup::issue(Block& block, const std::uint64_t* of_thread) {
  const ProductOperands& first = operands_of(of_thread, 0);
  for (int thread = 1; thread < kWarpgroup; ++thread) {
    const ProductOperands& other = operands_of(of_thread, thread);
    if (other.a != first.a || other.b != first.b || other.accumulate != first.accumulate) {
      block.act_as_thread(thread);
      block.fail_here(std::string(first.name) +
                      " with operands that are not those of the warpgroup's first thread");
    }
  }
  checked(block, first.b, first.name);
  checked(block, first.a, first.name);
  check_operand(block, chunks_of_a(first), first.name);
  check_operand(block, chunks_of_b(first), first.name);
  Held& held = hold(block, of_thread);
  ++held.products;
  open_.push_back({first, &held});
  if (block.arrival() == Arrival::kLate) return;
  if (!first.accumulate) std::fill(held.value.begin(), held.value.end(), 0.f);
  compute(first, held.value.data());
  open_.back().done = true;
}

void Warpgroup::commit() {
  groups_.push_back({std::move(open_), next_tick()});
  open_.clear();
}

void Warpgroup::wait(Block& block, int pending) {
  while (static_cast<int>(groups_.size()) > pending) {
    for (Product& product : groups_.front().products) {
      Held& held = *product.held;
      if (!product.done) {
        if (!product.operands.accumulate) std::fill(held.value.begin(), held.value.end(), 0.f);
        compute(product.operands, held.value.data());
      }
      --held.products;
    }
    for (int thread = 0; kChecked && thread < kWarpgroup; ++thread) {
      block.act_as_thread(thread);
      block.knowledge().learn(block.tensor_core(), groups_.front().end);
    }
    groups_.pop_front();
  }
  for (Held& held : held_) {
    if (held.products > 0)
      return;  // products in flight use those that are done, too: sums come back together
  }
  for (Held& held : held_) give_back(block, held);
  if (!held_.empty()) fenced_ = false;
  held_.clear();
}

// ---- what kernels call ----

namespace {

struct WaitOperands {
  int pending;
};

void multiply_in_warpgroup(ProductOperands operands, Where where) {
  running_block()->perform_in_warpgroup(
      &operands,
      [](Block& block, const std::uint64_t* of_thread) { block.warpgroup().issue(block, of_thread); },
      operands.name, where);
}

}  // namespace

void wgmma_half(float* sum, std::uint64_t a, std::uint64_t b, int n, bool accumulate, bool a_by_k,
                bool b_by_k, Where where) {
  multiply_in_warpgroup(
      {"wgmma", sum, a, b, n, accumulate, a_by_k, b_by_k, multiply_of<Half>(a_by_k, b_by_k)}, where);
}
void wgmma_bfloat16(float* sum, std::uint64_t a, std::uint64_t b, int n, bool accumulate, bool a_by_k,
                    bool b_by_k, Where where) {
  multiply_in_warpgroup(
      {"wgmma", sum, a, b, n, accumulate, a_by_k, b_by_k, multiply_of<Bfloat16>(a_by_k, b_by_k)}, where);
}
void wgmma_tf32(float* sum, std::uint64_t a, std::uint64_t b, int n, bool accumulate, Where where) {
  multiply_in_warpgroup({"wgmma", sum, a, b, n, accumulate, false, false, multiply<Tf32, std::uint32_t>},
                        where);
}

void wgmma_fence(Where where) {
  running_block()->perform_in_warpgroup(
      nullptr, [](Block& block, const std::uint64_t*) { block.warpgroup().fence(block); }, "wgmma_fence",
      where);
}

void wgmma_commit(Where where) {
  running_block()->perform_in_warpgroup(
      nullptr, [](Block& block, const std::uint64_t*) { block.warpgroup().commit(); }, "wgmma_commit", where);
}

void wgmma_wait(int pending, Where where) {
  WaitOperands operands{pending};
  running_block()->perform_in_warpgroup(
      &operands,
      [](Block& block, const std::uint64_t* of_thread) {
        block.warpgroup().wait(block, reinterpret_cast<const WaitOperands*>(of_thread[0])->pending);
      },
      "wgmma_wait", where);
}

void warpgroup_registers(Where where) {
  running_block()->perform_in_warpgroup(nullptr, [](Block&, const std::uint64_t*) {}, "setmaxnreg", where);
}

}  // namespace cuconv::emu
