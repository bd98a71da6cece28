// The vocabulary shared by launchers and bindings: algorithms, directions, element types, activations.
#pragma once

#include <cstdint>

namespace cuconv {

enum class Algorithm { kDirect, kIm2col, kImplicitGemm, kWinograd, kFft };
enum class Direction { kForward, kInputGrad, kWeightGrad };
enum class DType { kFloat16, kBfloat16, kFloat32, kFloat64, kComplex64, kComplex128 };
// What computes the products.
enum class Unit { kCudaCores, kTensorCores };
// Of products of float32: exact, or on tensor cores with operands of 11 bits, once or three times.
enum class Precision { kIeee, kTf32, kTf32x3 };
enum class Activation { kNone, kRelu, kSigmoid, kTanh };

constexpr const char* name_of(Algorithm a) {
  switch (a) {
    case Algorithm::kDirect: return "direct";
    case Algorithm::kIm2col: return "im2col";
    case Algorithm::kImplicitGemm: return "implicit_gemm";
    case Algorithm::kWinograd: return "winograd";
    case Algorithm::kFft: return "fft";
  }
  return "";
}

constexpr const char* name_of(DType t) {
  switch (t) {
    case DType::kFloat16: return "float16";
    case DType::kBfloat16: return "bfloat16";
    case DType::kFloat32: return "float32";
    case DType::kFloat64: return "float64";
    case DType::kComplex64: return "complex64";
    case DType::kComplex128: return "complex128";
  }
  return "";
}

constexpr int size_of(DType t) {
  switch (t) {
    case DType::kFloat16:
    case DType::kBfloat16: return 2;
    case DType::kFloat32: return 4;
    case DType::kFloat64:
    case DType::kComplex64: return 8;
    case DType::kComplex128: return 16;
  }
  return 0;
}

}  // namespace cuconv
