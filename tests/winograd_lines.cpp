// The matrices of kernels/winograd/lines.cuh, in exact fractions: the device functions themselves run on
// unit vectors. Prints "m matrix row column numerator denominator".
#include <cstdint>
#include <cstdio>
#include <numeric>

#include "device/platform.cuh"

namespace exact {

struct Fraction {
  std::int64_t n = 0, d = 1;

  Fraction() = default;
  explicit Fraction(int value) : n(value) {}
  Fraction(std::int64_t numerator, std::int64_t denominator) {
    const std::int64_t common = std::gcd(numerator, denominator) * (denominator < 0 ? -1 : 1);
    n = numerator / common;
    d = denominator / common;
  }
};

Fraction operator+(Fraction a, Fraction b) { return {a.n * b.d + b.n * a.d, a.d * b.d}; }
Fraction operator-(Fraction a) { return {-a.n, a.d}; }
Fraction operator-(Fraction a, Fraction b) { return a + -b; }
Fraction operator*(Fraction a, Fraction b) { return {a.n * b.n, a.d * b.d}; }
Fraction operator/(Fraction a, Fraction b) { return {a.n * b.d, a.d * b.n}; }
Fraction multiply_add(Fraction a, Fraction b, Fraction sum) { return a * b + sum; }

}  // namespace exact

#include "kernels/winograd/lines.cuh"

template <int kRows, int kColumns, typename Line>
void print(int m, const char* name, Line line) {
  for (int column = 0; column < kColumns; ++column) {
    exact::Fraction in[kColumns], out[kRows];
    in[column] = exact::Fraction(1);
    line(in, out);
    for (int row = 0; row < kRows; ++row) {
      std::printf("%d %s %d %d %lld %lld\n", m, name, row, column, static_cast<long long>(out[row].n),
                  static_cast<long long>(out[row].d));
    }
  }
}

template <int m>
void print_all() {
  using Line = cuconv::WinogradLine<m>;
  print<m + 2, 3>(m, "filter", [](const auto& in, auto& out) { Line::filter(in, out); });
  print<m + 2, m + 2>(m, "input", [](const auto& in, auto& out) { Line::input(in, out); });
  print<m, m + 2>(m, "output", [](const auto& in, auto& out) { Line::output(in, out); });
}

int main() {
  print_all<2>();
  print_all<4>();
}
