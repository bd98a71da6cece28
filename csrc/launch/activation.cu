#include <algorithm>
#include <iterator>

#include "kernels/activation/elementwise.cuh"
#include "kernels/activation/softmax.cuh"
#include "kernels/activation/vector.cuh"
#include "kernels/reduce/bias_grad.cuh"
#include "launch/activation.h"
#include "launch/dispatch.h"
#include "launch/grid.h"

namespace cuconv {
namespace {

LaunchShape one_thread_each(std::int64_t items) {
  return {{blocks_for(items, kElementwiseThreads)}, {kElementwiseThreads}, 0};
}

template <typename Function>
void elementwise(const char* name, const ElementwiseProblem& p, DType dtype, const void* x, void* y,
                 Stream stream) {
  if (p.count == 0) return;
  dispatch_real_dtype(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch(name, elementwise_kernel<T, Function>, one_thread_each(p.count), stream, p,
           static_cast<const T*>(x), static_cast<T*>(y));
  });
}

// Whether operands are in one piece each, and as far past a multiple of 16 bytes as each other.
template <typename... Pointers>
bool in_step(const ElementwiseProblem& p, const Pointers*... operands) {
  if (p.rank > 1) return false;
  for (int i = 0; i < static_cast<int>(sizeof...(operands)); ++i) {
    if (p.count > 1 && p.stride[i][0] != 1) return false;
  }
  const std::uintptr_t past[] = {reinterpret_cast<std::uintptr_t>(operands) % 16 ...};
  return std::all_of(std::begin(past), std::end(past), [&](std::uintptr_t each) { return each == past[0]; });
}

LaunchShape vectors_for(std::int64_t count, std::size_t element_bytes) {
  const std::int64_t vectors = count * static_cast<std::int64_t>(element_bytes) / 16 + 1;
  return {{blocks_for(vectors, kElementwiseThreads * kInFlight)}, {kElementwiseThreads}, 0};
}

}  // namespace

void relu(const ElementwiseProblem& p, DType dtype, const void* x, void* y, Stream stream) {
  if (p.count == 0 || !in_step(p, x, y)) return elementwise<Relu>("relu", p, dtype, x, y, stream);
  dispatch_real_dtype(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch("relu_vector", elementwise_vector_kernel<T, ReluFunction, T>, vectors_for(p.count, sizeof(T)),
           stream, p.count, static_cast<T*>(y), static_cast<const T*>(x));
  });
}

void sigmoid(const ElementwiseProblem& p, DType dtype, const void* x, void* y, Stream stream) {
  elementwise<Sigmoid>("sigmoid", p, dtype, x, y, stream);
}

void relu_grad(const ElementwiseProblem& p, DType dtype, const void* gy, const void* y, void* gx,
               Stream stream) {
  if (p.count == 0) return;
  dispatch_real_dtype(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (in_step(p, gy, y, gx)) {
      launch("relu_grad_vector", elementwise_vector_kernel<T, ReluGradFunction, T, T>,
             vectors_for(p.count, sizeof(T)), stream, p.count, static_cast<T*>(gx), static_cast<const T*>(gy),
             static_cast<const T*>(y));
      return;
    }
    launch("relu_grad", relu_grad_kernel<T>, one_thread_each(p.count), stream, p, static_cast<const T*>(gy),
           static_cast<const T*>(y), static_cast<T*>(gx));
  });
}

void softmax(const SoftmaxProblem& p, DType dtype, const void* x, void* y, Stream stream) {
  if (p.rows.count == 0 || p.length == 0) return;
  dispatch_real_dtype(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    // Whole warps, no more than the row can feed.
    const std::int64_t threads =
        std::min<std::int64_t>(kSoftmaxMaxThreads, (p.length + kWarpSize - 1) / kWarpSize * kWarpSize);
    launch("softmax", softmax_kernel<T>, {{std::min(kMaxBlocks, p.rows.count)}, {threads}, kSoftmaxShared<T>},
           stream, p, static_cast<const T*>(x), static_cast<T*>(y));
  });
}

void bias_grad(const BiasGradProblem& p, DType dtype, const void* gy, void* gb, Stream stream) {
  if (p.size[1] == 0) return;
  dispatch_dtype(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch("bias_grad", bias_grad_kernel<T>,
           {{std::min(kMaxBlocks, p.size[1])}, {kBiasGradThreads}, kBiasGradShared<T>}, stream, p,
           static_cast<const T*>(gy), static_cast<T*>(gb));
  });
}

}  // namespace cuconv
