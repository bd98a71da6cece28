#include <algorithm>

#include "kernels/direct/weight_grad.cuh"
#include "launch/conv.h"
#include "launch/direct.h"
#include "launch/dispatch.h"
#include "launch/grid.h"

namespace cuconv {

constexpr double kReduceCost = 90;  // three divisions of 64-bit numbers for each product

Suitability DirectWeightGrad::suits(const ConvProblem& p, const ConvRequest&) {
  return {"", 0, {kReduceCost * multiply_adds(p)}};
}

void DirectWeightGrad::run(const ConvProblem& p, const ConvArguments& args) {
  const std::int64_t weights = weights_of(p);
  if (weights == 0) return;
  dispatch_dtype(args.request.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch("direct_reduce", direct_weight_grad_kernel<T>,
           {{std::min(kMaxBlocks, weights)}, {kWeightGradThreads}, kWeightGradShared<T>}, args.stream, p,
           static_cast<const T*>(args.a), static_cast<const T*>(args.b), args.conjugate,
           static_cast<T*>(args.out));
  });
}

}  // namespace cuconv
