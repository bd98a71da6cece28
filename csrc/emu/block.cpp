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
  if (a.state == State::kAtMbarrier && (a.mbarrier != b.mbarrier || a.parity != b.parity)) return false;
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
         (slash ? slash + 1 : thread.where.file_name()) + ":" + std::to_string(thread.where.line()) +
         (thread.state == State::kAtMbarrier ? ", " + describe_wait(*thread.mbarrier, thread.parity) : "") +
         ")";
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
  warpgroups_.resize((threads_.size() + kWarpgroup - 1) / kWarpgroup);
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

std::string Block::actor_name(int actor) const {
  if (is_thread(actor)) return thread_name(actor);
  if (is_tensor_core(actor)) {
    const int first = (actor - kFirstTensorCore) * kWarpgroup;
    return "a wgmma of threads " + std::to_string(first) + " to " + std::to_string(first + kWarpgroup - 1);
  }
  return "a TMA copy that reports to " + mbarriers_.name(actor - kFirstCopier);
}

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
  for (Warpgroup& warpgroup : warpgroups_) warpgroup = {};
  mbarriers_.clear();
  tensor_copies_.clear();
  for (int i = 0; i < size(); ++i) {
    threads_[i].state = State::kReady;
    threads_[i].knowledge.forget();
    start_fiber(threads_[i].fiber, i, [] { block_on_device->run_kernel(); });
  }
}

void Block::run_kernel() {
  kernel_.call(kernel_.arguments);
  copies().land_all(*this);
  if (!warpgroup().idle()) fail_here("exits before wgmma_wait has waited for its warpgroup's last product");
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
    if (!progress && !tensor_copies_.land_one(*this, order_, random_)) report_divergence();
  }
  if (!tensor_copies_.none()) fail(name() + ": the block ends while a TMA copy into it is in flight");
}

// Lets every thread of a stretch of the sequence run until it waits. False when none could.
bool Block::run_pass(int begin, int end) {
  bool progress = false;
  for (int i = begin; i < end; ++i) {
    Thread& thread = threads_[sequence_[i]];
    if (thread.state == State::kAtMbarrier && thread.mbarrier->completed(thread.parity)) {
      thread.state = State::kReady;
    }
    if (thread.state != State::kReady) continue;
    progress = true;
    resume_thread(sequence_[i]);
  }
  return progress;
}

void Block::resume_thread(int thread) {
  current_ = actor_ = thread;
  threadIdx = threads_[thread].index;
  resume(threads_[thread].fiber);
  if (!fault.empty()) forget_fibers();
  throw_fault();
}

Knowledge Block::release() {
  Knowledge all = knowledge();
  const int begin = current_ / kLanes * kLanes;
  for (int i = begin; i < begin + lanes_of(current_ / kLanes); ++i) all.learn(i, warp_ordered_before());
  all.learn(current_, next_tick());
  return all;
}

// Whatever one of these threads knows, all of them know.
void Block::share_knowledge(int begin, int end) {
  Knowledge all = threads_[begin].knowledge;
  for (int i = begin + 1; i < end; ++i) all.merge(threads_[i].knowledge);
  for (int i = begin; i < end; ++i) threads_[i].knowledge = all;
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
  share_knowledge(0, size());
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
  // Before the warp is put in order: its accesses are not ordered by the operation itself.
  if (action) perform(action, warps_[warp].values);
  warps_[warp].waiting = 0;
  share_knowledge(warp * kLanes, warp * kLanes + lanes_of(warp));
  warps_[warp].ordered_before = next_tick();
}

void Block::perform(WarpAction action, const std::uint64_t* values) {
  const int caller = current_;
  action(*this, values);
  current_ = actor_ = caller;
}

// Puts nothing in order: a warpgroup's operations are those of its four warps.
void Block::perform_in_warpgroup(void* operands, WarpAction action, const char* operation, Where where) {
  const int first = current_ / kWarpgroup * kWarpgroup;
  if (size() - first < kWarpgroup) {
    fail_here(std::string(operation) + " is done by " + std::to_string(kWarpgroup) +
              " threads, but this warpgroup has only " + std::to_string(size() - first));
  }
  Thread& self = threads_[current_];
  self.state = State::kAtWarpgroupOperation;
  self.operation = operation;
  self.where = where;
  self.value = reinterpret_cast<std::uintptr_t>(operands);
  if (++warpgroup().waiting == kWarpgroup) {
    std::uint64_t values[kWarpgroup];
    for (int i = 0; i < kWarpgroup; ++i) {
      if (!wait_together(threads_[first + i], threads_[first])) report_divergence();
      values[i] = threads_[first + i].value;
    }
    for (int i = 0; i < kWarpgroup; ++i) threads_[first + i].state = State::kReady;
    warpgroup().waiting = 0;
    perform(action, values);
  }
  suspend();
}

void Block::wait_at_mbarrier(const Mbarrier& mbarrier, unsigned parity, Where where) {
  Thread& self = threads_[current_];
  if (!mbarrier.completed(parity)) {
    self.state = State::kAtMbarrier;
    self.operation = "mbarrier_wait";
    self.where = where;
    self.mbarrier = &mbarrier;
    self.parity = parity;
    suspend();
  }
  self.knowledge.merge(mbarrier.released);
}

void Block::report_divergence() const {
  const auto some_wait = [this](State state) {
    return std::any_of(threads_.begin(), threads_.end(), [=](const Thread& t) { return t.state == state; });
  };
  const char* what = some_wait(State::kAtBarrier)    ? "divergent barrier"
                     : some_wait(State::kAtMbarrier) ? "deadlock at an mbarrier"
                     : some_wait(State::kAtWarpgroupOperation)
                         ? "operation that part of a warpgroup never reaches"
                         : "warp operation that part of a warp never reaches";
  std::string groups;
  for (int begin = 0, end; begin < size(); begin = end) {
    for (end = begin + 1; end < size() && wait_together(threads_[begin], threads_[end]); ++end) {
    }
    groups += (groups.empty() ? "" : "; ") + describe_group(begin, end, threads_[begin]);
  }
  fail(name() + ": " + what + ": " + groups);
}

}  // namespace cuconv::emu
