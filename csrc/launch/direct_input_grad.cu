#include "kernels/direct/input_grad.cuh"
#include "launch/conv.h"
#include "launch/direct.h"
#include "launch/dispatch.h"
#include "launch/grid.h"

namespace cuconv {

constexpr double kGatherCost = 12;         // as direct_naive, with more index arithmetic
constexpr double kGatherOutputCost = 200;  // eleven divisions of 64-bit numbers

Suitability DirectInputGrad::suits(const ConvProblem& p, const ConvRequest&) {
  const double outputs = double(p.groups) * double(p.c) * double(volume(p.in));
  return {"", 0, {kGatherCost * multiply_adds(p) + kGatherOutputCost * outputs}};
}

void DirectInputGrad::run(const ConvProblem& p, const ConvArguments& args) {
  const std::int64_t inputs = inputs_of(p);
  if (inputs == 0) return;
  dispatch_dtype(args.request.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch("direct_gather", direct_input_grad_kernel<T>,
           {{blocks_for(inputs, kDirectThreads)}, {kDirectThreads}, 0}, args.stream, p, hit_steps(p),
           static_cast<const T*>(args.a), static_cast<const T*>(args.b), args.conjugate, epilogue_of<T>(args),
           static_cast<T*>(args.out));
  });
}

}  // namespace cuconv
