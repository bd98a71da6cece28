// Prints, as the CuTe headers have them, what wgmma of 64 by 128 takes and gives. Lines of numbers after a
// name:
//
//   sums         for each thread, then each of its 64 registers: the index into the result stored by columns
//   line half    for each of 64 rows, then each of 64 (tf32: 32) k: the element's byte, in lines of 128 bytes
//   line tf32    that are swizzled
//   a_by_k       for each of 64 rows (128 columns), then each of 64 k: the same where these are innermost
//   b_by_k
//   descriptor   its bits, for a start of 4096 bytes, eight lines every 1024 bytes and lines of 128; and by
//   k,
//                with 64 columns every 8192 bytes
#include <cstdint>
#include <cstdio>
#include <cute/atom/mma_traits_sm90_gmma.hpp>
#include <cute/tensor.hpp>

namespace gmma = cute::SM90::GMMA;

template <typename Element>
void print_line(const char* name) {
  constexpr int kDepth = 128 / sizeof(Element);
  const auto layout = cute::as_position_independent_swizzle_layout(cute::tile_to_shape(
      gmma::Layout_K_SW128_Atom<Element>{}, cute::make_shape(cute::Int<64>{}, cute::Int<kDepth>{})));
  std::printf("line_%s", name);
  for (int row = 0; row < 64; ++row) {
    for (int k = 0; k < kDepth; ++k) std::printf(" %d", static_cast<int>(layout(row, k) * sizeof(Element)));
  }
  std::printf("\n");
}

template <int kRows>
void print_by_k(const char* name) {
  const auto layout = cute::as_position_independent_swizzle_layout(cute::tile_to_shape(
      gmma::Layout_MN_SW128_Atom<cute::half_t>{}, cute::make_shape(cute::Int<kRows>{}, cute::Int<64>{}),
      cute::Step<cute::_2, cute::_1>{}));
  std::printf("%s", name);
  for (int row = 0; row < kRows; ++row) {
    for (int k = 0; k < 64; ++k) std::printf(" %d", static_cast<int>(layout(row, k) * 2));
  }
  std::printf("\n");
}

int main() {
  using Traits = cute::MMA_Traits<gmma::MMA_64x128x16_F32F16F16_SS<gmma::Major::K, gmma::Major::K>>;
  const typename Traits::CLayout sums{};
  std::printf("sums");
  for (int thread = 0; thread < 128; ++thread) {
    for (int i = 0; i < 64; ++i) std::printf(" %d", static_cast<int>(sums(thread, i)));
  }
  std::printf("\n");
  print_line<cute::half_t>("half");
  print_line<cute::tfloat32_t>("tf32");
  print_by_k<64>("a_by_k");
  print_by_k<128>("b_by_k");
  cute::GmmaDescriptor d;
  d.bitfield.start_address_ = 4096 >> 4;
  d.bitfield.leading_byte_offset_ = 1;
  d.bitfield.stride_byte_offset_ = 1024 >> 4;
  d.bitfield.layout_type_ = static_cast<std::uint8_t>(gmma::LayoutType::B128);
  std::printf("descriptor %llu\n", static_cast<unsigned long long>(d.desc_));
  d.bitfield.leading_byte_offset_ = 64 * 128 >> 4;
  std::printf("descriptor_by_k %llu\n", static_cast<unsigned long long>(d.desc_));
}
