#include "kernels/direct/naive.cuh"
#include "launch/conv.h"
#include "launch/direct.h"
#include "launch/dispatch.h"
#include "launch/grid.h"

namespace cuconv {

constexpr double kNaiveCost = 10;         // two loads and their index arithmetic for each multiply-add
constexpr double kNaiveOutputCost = 200;  // eleven divisions of 64-bit numbers

Suitability DirectNaive::suits(const ConvProblem& p, const ConvRequest&) {
  const double outputs = double(p.groups) * double(p.k) * double(volume(p.out));
  return {"", 0, {kNaiveCost * multiply_adds(p) + kNaiveOutputCost * outputs}};
}

void DirectNaive::run(const ConvProblem& p, const ConvArguments& args) {
  const std::int64_t outputs = outputs_of(p);
  if (outputs == 0) return;
  dispatch_dtype(args.request.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch("direct_naive", direct_naive_kernel<T>,
           {{blocks_for(outputs, kDirectThreads)}, {kDirectThreads}, 0}, args.stream, p,
           static_cast<const T*>(args.a), static_cast<const T*>(args.b), epilogue_of<T>(args),
           static_cast<T*>(args.out));
  });
}

}  // namespace cuconv
