// Prints the fragment layouts of mma as the CuTe headers have them: which element each lane holds where. A
// line for each of a, b, c of each product: for all lanes, then all their elements, the index into the matrix
// stored by columns (a: 16 by K, c: 16 by 8) or by rows (b: K by 8).
#include <cstdio>
#include <cute/atom/mma_traits_sm80.hpp>

template <typename Layout>
void print(const char* product, const char* operand, Layout layout) {
  std::printf("%s %s", product, operand);
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < static_cast<int>(cute::size<1>(layout)); ++i) {
      std::printf(" %d", static_cast<int>(layout(lane, i)));
    }
  }
  std::printf("\n");
}

template <typename Operation>
void print_all(const char* product) {
  using Traits = cute::MMA_Traits<Operation>;
  print(product, "a", typename Traits::ALayout{});
  print(product, "b", typename Traits::BLayout{});
  print(product, "c", typename Traits::CLayout{});
}

int main() {
  print_all<cute::SM80_16x8x8_F32F16F16F32_TN>("half_k8");
  print_all<cute::SM80_16x8x16_F32F16F16F32_TN>("half_k16");
  print_all<cute::SM80_16x8x16_F32BF16BF16F32_TN>("bfloat16_k16");
  print_all<cute::SM80_16x8x8_F32TF32TF32F32_TN>("tf32_k8");
}
