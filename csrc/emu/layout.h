// Where the elements of a strided array lie.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cuconv::emu {

struct Layout {
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> byte_strides;  // may be zero or negative
  std::int64_t itemsize;

  bool empty() const;
  // The lowest byte and the end of the highest, relative to element [0, 0, ...]; both 0 for an empty array.
  std::int64_t low() const;
  std::int64_t high() const;
  // Whether the elements lie side by side, leaving no byte between low and high.
  bool dense() const;
  // "element [0, 3]" or "the gap 4 bytes after the start of element [0, 3]"
  std::string describe(std::int64_t offset) const;

  // Calls f with the offset of every element in bytes, once for those that a broadcast axis repeats.
  template <typename F>
  void for_each(F&& f) const {
    if (!empty()) visit(0, 0, f);
  }

 private:
  template <typename F>
  void visit(std::size_t axis, std::int64_t offset, F& f) const {
    if (axis == shape.size()) {
      f(offset);
      return;
    }
    const std::int64_t count = byte_strides[axis] == 0 ? 1 : shape[axis];
    for (std::int64_t i = 0; i < count; ++i) visit(axis + 1, offset + i * byte_strides[axis], f);
  }
};

}  // namespace cuconv::emu
