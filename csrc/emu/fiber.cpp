#include "emu/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#include "emu/device_api.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__)
#error "The emulator's context switch is written for x86-64"
#endif

namespace cuconv::emu {
namespace {

constexpr std::size_t kGuardBytes = 4096;
constexpr std::size_t kStackBytes = 128 * 1024;

// All stacks in one reservation, each above a page that faults when a stack overflows.
class Stacks {
 public:
  Stacks() {
    void* memory = mmap(nullptr, kMostFibers * kPitch, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    base_ = static_cast<std::byte*>(memory);
  }
  ~Stacks() { munmap(base_, kMostFibers * kPitch); }
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;

  std::byte* stack(int index) {
    for (; guarded_ <= index; ++guarded_) mprotect(base_ + guarded_ * kPitch, kGuardBytes, PROT_NONE);
    return base_ + index * kPitch + kGuardBytes;
  }

 private:
  static constexpr std::size_t kPitch = kGuardBytes + kStackBytes;
  std::byte* base_;
  int guarded_ = 0;
};

thread_local Stacks stacks;
CUCONV_EMU_THREAD_LOCAL Fiber host = {};
CUCONV_EMU_THREAD_LOCAL Fiber* running = nullptr;

// Saves where the caller is in *from and goes on where `to` was saved.
extern "C" __attribute__((visibility("hidden"))) void cuconv_emu_switch(void** from, void* to);
asm(R"(
.text
.globl cuconv_emu_switch
.hidden cuconv_emu_switch
.type cuconv_emu_switch, @function
cuconv_emu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cuconv_emu_switch, .-cuconv_emu_switch
)");

constexpr int kSavedRegisters = 6;

#if defined(__SANITIZE_ADDRESS__)

thread_local const void* host_stack;
thread_local std::size_t host_stack_bytes;

void announce_switch(Fiber& from, const Fiber& to) {
  const bool to_host = &to == &host;
  __sanitizer_start_switch_fiber(&from.asan_stack, to_host ? host_stack : to.stack,
                                 to_host ? host_stack_bytes : kStackBytes);
}

void announce_arrival(const Fiber& here) {
  const bool from_host = &here != &host;
  __sanitizer_finish_switch_fiber(here.asan_stack, from_host ? &host_stack : nullptr,
                                  from_host ? &host_stack_bytes : nullptr);
}

#else

void announce_switch(Fiber&, const Fiber&) {}
void announce_arrival(const Fiber&) {}

#endif

using Entry = void (*)();
CUCONV_EMU_THREAD_LOCAL Entry first_function = nullptr;

void first_frame() {
  announce_arrival(*running);
  first_function();
}

}  // namespace

void start_fiber(Fiber& fiber, int index, void (*entry)()) {
  // Stacks a multiple of 4 KiB apart would all compete for the same few lines of the cache: spread their
  // tops.
  constexpr int kColours = 32;
  constexpr std::size_t kColourBytes = 128;
  first_function = entry;
  fiber.stack = stacks.stack(index);
  fiber.asan_stack = nullptr;
  auto* top = reinterpret_cast<void**>(fiber.stack + kStackBytes - index % kColours * kColourBytes);
  *--top = nullptr;  // where a debugger's backtrace ends; it also aligns the first frame as a call would
  *--top = reinterpret_cast<void*>(&first_frame);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
  fiber.stack_pointer = top;
}

void resume(Fiber& fiber) {
  running = &fiber;
  announce_switch(host, fiber);
  cuconv_emu_switch(&host.stack_pointer, fiber.stack_pointer);
  announce_arrival(host);
  running = nullptr;
}

void suspend() {
  Fiber& self = *running;
  announce_switch(self, host);
  cuconv_emu_switch(&self.stack_pointer, host.stack_pointer);
  announce_arrival(self);
}

std::span<const std::byte> live_stack(const Fiber& fiber) {
  const void* lowest = &fiber == running ? __builtin_frame_address(0) : fiber.stack_pointer;
  return {static_cast<const std::byte*>(lowest), fiber.stack + kStackBytes};
}

Fiber* running_fiber() { return running; }

void forget_fibers() {
#if defined(__SANITIZE_ADDRESS__)
  for (int i = 0; i < kMostFibers; ++i) __asan_unpoison_memory_region(stacks.stack(i), kStackBytes);
#endif
}

}  // namespace cuconv::emu
