#include <algorithm>
#include <type_traits>

#include "kernels/fft/add.cuh"
#include "kernels/fft/fused.cuh"
#include "kernels/fft/transform.cuh"
#include "launch/conv.h"
#include "launch/direct.h"
#include "launch/dispatch.h"
#include "launch/fft.h"
#include "launch/fft_plan.h"
#include "launch/grid.h"
#include "launch/implicit_gemm.h"
#include "launch/product.h"

namespace cuconv {
namespace {

// ---- the product between the transforms: any kernel for convolutions of complex numbers ----

DType product_dtype(DType dtype) {
  const bool wide = dtype == DType::kFloat64 || dtype == DType::kComplex128;
  return wide ? DType::kComplex128 : DType::kComplex64;
}

// By one image, whatever the batch and the chunks; its sheets lie side by side, as they do in the matrix
// products. A thread a number where there are few channels.
template <Direction kDirection>
ChosenProduct choose_product(const ConvProblem& p, DType dtype, const FftPlan& plan) {
  constexpr bool kInputGrad = kDirection == Direction::kInputGrad;
  constexpr Direction kAs = kInputGrad ? Direction::kInputGrad : Direction::kForward;
  ConvProblem image = fft_product(kDirection, p, plan, p.groups, plan.sheets);
  image.in[2] = image.out[2] = image.n;
  image.n = 1;
  return cheapest_product({kProductBy<std::conditional_t<kInputGrad, DirectInputGrad, DirectNaive>>,
                           kProductBy<ImplicitGemm<Simt<SimtTile32x32>, kAs>>,
                           kProductBy<ImplicitGemm<Simt<SimtTile64x64>, kAs>>},
                          image, product_dtype(dtype));
}

// ---- launches ----

// A call: the spectra's places in the workspace, and what every launch needs.
struct FftCall {
  const ConvArguments& args;
  const FftPlan& plan;
  std::int64_t first_group, groups;  // of the chunk

