#include "emu/block.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "emu/fault.h"

CUCONV_EMU_THREAD_LOCAL dim3 threadIdx = {};
CUCONV_EMU_THREAD_LOCAL dim3 blockIdx = {};
CUCONV_EMU_THREAD_LOCAL dim3 blockDim = {};
CUCONV_EMU_THREAD_LOCAL dim3 gridDim = {};

namespace cuconv::emu {

CUCONV_EMU_THREAD_LOCAL Tick now = 1;  // 1 is the moment of everything the host does
CUCONV_EMU_THREAD_LOCAL Block* block_on_device = nullptr;

namespace {

thread_local std::string fault;

bool wait_together(const Thread& a, const Thread& b) {
  if (a.state != b.state) return false;
  if (a.state == State::kReady || a.state == State::kExited) return true;
  return !std::strcmp(a.operation, b.operation) && a.where.line() == b.where.line() &&
         !std::strcmp(a.where.file_name(), b.where.file_name());
}

// "threads 0 to 31 wait at __syncthreads (relu.cuh:42)"
std::string describe_group(int begin, int end, const Thread& thread) {
  const bool one = end == begin + 1;
  const std::string who = one ? "thread " + std::to_string(begin)
                              : "threads " + std::to_string(begin) + " to " + std::to_string(end - 1);
  if (thread.state == State::kExited) return who + (one ? " has exited" : " have exited");
  if (thread.state == State::kReady) return who + (one ? " is" : " are") + " elsewhere";
  const char* slash = std::strrchr(thread.where.file_name(), '/');
  return who + (one ? " waits at " : " wait at ") + thread.operation + " (" +
         (slash ? slash + 1 : thread.where.file_name()) + ":" + std::to_string(thread.where.line()) + ")";
}

}  // namespace

std::string triple(dim3 v) {
  return "(" + std::to_string(v.x) + ", " + std::to_string(v.y) + ", " + std::to_string(v.z) + ")";
}

void fail(const std::string& what) {
  if (!running_fiber()) throw Fault(what);
  fault = what;
  for (;;) suspend();
}

void fail_soon(const std::string& what) {
  if (running_fiber()) block_on_device->fail_here(what);
  if (fault.empty()) fault = what;
}

void throw_fault() {
  if (!fault.empty()) throw Fault(std::exchange(fault, {}));
}

void wait_for_block(Where where) { block_on_device->wait_for_block(where); }

WarpValues wait_for_warp(unsigned mask, std::uint64_t value, const char* operation, Where where) {
  return block_on_device->wait_for_warp(mask, value, operation, where);
}

Block::Block(const Kernel& kernel, dim3 extent, const Schedule& schedule)
    : kernel_(kernel), order_(schedule.order), arrival_(schedule.arrival), random_(schedule.seed) {
  threads_.resize(extent.x * extent.y * extent.z);
  warps_.resize((threads_.size() + kLanes - 1) / kLanes);
  sequence_.resize(threads_.size());
  for (unsigned i = 0; i < threads_.size(); ++i) {
    threads_[i].index = {i % extent.x, i / extent.x % extent.y, i / extent.x / extent.y};
  }
  std::iota(sequence_.begin(), sequence_.end(), 0);
  if (order_ == Order::kReverse) std::reverse(sequence_.begin(), sequence_.end());
}

std::string Block::name() const {
  return std::string("kernel '") + kernel_.name + "', block " + triple(index_);
}
std::string Block::thread_name(int thread) const { return "thread " + triple(threads_[thread].index); }

void Block::fail_here(const std::string& what) const {
  fail(name() + ", " + thread_name(current_) + ": " + what);
}

void Block::start(dim3 index) {
  index_ = index;
  waiting_ = 0;
  exited_ = 0;
  first_tick_ = ordered_before_ = next_tick();
  for (Warp& warp : warps_) {
    warp.waiting = 0;
    warp.ordered_before = first_tick_;
  }
  for (int i = 0; i < size(); ++i) {
    threads_[i].state = State::kReady;
    start_fiber(threads_[i].fiber, i, [] { block_on_device->run_kernel(); });
  }
}

void Block::run_kernel() {
  kernel_.call(kernel_.arguments);
  copies().land_all(*this);
  threads_[current_].state = State::kExited;
  ++exited_;
  for (;;) suspend();
}

void Block::run(dim3 index) {
  blockIdx = index;
  start(index);
  while (exited_ < size()) {
    bool progress = false;
    if (order_ == Order::kOneWarpFar) {
      for (int begin = 0; begin < size(); begin += kLanes) {
        while (run_pass(begin, std::min(begin + kLanes, size()))) progress = true;
      }
    } else {
      if (order_ == Order::kShuffled) std::shuffle(sequence_.begin(), sequence_.end(), random_);
      progress = run_pass(0, size());
    }
    if (!progress) report_divergence();
  }
}

// Lets every thread of a stretch of the sequence run until it waits. False when none could.
bool Block::run_pass(int begin, int end) {
  bool progress = false;
  for (int i = begin; i < end; ++i) {
    Thread& thread = threads_[sequence_[i]];
    if (thread.state != State::kReady) continue;
    progress = true;
    current_ = sequence_[i];
    threadIdx = thread.index;
    resume(thread.fiber);
    if (!fault.empty()) forget_fibers();
    throw_fault();
  }
  return progress;
}

void Block::wait_for_block(Where where) {
  Thread& self = threads_[current_];
  self.state = State::kAtBarrier;
  self.operation = "__syncthreads";
  self.where = where;
  if (++waiting_ == size()) open_barrier();
  suspend();
}

void Block::open_barrier() {
  for (const Thread& thread : threads_) {
    if (!wait_together(thread, threads_[0])) report_divergence();
  }
  for (Thread& thread : threads_) thread.state = State::kReady;
  waiting_ = 0;
  ordered_before_ = next_tick();
  for (Warp& warp : warps_) warp.ordered_before = ordered_before_;
}

WarpValues Block::wait_for_warp(unsigned mask, std::uint64_t value, const char* operation, Where where) {
  const int warp = current_ / kLanes;
  const unsigned present = lanes_of(warp) == kLanes ? ~0u : (1u << lanes_of(warp)) - 1;
  if (mask & ~present) {
    fail_here("the mask of " + std::string(operation) + " names lane " +
              std::to_string(std::countr_zero(mask & ~present)) + ", but this warp has only " +
              std::to_string(lanes_of(warp)) + " threads");
  }
  if (mask != present) {
    fail_here("the mask of " + std::string(operation) + " leaves out lane " +
              std::to_string(std::countr_zero(present & ~mask)) +
              "; warp operations are for whole warps here");
  }
  return join_warp(value, nullptr, operation, where);
}

void Block::perform_in_warp(void* operands, WarpAction action, const char* operation, Where where) {
  const int lanes = lanes_of(current_ / kLanes);
  if (lanes < kLanes) {
    fail_here(std::string(operation) + " is done by " + std::to_string(kLanes) +
              " threads, but this warp has only " + std::to_string(lanes));
  }
  join_warp(reinterpret_cast<std::uintptr_t>(operands), action, operation, where);
}

WarpValues Block::join_warp(std::uint64_t value, WarpAction action, const char* operation, Where where) {
  const int warp = current_ / kLanes;
  const int lane = current_ % kLanes;
  Thread& self = threads_[current_];
  self.state = State::kAtWarpOperation;
  self.operation = operation;
  self.where = where;
  self.value = value;
  if (++warps_[warp].waiting == lanes_of(warp)) complete_warp_operation(warp, action);
  suspend();
  return {warps_[warp].values, lane};
}

void Block::complete_warp_operation(int warp, WarpAction action) {
  Thread* lanes = &threads_[warp * kLanes];
  for (int i = 0; i < lanes_of(warp); ++i) {
    if (!wait_together(lanes[i], lanes[0])) report_divergence();
  }
  // A copy, because a lane may reach the warp's next operation before another has read the values of this
  // one.
  for (int i = 0; i < lanes_of(warp); ++i) {
    warps_[warp].values[i] = lanes[i].value;
    lanes[i].state = State::kReady;
  }
  if (action) {  // before the warp is put in order: its accesses are not ordered by the operation itself
    const int caller = current_;
    action(*this, warps_[warp].values);
    current_ = caller;
  }
  warps_[warp].waiting = 0;
  warps_[warp].ordered_before = next_tick();
}

void Block::report_divergence() const {
  const auto waits_at_barrier = [](const Thread& t) { return t.state == State::kAtBarrier; };
  const bool barrier = std::any_of(threads_.begin(), threads_.end(), waits_at_barrier);
  std::string groups;
  for (int begin = 0, end; begin < size(); begin = end) {
    for (end = begin + 1; end < size() && wait_together(threads_[begin], threads_[end]); ++end) {
    }
    groups += (groups.empty() ? "" : "; ") + describe_group(begin, end, threads_[begin]);
  }
  fail(name() + ": " + (barrier ? "divergent barrier" : "warp operation that part of a warp never reaches") +
       ": " + groups);
}

}  // namespace cuconv::emu
