// One thread block at a time: its threads as fibers, what they wait for, and the order they run in.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "emu/async_copy.h"
#include "emu/device_api.h"
#include "emu/fiber.h"

namespace cuconv::emu {

// The order in which the threads that can run do run. What one order hides by luck, another shows.
// kNone runs no thread: what is left is what a launch costs the host.
enum class Order { kForward, kReverse, kShuffled, kOneWarpFar, kNone };

// How the threads of a launch take turns, and when their asynchronous copies land.
struct Schedule {
  Order order = Order::kForward;
  std::uint64_t seed = 0;
  Arrival arrival = Arrival::kLate;
};

// A moment of emulated time. It moves on whenever threads are put in order: at a launch, at the start of a
// block, at a barrier, at a warp operation.
using Tick = std::uint64_t;
extern CUCONV_EMU_THREAD_LOCAL Tick now;
inline Tick next_tick() { return ++now; }
inline Tick current_tick() { return now; }

class Block;

enum class State : std::uint8_t { kReady, kAtBarrier, kAtWarpOperation, kExited };

struct Thread {
  Fiber fiber;
  dim3 index;
  State state;
  const char* operation;  // what it waits at, and where that stands in the source
  Where where;
  std::uint64_t value;  // brought to a warp operation
  CopyQueue copies;
};

// What a warp does as one: called when its last lane has come, with what each of the 32 brought.
using WarpAction = void (*)(Block& block, const std::uint64_t* of_lane);

struct Warp {
  int waiting;
  Tick ordered_before;  // whatever a lane did before this tick, its whole warp may rely on
  std::uint64_t values[kLanes];
};

// The kernel as every thread calls it.
struct Kernel {
  const char* name;
  void (*call)(const void*);
  const void* arguments;
};

class Block {
 public:
  Block(const Kernel& kernel, dim3 extent, const Schedule& schedule);

  // Runs every thread to its end. Throws Fault.
  void run(dim3 index);

  // What the running thread calls.
  void wait_for_block(Where where);
  WarpValues wait_for_warp(unsigned mask, std::uint64_t value, const char* operation, Where where);
  void perform_in_warp(void* operands, WarpAction action, const char* operation, Where where);
  CopyQueue& copies() { return threads_[current_].copies; }
  [[noreturn]] void run_kernel();

  // For a warp's action: what follows counts as done by this lane of the warp, until the action ends.
  void act_as(int lane) { current_ = current_ / kLanes * kLanes + lane; }

  // A fault of the running thread.
  [[noreturn]] void fail_here(const std::string& what) const;

  int current() const { return current_; }
  Arrival arrival() const { return arrival_; }
  Tick first_tick() const { return first_tick_; }
  Tick ordered_before() const { return ordered_before_; }
  Tick warp_ordered_before() const { return warps_[current_ / kLanes].ordered_before; }

  std::string name() const;                   // "kernel 'relu', block (0, 0, 0)"
  std::string thread_name(int thread) const;  // "thread (3, 0, 0)"

 private:
  int size() const { return static_cast<int>(threads_.size()); }
  int lanes_of(int warp) const { return std::min(kLanes, size() - warp * kLanes); }
  void start(dim3 index);
  bool run_pass(int begin, int end);
  void open_barrier();
  WarpValues join_warp(std::uint64_t value, WarpAction action, const char* operation, Where where);
  void complete_warp_operation(int warp, WarpAction action);
  [[noreturn]] void report_divergence() const;

  Kernel kernel_;
  Order order_;
  Arrival arrival_;
  dim3 index_;
  std::mt19937_64 random_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<int> sequence_;  // of threads, as they take turns
  int current_ = 0;
  int waiting_ = 0;  // at the barrier
  int exited_ = 0;
  Tick first_tick_ = 0;
  Tick ordered_before_ = 0;  // whatever the block did before this tick, all its threads may rely on
};

// The block whose threads are running; nullptr outside launches.
extern CUCONV_EMU_THREAD_LOCAL Block* block_on_device;
inline Block* running_block() { return block_on_device; }

// Makes `block` the running one for as long as this lives.
class RunningBlock {
 public:
  explicit RunningBlock(Block& block) { block_on_device = &block; }
  ~RunningBlock() { block_on_device = nullptr; }
  RunningBlock(const RunningBlock&) = delete;
  RunningBlock& operator=(const RunningBlock&) = delete;
};

// Ends the launch with a Fault. Kernel code cannot be unwound, so from a thread of a kernel this gives the
// processor to the host, which throws.
[[noreturn]] void fail(const std::string& what);

// The same for places that may not throw. On the host it is kept until the next throw_fault().
void fail_soon(const std::string& what);
void throw_fault();

// "(1, 2, 3)"
std::string triple(dim3 v);

}  // namespace cuconv::emu
