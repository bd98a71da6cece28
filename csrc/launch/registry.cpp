#include "launch/registry.h"

#include "launch/adjoint.h"
#include "launch/check.h"
#include "launch/direct.h"
#include "launch/fft.h"
#include "launch/im2col.h"
#include "launch/implicit_gemm.h"
#include "launch/input_grad_phases.h"
#include "launch/sm90.h"
#include "launch/tensor_core_groups.h"
#include "launch/winograd.h"

namespace cuconv {

namespace {

const std::vector<ConvVariant> kVariants = {
#define CUCONV_CONV_VARIANT(name, algorithm, direction, ...) \
  {#name, Algorithm::algorithm, Direction::direction, &__VA_ARGS__::suits, &__VA_ARGS__::run},
#include "launch/registry.inc"
#undef CUCONV_CONV_VARIANT
};

}  // namespace

const std::vector<ConvVariant>& conv_variants() { return kVariants; }

const ConvVariant& find_variant(Direction direction, const std::string& name) {
  for (const ConvVariant& variant : conv_variants()) {
    if (variant.direction == direction && name == variant.name) return variant;
  }
  throw ArgumentError("no kernel variant is called '" + name + "' in this direction");
}

}  // namespace cuconv
