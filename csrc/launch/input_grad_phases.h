// The input gradient by a forward launcher: for each residue of the positions modulo the stride a convolution
// of its own (launch/gather.h), so that nothing is multiplied by the zeros between strided outputs.
#pragma once

#include <cstdint>
#include <string>

#include "launch/conv.h"
#include "launch/gather.h"
#include "launch/gemm.h"
#include "launch/registry.h"

namespace cuconv {

// Forward answers without workspace, and launches nothing where there are no outputs.
template <typename Forward>
struct InputGradPhases {
  static Suitability suits(const ConvProblem& p, const ConvRequest& request) {
    if (const std::string why = refuse_products(Direction::kInputGrad, p); !why.empty()) return {why};
    const std::int64_t phases = product_count(Direction::kInputGrad, p);
    Work work = {0, Unit::kCudaCores, 0, double(phases)};
    for (std::int64_t i = 0; i < phases; ++i) {
      const Suitability one = Forward::suits(input_grad_phase(p, i).problem, request);
      if (!one.refusal.empty()) return one;
      work.multiply_adds += one.work.multiply_adds;
      work.unit = one.work.unit;
    }
    return {"", 0, work};
  }

  static void run(const ConvProblem& p, const ConvArguments& args) {
    if (inputs_of(p) == 0) return;
    for (std::int64_t i = 0; i < product_count(Direction::kInputGrad, p); ++i) {
      const PhaseView phase = input_grad_phase(p, i);
      ConvArguments at = args;
      at.b = advanced(args.b, phase.w_offset, args.request.dtype);
      at.out = advanced(args.out, phase.y_offset, args.request.dtype);
      Forward::run(phase.problem, at);
    }
  }
};

}  // namespace cuconv
