// Fibers: stacks of their own for the threads of a block, switched by hand.
//
// A switch saves the six registers that the x86-64 System V convention makes the callee keep, and the stack
// pointer; the floating-point control words are left alone because nothing changes them. That costs a tenth
// of swapcontext(), which enters the kernel to save the signal mask.
#pragma once

#include <cstddef>
#include <span>

namespace cuconv::emu {

// One stack, and where its fiber was when it last gave up the processor. A fiber may be abandoned at any time
// by starting another on its stack: kernels own nothing that a destructor would have to free.
struct Fiber {
  void* stack_pointer;
  std::byte* stack;  // lowest address
  void* asan_stack;  // AddressSanitizer's own record of a suspended stack
};

constexpr int kMostFibers = 1024;

// Makes fiber `index` begin in entry() when it is first resumed. `entry` ends by calling suspend() for good.
void start_fiber(Fiber& fiber, int index, void (*entry)());

// From the host: runs the fiber until it calls suspend(). From a fiber: back to the host.
void resume(Fiber& fiber);
void suspend();

// What a fiber has on its stack, all variables of its kernel among it.
std::span<const std::byte> live_stack(const Fiber& fiber);

// The fiber on the processor, nullptr on the host.
Fiber* running_fiber();

// Tells AddressSanitizer to forget the frames of fibers that will not go on.
void forget_fibers();

}  // namespace cuconv::emu
