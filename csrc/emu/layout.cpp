#include "emu/layout.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <utility>

namespace cuconv::emu {

bool Layout::empty() const { return std::find(shape.begin(), shape.end(), 0) != shape.end(); }

std::int64_t Layout::low() const {
  std::int64_t low = 0;
  for (std::size_t i = 0; i < shape.size() && !empty(); ++i) {
    low += std::min<std::int64_t>(0, (shape[i] - 1) * byte_strides[i]);
  }
  return low;
}

std::int64_t Layout::high() const {
  if (empty()) return 0;
  std::int64_t high = itemsize;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    high += std::max<std::int64_t>(0, (shape[i] - 1) * byte_strides[i]);
  }
  return high;
}

bool Layout::dense() const {
  std::vector<std::pair<std::int64_t, std::int64_t>> axes;  // stride, count
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] != 1 && byte_strides[i] != 0) axes.emplace_back(std::abs(byte_strides[i]), shape[i]);
  }
  std::sort(axes.begin(), axes.end());
  std::int64_t covered = itemsize;
  for (const auto& [stride, count] : axes) {
    if (stride != covered) return false;
    covered *= count;
  }
  return true;
}

// Finds the index axis by axis, the widest stride first, which is exact for elements that do not overlap.
std::string Layout::describe(std::int64_t offset) const {
  std::vector<std::size_t> axes(shape.size());
  std::iota(axes.begin(), axes.end(), 0);
  std::sort(axes.begin(), axes.end(), [this](std::size_t a, std::size_t b) {
    return std::abs(byte_strides[a]) > std::abs(byte_strides[b]);
  });
  std::vector<std::int64_t> index(shape.size(), 0);
  std::int64_t rest = offset - low();
  for (const std::size_t axis : axes) {
    const std::int64_t stride = std::abs(byte_strides[axis]);
    if (stride == 0 || shape[axis] == 1) continue;
    const std::int64_t steps = std::min(rest / stride, shape[axis] - 1);
    rest -= steps * stride;
    index[axis] = byte_strides[axis] > 0 ? steps : shape[axis] - 1 - steps;
  }
  std::string text = "element [";
  for (std::size_t i = 0; i < index.size(); ++i) text += (i ? ", " : "") + std::to_string(index[i]);
  text += "]";
  if (rest < itemsize) return text;
  return "the gap " + std::to_string(rest) + " bytes after the start of " + text;
}

}  // namespace cuconv::emu
