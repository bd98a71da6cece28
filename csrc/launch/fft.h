// The launcher of convolution by Fourier transforms (overlap-save), in all three directions.
#pragma once

#include "launch/registry.h"

namespace cuconv {

template <Direction kDirection>
struct Fft {
  static Suitability suits(const ConvProblem& p, const ConvRequest& request);
  static void run(const ConvProblem& p, const ConvArguments& args);
};

}  // namespace cuconv
