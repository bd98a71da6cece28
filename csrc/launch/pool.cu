#include <algorithm>
#include <type_traits>

#include "kernels/pool/avg_pool.cuh"
#include "kernels/pool/max_pool.cuh"
#include "kernels/pool/max_pool_grad.cuh"
#include "launch/dispatch.h"
#include "launch/grid.h"
#include "launch/pool.h"
#include "launch/pool_dispatch.h"

namespace cuconv {
namespace {

std::int64_t inputs_of(const PoolProblem& p) { return p.n * p.c * p.in[0] * p.in[1] * p.in[2]; }
std::int64_t outputs_of(const PoolProblem& p) { return p.n * p.c * p.out[0] * p.out[1] * p.out[2]; }

LaunchShape one_thread_each(std::int64_t items) {
  return {{blocks_for(items, kPoolThreads)}, {kPoolThreads}, 0};
}

bool is_half(DType dtype) { return size_of(dtype) == 2; }

// The same problem with gx contiguous, as the workspace of sums is.
PoolProblem with_contiguous_input(PoolProblem p) {
  std::int64_t step = 1;
  for (int axis = kSpatial - 1; axis >= 0; --axis) {
    p.x_stride[2 + axis] = step;
    step *= p.in[axis];
  }
  p.x_stride[1] = step;
  p.x_stride[0] = step * p.c;
  return p;
}

}  // namespace

std::string PoolWindow::refuse(const PoolProblem&, const PoolArguments&) { return ""; }

void PoolWindow::run(const PoolProblem& p, const PoolArguments& args) {
  const LaunchShape shape = one_thread_each(outputs_of(p));
  if (args.operation == PoolOperation::kAverage) {
    dispatch_dtype(args.dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      launch("avg_pool", avg_pool_kernel<T>, shape, args.stream, p, static_cast<const T*>(args.x),
             static_cast<T*>(args.y));
    });
    return;
  }
  dispatch_real_dtype(args.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    dispatch_bool(args.indices != nullptr, [&](auto with_indices) {
      launch("max_pool", max_pool_kernel<T, with_indices.value>, shape, args.stream, p,
             static_cast<const T*>(args.x), static_cast<T*>(args.y), args.indices);
    });
  });
}

std::string PoolGradWindow::refuse(const PoolProblem&, const PoolGradArguments& args) {
  return args.operation == PoolOperation::kAverage ? "" : "it takes averages alone";
}

void PoolGradWindow::run(const PoolProblem& p, const PoolGradArguments& args, void*) {
  dispatch_dtype(args.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch("avg_pool_grad", avg_pool_grad_kernel<T>, one_thread_each(inputs_of(p)), args.stream, p,
           static_cast<const T*>(args.gy), static_cast<T*>(args.gx));
  });
}

std::string PoolGradScatter::refuse(const PoolProblem&, const PoolGradArguments& args) {
  return args.operation == PoolOperation::kMax ? "" : "it takes maxima alone";
}

std::int64_t PoolGradScatter::workspace(const PoolProblem& p, DType dtype) {
  return is_half(dtype) ? inputs_of(p) * static_cast<std::int64_t>(sizeof(float)) : 0;
}

void PoolGradScatter::run(const PoolProblem& p, const PoolGradArguments& args, void* workspace) {
  dispatch_real_dtype(args.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Acc = accumulator_t<T>;
    constexpr bool kRounds = !std::is_same_v<T, Acc>;
    const PoolProblem summed = kRounds ? with_contiguous_input(p) : p;
    auto* sums = static_cast<Acc*>(kRounds ? workspace : args.gx);
    launch("max_pool_grad", max_pool_grad_kernel<T>,
           {{std::min(kMaxBlocks, p.n * p.c)}, {kChunk}, kMaxPoolGradShared<T>}, args.stream, summed,
           static_cast<const T*>(args.gy), args.indices, sums);
    if constexpr (kRounds) {
      launch("round_sums", round_sums_kernel<T>, one_thread_each(inputs_of(p)), args.stream, p, sums,
             static_cast<T*>(args.gx));
    }
  });
}

}  // namespace cuconv
