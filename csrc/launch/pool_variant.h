// The kernel variants of pooling, as data: each refuses what it cannot do, and the first that does not, runs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config.h"
#include "launch/launch.cuh"
#include "problem.h"

namespace cuconv {

enum class PoolOperation { kMax, kAverage };

struct PoolArguments {
  PoolOperation operation;
  DType dtype;
  const void* x;
  void* y;
  std::int64_t* indices;  // null where none are wanted, and of averages
  Stream stream;
};

// Launchers: `refuse` says why not, in a few words, or nothing; `run` is for problems with something to
// write.
struct PoolGlobal {
  static std::string refuse(const PoolProblem& p, const PoolArguments& args);
  static void run(const PoolProblem& p, const PoolArguments& args);
};
struct PoolChannels {
  static std::string refuse(const PoolProblem& p, const PoolArguments& args);
  static void run(const PoolProblem& p, const PoolArguments& args);
};
struct PoolTiled {
  static std::string refuse(const PoolProblem& p, const PoolArguments& args);
  static void run(const PoolProblem& p, const PoolArguments& args);
};
struct PoolWindow {
  static std::string refuse(const PoolProblem& p, const PoolArguments& args);
  static void run(const PoolProblem& p, const PoolArguments& args);
};

// The gradient's tensors bear the strides of the forward ones: gx those of x, gy those of y.
struct PoolGradArguments {
  PoolOperation operation;
  bool windows_known;  // else the problem has sizes and strides alone; of averages they always are
  DType dtype;
  const void* gy;
  const std::int64_t* indices;  // null of averages
  void* gx;
  Stream stream;
};

struct PoolGradChannels {
  static std::string refuse(const PoolProblem& p, const PoolGradArguments& args);
  static void run(const PoolProblem& p, const PoolGradArguments& args, void* workspace);
};
struct PoolGradTiled {
  static std::string refuse(const PoolProblem& p, const PoolGradArguments& args);
  static void run(const PoolProblem& p, const PoolGradArguments& args, void* workspace);
};
struct PoolGradWindow {
  static std::string refuse(const PoolProblem& p, const PoolGradArguments& args);
  static void run(const PoolProblem& p, const PoolGradArguments& args, void* workspace);
};
struct PoolGradScatter {
  static std::string refuse(const PoolProblem& p, const PoolGradArguments& args);
  static void run(const PoolProblem& p, const PoolGradArguments& args, void* workspace);
  static std::int64_t workspace(const PoolProblem& p, DType dtype);
};

struct PoolVariant {
  const char* name;
  std::string (*refuse)(const PoolProblem&, const PoolArguments&);
  void (*run)(const PoolProblem&, const PoolArguments&);
};

struct PoolGradVariant {
  const char* name;
  std::string (*refuse)(const PoolProblem&, const PoolGradArguments&);
  void (*run)(const PoolProblem&, const PoolGradArguments&, void* workspace);
};

const std::vector<PoolVariant>& pool_variants();
const std::vector<PoolGradVariant>& pool_grad_variants();

}  // namespace cuconv
