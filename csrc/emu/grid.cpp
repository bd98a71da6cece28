// Runs a grid: its blocks one after another, in the chosen order, with shared memory that starts as NaN.
#include "emu/grid.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <string>
#include <vector>

#include "emu/flavour.h"
#include "emu/launch.h"
#include "emu/shared.h"
#include "emu/traffic.h"
#include "launch/check.h"

namespace cuconv::emu {

CUCONV_EMU_THREAD_LOCAL Tick launched = 0;

namespace {

constinit thread_local Schedule schedule = {};

struct Start {
  Tick tick;
  dim3 block;
};
thread_local std::vector<Start> starts;  // of the blocks of the running launch

void check_shared(const char* name, const LaunchShape& shape) {
  if (shape.shared_bytes <= kMaxSharedBytes) return;
  throw LaunchError("cudaErrorInvalidValue: more than " + std::to_string(kMaxSharedBytes) +
                    " bytes of shared memory in " + name + ", " + describe(shape));
}

dim3 to_dim3(const Extent& e) {
  return {static_cast<unsigned>(e.x), static_cast<unsigned>(e.y), static_cast<unsigned>(e.z)};
}

// Visits 0 ... count-1 in the chosen order; shuffled, by a stride without a common divisor, which needs no
// table.
class BlockSequence {
 public:
  explicit BlockSequence(std::uint64_t count) : count_(count) {
    if (schedule.order == Order::kReverse) {
      first_ = stride_ = count - 1;
    } else if (schedule.order == Order::kShuffled) {
      std::mt19937_64 random(schedule.seed);
      first_ = random() % count;
      constexpr std::uint64_t kMostStride = 1 << 20;  // keeps the product below from overflowing
      do {
        stride_ = 1 + random() % std::min(count, kMostStride);
      } while (std::gcd(stride_, count) != 1);
    }
  }
  std::uint64_t operator[](std::uint64_t i) const { return (first_ + i % count_ * stride_) % count_; }

 private:
  std::uint64_t count_;
  std::uint64_t first_ = 0;
  std::uint64_t stride_ = 1;
};

}  // namespace

void set_schedule(const Schedule& new_schedule) { schedule = new_schedule; }

dim3 block_at(Tick tick) {
  const auto later = [](Tick t, const Start& start) { return t < start.tick; };
  return std::prev(std::upper_bound(starts.begin(), starts.end(), tick, later))->block;
}

void run_grid(const char* name, const LaunchShape& shape, void (*call)(const void*), const void* arguments) {
  throw_fault();
  check_limits(name, shape);
  check_shared(name, shape);
  if (schedule.order == Order::kNone) return;
  note_launch(name);
  launched = next_tick();
  starts.clear();
  gridDim = to_dim3(shape.grid);
  blockDim = to_dim3(shape.block);
  const SharedMemory shared(shape.shared_bytes);
  Block block({name, call, arguments}, blockDim, schedule);
  const RunningBlock running(block);
  const std::uint64_t count = std::uint64_t{gridDim.x} * gridDim.y * gridDim.z;
  const BlockSequence sequence(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t flat = sequence[i];
    const dim3 index = {static_cast<unsigned>(flat % gridDim.x),
                        static_cast<unsigned>(flat / gridDim.x % gridDim.y),
                        static_cast<unsigned>(flat / gridDim.x / gridDim.y)};
    if (kChecked) starts.push_back({current_tick() + 1, index});
    shared.fill();
    block.run(index);
  }
}

}  // namespace cuconv::emu
