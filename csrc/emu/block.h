// One thread block at a time: its threads as fibers, what they wait for, and the order they run in.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "emu/async_copy.h"
#include "emu/device_api.h"
#include "emu/fiber.h"
#include "emu/knowledge.h"
#include "emu/mbarrier.h"
#include "emu/tensor_copy.h"
#include "emu/tick.h"
#include "emu/warpgroup.h"

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

class Block;

enum class State : std::uint8_t {
  kReady,
  kAtBarrier,
  kAtWarpOperation,
  kAtWarpgroupOperation,
  kAtMbarrier,
  kExited
};

struct Thread {
  Fiber fiber;
  dim3 index;
  State state;
  const char* operation;  // what it waits at, and where that stands in the source
  Where where;
  std::uint64_t value;       // brought to a warp or warpgroup operation
  const Mbarrier* mbarrier;  // that it waits at, for the phase of this parity to complete
  unsigned parity;
  CopyQueue copies;
  Knowledge knowledge;  // beyond what barriers and warp operations have put in order
};

// What a warp (a warpgroup) does as one: called when its last thread has come, with what each of the 32
// (128) brought.
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
  void perform_in_warpgroup(void* operands, WarpAction action, const char* operation, Where where);
  void wait_at_mbarrier(const Mbarrier& mbarrier, unsigned parity, Where where);
  CopyQueue& copies() { return threads_[current_].copies; }
  Mbarriers& mbarriers() { return mbarriers_; }
  TensorCopies& tensor_copies() { return tensor_copies_; }
  // The stack of a thread of the warpgroup.
  std::span<const std::byte> stack_of(int i) const {
    return live_stack(threads_[current_ / kWarpgroup * kWarpgroup + i].fiber);
  }
  Warpgroup& warpgroup() { return warpgroups_[current_ / kWarpgroup]; }
  [[noreturn]] void run_kernel();

  // For an action: what follows counts as done by this lane of the warp, by this thread of the warpgroup, or
  // by hardware beside the threads, until the action ends.
  void act_as(int lane) { current_ = actor_ = current_ / kLanes * kLanes + lane; }
  void act_as_thread(int i) { current_ = actor_ = current_ / kWarpgroup * kWarpgroup + i; }
  void act_as_hardware(int actor) { actor_ = actor; }

  // A fault of the running thread.
  [[noreturn]] void fail_here(const std::string& what) const;

  int current() const { return current_; }
  int actor() const { return actor_; }  // the current thread, or hardware that acts for it
  int tensor_core() const { return kFirstTensorCore + current_ / kWarpgroup; }
  Knowledge& knowledge() { return threads_[current_].knowledge; }
  bool knows(int actor, Tick tick) const { return threads_[current_].knowledge.has(actor, tick); }
  // All that the current thread may rely on and has done itself, for others to learn.
  Knowledge release();
  Arrival arrival() const { return arrival_; }
  Tick first_tick() const { return first_tick_; }
  Tick ordered_before() const { return ordered_before_; }
  Tick warp_ordered_before() const { return warps_[current_ / kLanes].ordered_before; }

  std::string name() const;                   // "kernel 'relu', block (0, 0, 0)"
  std::string thread_name(int thread) const;  // "thread (3, 0, 0)"
  std::string actor_name(int actor) const;    // the same, or "the wgmma of threads 0 to 127"

 private:
  int size() const { return static_cast<int>(threads_.size()); }
  int lanes_of(int warp) const { return std::min(kLanes, size() - warp * kLanes); }
  void start(dim3 index);
  bool run_pass(int begin, int end);
  void resume_thread(int thread);
  void open_barrier();
  WarpValues join_warp(std::uint64_t value, WarpAction action, const char* operation, Where where);
  void complete_warp_operation(int warp, WarpAction action);
  void perform(WarpAction action, const std::uint64_t* values);
  void share_knowledge(int begin, int end);
  [[noreturn]] void report_divergence() const;

  Kernel kernel_;
  Order order_;
  Arrival arrival_;
  dim3 index_;
  std::mt19937_64 random_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<Warpgroup> warpgroups_;
  Mbarriers mbarriers_;
  TensorCopies tensor_copies_;
  std::vector<int> sequence_;  // of threads, as they take turns
  int current_ = 0;
  int actor_ = 0;
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