  void* x() const { return args.workspace; }
  void* y() const { return static_cast<char*>(x()) + plan.x_bytes; }
  void* w() const { return static_cast<char*>(y()) + plan.y_bytes; }
  void* more_w() const { return static_cast<char*>(w()) + plan.w_bytes; }
};

// Calls f(type_tag<Acc>{}) with the accumulator of the elements.
template <typename F>
void dispatch_accumulator(const FftCall& call, F f) {
  dispatch_dtype(call.args.request.dtype,
                 [&](auto tag) { f(type_tag<accumulator_t<typename decltype(tag)::type>>{}); });
}

template <typename Acc>
const FftRoots<typename Spectrum<Acc>::Real>& roots_for(const FftPlan& plan) {
  return kept_fft_roots<typename Spectrum<Acc>::Real>(plan.shape.log_width);
}

template <typename Acc>
LaunchShape launch_shape(const FftCall& call, std::int64_t planes) {
  const FftShape& shape = call.plan.shape;
  // A thread for each piece of eight numbers.
  const int pieces =
      (1 << (shape.log_tiles + shape.log_height + shape.log_width)) / (Spectrum<Acc>::kHalf ? 16 : 8);
  return {{call.groups * ceil_div(planes, std::int64_t{1} << shape.log_tiles)},
          {std::clamp(pieces, 32, kFftThreads)},
          fft_shared_bytes(shape, sizeof(typename FftTile<Acc>::Complex))};
}

template <typename Acc>
FftSpectra<typename Spectrum<Acc>::Real> spectra_at(void* place, const FftCall& call, std::int64_t planes) {
  return {static_cast<typename FftTile<Acc>::Complex*>(place), call.plan.frequencies, planes};
}

FftResult result_of(const FftCall& call) {
  return {call.args.out, call.args.bias, call.args.bias_stride, call.args.activation};
}

// Conjugation of the elements, and of their spectra. A correlation wants both: the spectrum of conj(w[-r]).
struct Conjugate {
  bool elements, spectra;
};

void launch_forward(const FftCall& call, const FftPlanes& planes, const void* x, Conjugate conjugate,
                    void* spectra) {
  if (planes.count == 0 || call.groups == 0) return;
  dispatch_accumulator(call, [&](auto tag) {
    using Acc = typename decltype(tag)::type;
    launch("fft_forward", fft_forward_kernel<Acc>, launch_shape<Acc>(call, planes.count), call.args.stream,
           call.plan.shape, roots_for<Acc>(call.plan), planes, call.first_group, x, call.args.request.dtype,
           conjugate.elements, conjugate.spectra, spectra_at<Acc>(spectra, call, planes.count));
  });
}

void launch_inverse(const FftCall& call, const FftPlanes& planes, void* spectra) {
  if (planes.count == 0 || call.groups == 0) return;
  dispatch_accumulator(call, [&](auto tag) {
    using Acc = typename decltype(tag)::type;
    launch("fft_inverse", fft_inverse_kernel<Acc>, launch_shape<Acc>(call, planes.count), call.args.stream,
           call.plan.shape, roots_for<Acc>(call.plan), planes, spectra_at<Acc>(spectra, call, planes.count),
           call.first_group, result_of(call), call.args.request.dtype);
  });
}

void launch_fused(const FftCall& call, const FftPlanes& inputs, const FftPlanes& outputs) {
  if (outputs.count == 0 || call.groups == 0) return;
  dispatch_accumulator(call, [&](auto tag) {
    using Acc = typename decltype(tag)::type;
    launch("fft_fused", fft_fused_kernel<Acc>, launch_shape<Acc>(call, outputs.count), call.args.stream,
           call.plan.shape, roots_for<Acc>(call.plan), inputs, outputs, call.first_group, call.args.a,
           call.args.request.dtype, spectra_at<Acc>(call.w(), call, outputs.channels), result_of(call));
  });
}

void launch_add(const FftCall& call, const ConvProblem& p) {
  const std::int64_t count = 2 * call.groups * call.plan.frequencies * p.k * p.filter[0] * p.c;
  if (count == 0) return;
  const auto add = [&](auto real) {
    using Real = decltype(real);
    launch("fft_add", fft_add_kernel<Real>, {{blocks_for(count, kFftThreads)}, {kFftThreads}, 0},
           call.args.stream, static_cast<const Real*>(call.more_w()), static_cast<Real*>(call.w()), count);
  };
  if (product_dtype(call.args.request.dtype) == DType::kComplex128) {
    add(double{});
  } else {
    add(float{});
  }
}

// The convolution of spectra: a, b -> out by the problem's directions.
void run_product(const FftCall& call, const ProductKernel& product, const ConvProblem& q, const void* a,
                 const void* b, void* out) {
  ConvArguments args = {};
  args.request = product_request(product_dtype(call.args.request.dtype));
  args.a = a;
  args.b = b;
  args.out = out;
  args.stream = call.args.stream;
  product.run(q, args);
}

FftPlanes chunk_of(FftPlanes planes, std::int64_t first_sheet, std::int64_t sheets) {
  planes.sheet_begin = first_sheet;
  planes.count = sheets * planes.depth * planes.channels;
  return planes;
}

}  // namespace

template <Direction kDirection>
Suitability Fft<kDirection>::suits(const ConvProblem& p, const ConvRequest& request) {
  FftPlan plan;
  if (const std::string why = plan_fft(kDirection, p, request, plan); !why.empty()) return {why};
  const Work product = choose_product<kDirection>(p, request.dtype, plan).answer.work;
  return {"", plan.total_bytes, fft_work(request.dtype, plan, product)};
}

template <Direction kDirection>
void Fft<kDirection>::run(const ConvProblem& p, const ConvArguments& args) {
  constexpr bool kForward = kDirection == Direction::kForward;
  constexpr bool kWeightGrad = kDirection == Direction::kWeightGrad;
  FftPlan plan;
  if (const std::string why = plan_fft(kDirection, p, args.request, plan); !why.empty())
    throw ArgumentError(why);
  const FftPlanes x = fft_x_planes(kDirection, p, plan);
  const FftPlanes y = fft_y_planes(kDirection, p, plan);
  const FftPlanes w = fft_w_planes(p, plan);
  const std::int64_t sheets = p.n * plan.sheets;
  const ProductKernel product = choose_product<kDirection>(p, args.request.dtype, plan).kernel;

  for (std::int64_t group = 0; group < p.groups; group += plan.group_chunk) {
    const FftCall call = {args, plan, group, std::min(plan.group_chunk, p.groups - group)};
    if (!kWeightGrad) launch_forward(call, w, args.b, {args.conjugate != kForward, kForward}, call.w());
    std::int64_t first = 0;
    do {  // a weight gradient has a result without sheets, too
      const std::int64_t count = std::min(plan.sheet_chunk, sheets - first);
      const FftPlanes some_x = chunk_of(x, first, count), some_y = chunk_of(y, first, count);
      const ConvProblem q = fft_product(kDirection, p, plan, call.groups, count);
      if (plan.fused) {
        launch_fused(call, kForward ? some_x : some_y, kForward ? some_y : some_x);
      } else if (kForward) {
        launch_forward(call, some_x, args.a, {}, call.x());
        run_product(call, product, q, call.x(), call.w(), call.y());
        launch_inverse(call, some_y, call.y());
      } else if (kWeightGrad) {
        launch_forward(call, some_y, args.a, {true, true}, call.y());
        launch_forward(call, some_x, args.b, {args.conjugate, false}, call.x());
        run_product(call, product, q, call.x(), call.y(), first == 0 ? call.w() : call.more_w());
        if (first > 0) launch_add(call, p);
      } else {
        launch_forward(call, some_y, args.a, {}, call.y());
        run_product(call, product, q, call.y(), call.w(), call.x());
        launch_inverse(call, some_x, call.x());
      }
      first += count;
    } while (first < sheets);
    if (kWeightGrad) launch_inverse(call, w, call.w());
  }
}

template struct Fft<Direction::kForward>;
template struct Fft<Direction::kInputGrad>;
template struct Fft<Direction::kWeightGrad>;

}  // namespace cuconv
