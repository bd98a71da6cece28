// Kernels with asynchronous copies: right with fault = 0, with one bug each otherwise.
#include "device/cp_async.cuh"
#include "device/platform.cuh"
#include "launch/launch.cuh"
#include "selftest.h"

namespace cuconv::selftest {
namespace {

CUCONV_DEVICE int block_threads() { return static_cast<int>(blockDim.x); }
CUCONV_DEVICE int thread() { return static_cast<int>(threadIdx.x); }
CUCONV_DEVICE float* shared_floats() { return reinterpret_cast<float*>(dynamic_shared()); }

// y = x with each thread's element from the thread before it (thread 0: its own), through shared memory.
CUCONV_GLOBAL void copy_tile(const float* x, float* y, bool skip_wait, bool skip_barrier) {
  float* tile = shared_floats();
  cp_async<4>(tile + thread(), x + thread(), true);
  cp_async_commit();
  __syncthreads();
  if (!skip_wait) cp_async_wait<0>();
  if (!skip_barrier) __syncthreads();
  y[thread()] = tile[thread() == 0 ? 0 : thread() - 1];
}

// y = x with every block-wide step reversed, through two stages that are filled in turn.
CUCONV_GLOBAL void pipeline(const float* x, float* y, int steps, int fault) {
  float* tile = shared_floats();
  const auto fill = [&](int step) {
    const int at = thread() + step * block_threads();
    if (step < steps) cp_async<4>(tile + thread() + step % 2 * block_threads(), x + at, true);
    cp_async_commit();
  };
  fill(0);
  for (int step = 0; step < steps; ++step) {
    fill(step + 1);
    if (fault == 1) {
      cp_async_wait<2>();
    } else {
      cp_async_wait<1>();
    }
    __syncthreads();
    y[thread() + step * block_threads()] = tile[(step % 2 + 1) * block_threads() - 1 - thread()];
    if (fault != 2) __syncthreads();
  }
}

// All threads read one place, then the last one has it refilled.
CUCONV_GLOBAL void copy_after_read(const float* x, float* y, bool skip_barrier) {
  float* tile = shared_floats();
  tile[thread()] = x[thread()];
  __syncthreads();
  y[thread()] = tile[0];
  if (!skip_barrier) __syncthreads();
  if (thread() == block_threads() - 1) cp_async<4>(tile, x, true);
}

// A thread touches the bytes of its own copy before it has waited for it.
CUCONV_GLOBAL void touch_in_flight(const float* x, float* y, int touch) {
  float* tile = shared_floats();
  cp_async<4>(tile + thread(), x + thread(), true);
  cp_async_commit();
  if (touch == 1) y[thread()] = tile[thread()];
  if (touch == 2) tile[thread()] = 0;
  if (touch == 3) cp_async<4>(tile + thread(), x + thread(), true);
  if (touch == 4) cp_async<4>(tile + thread(), x + thread(), false);
  cp_async_wait<0>();
  y[thread()] = tile[thread()];
}

// wait_group waits for groups: a copy that is in none stays in flight.
CUCONV_GLOBAL void copy_without_group(const float* x, float* y, bool skip_commit) {
  float* tile = shared_floats();
  cp_async<4>(tile + thread(), x + thread(), true);
  if (!skip_commit) cp_async_commit();
  cp_async_wait<0>();
  y[thread()] = tile[thread()];
}

// y = x in copies of kBytes, off by some bytes on either side.
template <int kBytes>
CUCONV_GLOBAL void copy_chunks_async(const float* x, float* y, int to_offset, int from_offset) {
  constexpr int kFloats = kBytes / 4;
  float* tile = shared_floats();
  float* to = tile + kFloats * thread();
  const auto* bytes = reinterpret_cast<const std::byte*>(x + kFloats * thread()) + from_offset;
  cp_async<kBytes>(reinterpret_cast<std::byte*>(to) + to_offset, bytes, true);
  cp_async_commit();
  cp_async_wait<0>();
  for (int i = 0; i < kFloats; ++i) y[kFloats * thread() + i] = to[i];
}

// y = x moved by one place, and a zero where x ends.
CUCONV_GLOBAL void copy_edge(const float* x, float* y, bool ignore_edge) {
  float* tile = shared_floats();
  const bool inside = thread() + 1 < block_threads();
  cp_async<4>(tile + thread(), x + thread() + 1, inside || ignore_edge);
  cp_async_commit();
  cp_async_wait<0>();
  y[thread()] = tile[thread()];
}

CUCONV_GLOBAL void copy_past_shared(const float* x, float* y, int offset) {
  float* tile = shared_floats();
  cp_async<4>(tile + thread() + offset, x + thread(), true);
  cp_async_commit();
  cp_async_wait<0>();
  y[thread()] = tile[thread() + offset];
}

// The source is global memory that the thread before has written.
CUCONV_GLOBAL void copy_fresh(const float* x, float* y, float* source, int fault) {
  float* tile = shared_floats();
  if (fault != 1) source[thread()] = x[thread()];
  if (fault != 2) __syncthreads();
  cp_async<4>(tile + thread(), source + (thread() == 0 ? 0 : thread() - 1), true);
  cp_async_commit();
  cp_async_wait<0>();
  y[thread()] = tile[thread()];
}

CUCONV_GLOBAL void copy_between_spaces(const float* x, float* y, int fault) {
  float* tile = shared_floats();
  y[thread()] = tile[thread()] = x[thread()];
  if (fault == 1) cp_async<4>(y + thread(), x + thread(), true);
  if (fault == 2) cp_async<4>(tile + thread(), tile + thread(), true);
}

}  // namespace

bool launch_async_copy(const std::string& name, const Launch& l) {
  const auto run = [&](auto kernel, auto... args) {
    launch(name.c_str(), kernel, shape_of(l), 0, args...);
    return true;
  };
  const auto* x = reinterpret_cast<const float*>(l.x);
  auto* y = reinterpret_cast<float*>(l.y);
  const std::int64_t a = l.argument;
  if (name == "copy_tile") return run(copy_tile, x, y, a == 1, a == 2);
  if (name == "pipeline") return run(pipeline, x, y, l.stride, a);
  if (name == "copy_after_read") return run(copy_after_read, x, y, a);
  if (name == "touch_in_flight") return run(touch_in_flight, x, y, a);
  if (name == "copy_without_group") return run(copy_without_group, x, y, a);
  if (name == "copy_chunks_4") return run(copy_chunks_async<4>, x, y, a, l.through);
  if (name == "copy_chunks_8") return run(copy_chunks_async<8>, x, y, a, l.through);
  if (name == "copy_chunks_16") return run(copy_chunks_async<16>, x, y, a, l.through);
  if (name == "copy_edge") return run(copy_edge, x, y, a);
  if (name == "copy_past_shared") return run(copy_past_shared, x, y, a);
  if (name == "copy_fresh") return run(copy_fresh, x, y, reinterpret_cast<float*>(l.through), a);
  if (name == "copy_between_spaces") return run(copy_between_spaces, x, y, a);
  return false;
}

}  // namespace cuconv::selftest
