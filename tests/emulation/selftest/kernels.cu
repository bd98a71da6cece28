// Kernels that are right with fault = 0 and have one bug of synchronisation or memory use with fault = 1.
//
// The bug is chosen at run time, so the compiler has to keep both; with the bug switched off the same code
// passes.
#include <algorithm>
#include <cstring>

#include "device/platform.cuh"
#include "launch/launch.cuh"
#include "selftest.h"

namespace cuconv::selftest {
namespace {

constexpr unsigned kFullMask = 0xffffffffu;

CUCONV_DEVICE int block_threads() { return static_cast<int>(blockDim.x); }
CUCONV_DEVICE int thread() { return static_cast<int>(threadIdx.x); }
CUCONV_DEVICE float* shared_floats() { return reinterpret_cast<float*>(dynamic_shared()); }

// y = x with each block's stretch reversed, through shared memory.
CUCONV_GLOBAL void reverse_block(const float* x, float* y, bool skip_barrier) {
  float* tile = shared_floats();
  const int base = static_cast<int>(blockIdx.x) * block_threads();
  tile[thread()] = x[base + thread()];
  if (!skip_barrier) __syncthreads();
  y[base + thread()] = tile[block_threads() - 1 - thread()];
}

// Two stretches through one tile: the second fill must wait until the first has been read.
CUCONV_GLOBAL void refill(const float* x, float* y, bool skip_barrier) {
  float* tile = shared_floats();
  for (int step = 0; step < 2; ++step) {
    const int base = step * block_threads();
    tile[thread()] = x[base + thread()];
    __syncthreads();
    y[base + thread()] = tile[block_threads() - 1 - thread()];
    if (!skip_barrier) __syncthreads();
  }
}

// y = x with neighbours swapped, within warps.
CUCONV_GLOBAL void swap_lanes(const float* x, float* y, bool skip_barrier) {
  float* tile = shared_floats();
  tile[thread()] = x[thread()];
  if (!skip_barrier) __syncwarp();
  y[thread()] = tile[thread() ^ 1];
}

// The same where the tile already holds something, so that the read is of an initialised place.
CUCONV_GLOBAL void exchange_lanes(const float* x, float* y, bool skip_barrier) {
  float* tile = shared_floats();
  tile[thread()] = 0;
  __syncthreads();
  tile[thread()] = x[thread()];
  if (!skip_barrier) __syncwarp();
  y[thread()] = tile[thread() ^ 1];
}

// All threads read one place, then the last one writes it: after a barrier, after nothing, or after a
// __syncwarp that leaves the other warps out. The last thread reads too, so its own read is the latest.
CUCONV_GLOBAL void write_after_read(const float* x, float* y, int ordered_by) {
  float* tile = shared_floats();
  tile[thread()] = x[thread()];
  __syncthreads();
  y[thread()] = tile[0];
  if (ordered_by == 0) __syncthreads();
  if (ordered_by == 2) __syncwarp();
  if (thread() == block_threads() - 1) tile[0] = 0;
}

// All threads of the grid read z[0], then one of the last block writes it, after a barrier of its block
// alone.
CUCONV_GLOBAL void write_what_blocks_read(float* y, float* z, bool write) {
  y[blockIdx.x * blockDim.x + threadIdx.x] = z[0];
  __syncthreads();
  if (write && blockIdx.x == gridDim.x - 1 && thread() == 0) z[0] = 0;
}

// z, reversed within the grid, into y: two launches of it read what other blocks wrote in the launch before.
CUCONV_GLOBAL void reverse_grid(float* y, const float* z) {
  const auto i = blockIdx.x * blockDim.x + threadIdx.x;
  y[i] = z[gridDim.x * blockDim.x - 1 - i];
}

// y = x; with the bug, pairs of threads write the same place.
CUCONV_GLOBAL void write_twice(const float* x, float* y, bool pairs) {
  y[pairs ? thread() / 2 : thread()] = x[thread()];
}

CUCONV_GLOBAL void write_shared_twice(const float* x, float* y, bool pairs) {
  float* tile = shared_floats();
  tile[pairs ? thread() / 2 : thread()] = x[thread()];
  __syncthreads();
  y[thread()] = tile[pairs ? thread() / 2 : thread()];
}

// y = x through shared memory, reading or writing `offset` floats beside the right place.
CUCONV_GLOBAL void read_shared(const float* x, float* y, std::int64_t offset) {
  float* tile = shared_floats();
  tile[thread()] = x[thread()];
  __syncthreads();
  y[thread()] = tile[thread() + offset];
}

CUCONV_GLOBAL void write_shared(const float* x, float* y, std::int64_t offset) {
  float* tile = shared_floats();
  tile[thread() + offset] = x[thread()];
  __syncthreads();
  y[thread()] = tile[thread()];
}

// y = x, reading and writing `offset` elements away.
CUCONV_GLOBAL void read_global(const float* x, float* y, std::int64_t stride, std::int64_t offset) {
  y[thread()] = x[thread() * stride + offset];
}

CUCONV_GLOBAL void write_global(const float* x, float* y, std::int64_t stride, std::int64_t offset) {
  y[thread() * stride + offset] = x[thread()];
}

// y = x through y, the workspace or shared memory, which `fill` says to write first.
CUCONV_GLOBAL void read_back(const float* x, float* y, float* through, bool fill) {
  if (!through) through = shared_floats();
  if (fill) through[thread()] = x[thread()];
  y[thread()] = through[thread()] + 0.0f;
}

// y = what shared memory held before the block wrote it.
CUCONV_GLOBAL void first_come(const float* x, float* y) {
  const auto i = blockIdx.x * blockDim.x + threadIdx.x;
  y[i] = shared_floats()[thread()];
  shared_floats()[thread()] = x[i];
}

CUCONV_GLOBAL void write_input(const float* x, float* y, bool write) {
  y[thread()] = x[thread()];
  if (write && thread() == 3) const_cast<float*>(x)[3] = 0;
}

// Each block copies its stretch; the stretches overlap by one element when `step` is one less than the block.
CUCONV_GLOBAL void copy_tiles(const float* x, float* y, int step) {
  const int i = static_cast<int>(blockIdx.x) * step + thread();
  y[i] = x[i];
}

// Block 0 writes, block 1 reads what it wrote.
CUCONV_GLOBAL void read_other_block(const float* x, float* y, bool read) {
  const int i = static_cast<int>(blockIdx.x) * block_threads() + thread();
  y[i] = x[i];
  if (read && blockIdx.x == 1) y[i] += y[thread()];
}

// Thread 0 writes an output element, all threads read it.
CUCONV_GLOBAL void read_neighbour(const float* x, float* y, bool skip_barrier) {
  const bool first = thread() == 0;
  if (first) y[0] = x[0];
  if (!skip_barrier) __syncthreads();
  if (!first) y[thread()] = x[thread()] + 0 * y[0];
}

CUCONV_GLOBAL void divergent_barrier(const float* x, float* y, bool diverge) {
  float* tile = shared_floats();
  tile[thread()] = x[thread()];
  if (diverge && thread() >= 32) {
    __syncwarp();
    tile[thread()] += __shfl_sync(kFullMask, 0.0f, 0);
    if (thread() < 40) __syncwarp();
  } else {
    __syncthreads();
  }
  y[thread()] = tile[thread()];
}

CUCONV_GLOBAL void two_barriers(const float* x, float* y, bool diverge) {
  if (diverge && thread() >= 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  y[thread()] = x[thread()];
}

CUCONV_GLOBAL void early_exit(const float* x, float* y, bool leave) {
  float* tile = shared_floats();
  tile[thread()] = y[thread()] = x[thread()];
  if (leave && thread() >= 40) return;
  __syncthreads();
  y[thread()] = tile[thread()];
}

CUCONV_GLOBAL void partial_warp(const float* x, float* y, bool partial) {
  float value = x[thread()];
  if (!partial || thread() < 16) value += 0 * __shfl_down_sync(kFullMask, value, 1);
  y[thread()] = value;
}

CUCONV_GLOBAL void masked_shuffle(const float* x, float* y, unsigned mask) {
  y[thread()] = x[thread()] + 0 * __shfl_xor_sync(mask, x[thread()], 1);
}

// Lanes of one warp at different operations.
CUCONV_GLOBAL void mixed_operations(const float* x, float* y, bool mixed) {
  float value = x[thread()];
  if (mixed && thread() % 2) {
    __syncwarp();
  } else {
    value += 0 * __shfl_xor_sync(kFullMask, value, 1);
  }
  y[thread()] = value;
}

// Counts the threads in the order they come by, before and after a __syncwarp. A race by nature.
CUCONV_GLOBAL void visit(float* y, float* counter) {
  const auto i = blockIdx.x * blockDim.x + threadIdx.x;
  y[2 * i] = counter[0]++;
  __syncwarp();
  y[2 * i + 1] = counter[0]++;
}

CUCONV_GLOBAL void half_an_element(const float* x, float* y, bool half) {
  if (half && thread() == 5) {
    *reinterpret_cast<std::uint16_t*>(y + 5) = 0;
  } else {
    y[thread()] = x[thread()];
  }
}

CUCONV_GLOBAL void skip_element(const float* x, float* y, int skipped) {
  if (thread() != skipped) y[thread()] = x[thread()];
}

struct alignas(16) Four {
  float value[4];
};
struct Twelve {
  float value[12];
};

// Moves structs: g++ may do that by one instruction, a range hook or a call of memcpy.
template <typename Chunk>
CUCONV_GLOBAL void copy_chunks(const Chunk* x, Chunk* y, std::int64_t offset) {
  y[thread()] = x[thread() + offset];
}

// The same through the C library.
CUCONV_GLOBAL void copy_bytes(const float* x, float* y, std::int64_t bytes) {
  if (thread() == 0) std::memcpy(y, x, bytes);
}

CUCONV_GLOBAL void add_ints(const float* x, float* y, int large) {
  y[thread()] = x[thread()] + 0 * static_cast<float>(large + thread());
}

CUCONV_GLOBAL void do_nothing() {}

// Every kind of synchronisation in one clean kernel: y[i] = sum of the block's x.
CUCONV_GLOBAL void sum_block(const float* x, float* y, int rounds) {
  float* partial = shared_floats();
  const int base = static_cast<int>(blockIdx.x) * block_threads();
  for (int round = 0; round < rounds; ++round) {
    float sum = x[base + thread()];
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_down_sync(kFullMask, sum, offset);
    if (thread() % 32 == 0) partial[thread() / 32] = sum;
    __syncthreads();
    float total = 0;
    for (int i = 0; i < block_threads() / 32; ++i) total += partial[i];
    y[base + thread()] = total;
    __syncthreads();
  }
}

CUCONV_GLOBAL void shuffle_kinds(const float* x, float* y, int kind, int argument, int width) {
  const float value = x[thread()];
  if (kind == 0) y[thread()] = __shfl_sync(kFullMask, value, argument, width);
  if (kind == 1) y[thread()] = __shfl_down_sync(kFullMask, value, argument, width);
  if (kind == 2) y[thread()] = __shfl_up_sync(kFullMask, value, argument, width);
  if (kind == 3) y[thread()] = __shfl_xor_sync(kFullMask, value, argument, width);
}

CUCONV_GLOBAL void where_am_i(std::int64_t* y) {
  const auto flat_thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const auto flat_block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  y[flat_block * std::int64_t{blockDim.x} * blockDim.y * blockDim.z + flat_thread] =
      threadIdx.x + 100 * threadIdx.y + 10000 * threadIdx.z + 1000000 * flat_block;
}

// A fused product and one that is not to be fused.
CUCONV_GLOBAL void multiply_add(const float* x, float* y) {
  y[0] = fmaf(x[0], x[0], x[1]);
  y[1] = x[0] * x[0] + x[1];
}

CUCONV_GLOBAL void shared_address(std::int64_t* y) {
  y[0] = reinterpret_cast<std::intptr_t>(dynamic_shared());
}

CUCONV_GLOBAL void many_barriers(int count) {
  for (int i = 0; i < count; ++i) __syncthreads();
}

}  // namespace

void launch_selftest(const std::string& name, const Launch& l) {
  if (launch_async_copy(name, l) || launch_tensor_core(name, l) || launch_hopper(name, l)) return;
  const LaunchShape shape = shape_of(l);
  const auto run = [&](auto kernel, auto... args) { launch(name.c_str(), kernel, shape, 0, args...); };
  const auto* x = reinterpret_cast<const float*>(l.x);
  auto* y = reinterpret_cast<float*>(l.y);
  const std::int64_t a = l.argument;
  if (name == "reverse_block") return run(reverse_block, x, y, a);
  if (name == "refill") return run(refill, x, y, a);
  if (name == "swap_lanes") return run(swap_lanes, x, y, a);
  if (name == "exchange_lanes") return run(exchange_lanes, x, y, a);
  if (name == "write_after_read") return run(write_after_read, x, y, a);
  if (name == "write_what_blocks_read")
    return run(write_what_blocks_read, y, reinterpret_cast<float*>(l.through), a);
  if (name == "reverse_grid") return run(reverse_grid, y, reinterpret_cast<const float*>(l.through));
  if (name == "write_twice") return run(write_twice, x, y, a);
  if (name == "write_shared_twice") return run(write_shared_twice, x, y, a);
  if (name == "read_shared") return run(read_shared, x, y, a);
  if (name == "write_shared") return run(write_shared, x, y, a);
  if (name == "read_global") return run(read_global, x, y, l.stride, a);
  if (name == "write_global") return run(write_global, x, y, l.stride, a);
  if (name == "read_back") return run(read_back, x, y, reinterpret_cast<float*>(l.through), a);
  if (name == "first_come") return run(first_come, x, y);
  if (name == "write_input") return run(write_input, x, y, a);
  if (name == "copy_tiles") return run(copy_tiles, x, y, a);
  if (name == "read_other_block") return run(read_other_block, x, y, a);
  if (name == "read_neighbour") return run(read_neighbour, x, y, a);
  if (name == "divergent_barrier") return run(divergent_barrier, x, y, a);
  if (name == "two_barriers") return run(two_barriers, x, y, a);
  if (name == "early_exit") return run(early_exit, x, y, a);
  if (name == "partial_warp") return run(partial_warp, x, y, a);
  if (name == "masked_shuffle") return run(masked_shuffle, x, y, a);
  if (name == "mixed_operations") return run(mixed_operations, x, y, a);
  if (name == "visit") return run(visit, y, reinterpret_cast<float*>(l.through));
  if (name == "half_an_element") return run(half_an_element, x, y, a);
  // Bugs of the launcher itself.
  if (name == "launcher_overflows") return run(add_ints, x, y, std::min(static_cast<int>(a) + 10, 5));
  if (name == "launcher_reads") return run(add_ints, x, y, a ? static_cast<int>(x[0]) : 0);
  if (name == "skip_element") return run(skip_element, x, y, a);
  if (name == "copy_four") {
    return run(copy_chunks<Four>, reinterpret_cast<const Four*>(x), reinterpret_cast<Four*>(y), a);
  }
  if (name == "copy_twelve") {
    return run(copy_chunks<Twelve>, reinterpret_cast<const Twelve*>(x), reinterpret_cast<Twelve*>(y), a);
  }
  if (name == "copy_bytes") return run(copy_bytes, x, y, a);
  if (name == "add_ints") return run(add_ints, x, y, a);
  if (name == "do_nothing") return run(do_nothing);
  if (name == "sum_block") return run(sum_block, x, y, a);
  if (name == "shuffle_kinds") return run(shuffle_kinds, x, y, a, l.stride, l.through);
  if (name == "where_am_i") return run(where_am_i, reinterpret_cast<std::int64_t*>(y));
  if (name == "multiply_add") return run(multiply_add, x, y);
  if (name == "shared_address") return run(shared_address, reinterpret_cast<std::int64_t*>(y));
  if (name == "many_barriers") return run(many_barriers, a);
  throw ArgumentError("no selftest kernel is called " + name);
}

}  // namespace cuconv::selftest
