// The kernel variants of convolution, as data: what each can do, what it needs, how to run it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config.h"
#include "launch/launch.cuh"
#include "problem.h"

namespace cuconv {

// What is asked for besides the problem.
struct ConvRequest {
  DType dtype;
  Precision precision;
  std::int64_t workspace_limit;  // bytes
  bool channels_last = false;    // the operands' layout: NHWC and its kin
};

// Everything a launcher needs besides the problem. Operands by direction:
//   forward (x, w -> y), input_grad (gy, w -> gx), weight_grad (gy, x -> gw)
struct ConvArguments {
  ConvRequest request;  // as `suits` was asked
  bool conjugate;       // the second operand
  Activation activation;
  const void* a;
  const void* b;
  const void* bias;  // null without one
  std::int64_t bias_stride;
  void* out;
  void* workspace;  // of the bytes that it answered
  Stream stream;
};

// What a variant has to do for one image, counted. Rates, and so seconds, are the business of the table in
// python/cuconv/_backends/_rules.py.
struct Work {
  double multiply_adds = 0;  // in the problem's numbers, past the edges of tiles too, and weighed by how far
                             // the kernel stays below the peak of its unit
  Unit unit = Unit::kCudaCores;
  double bytes = 0;  // of the workspace, written and read; operands and result are the same for all
  double launches = 1;
};

// What a launcher answers about a problem. Only sizes decide, and never the batch: an image's bits do not
// depend on its neighbours.
struct Suitability {
  std::string refusal;  // why not; empty where it can
  std::int64_t workspace_bytes = 0;
  Work work = {};
};

struct ConvVariant {
  const char* name;
  Algorithm algorithm;
  Direction direction;
  Suitability (*suits)(const ConvProblem&, const ConvRequest&);
  void (*run)(const ConvProblem&, const ConvArguments&);
};

const std::vector<ConvVariant>& conv_variants();

// Throws ArgumentError where there is none of that name for that direction.
const ConvVariant& find_variant(Direction direction, const std::string& name);

}  // namespace cuconv
