// SPDX-License-Identifier: MIT
// v_mfma_f64_16x16x4_f64 and 4x4x4_4b_f64. A value is a pair of registers. Both shapes have four k
// in lane groups of sixteen, and rows of D of sixteen columns: row r is in pair r / 4, lane group
// r % 4. The sixteen columns are one block's, or four of each of four blocks. Chains of fused
// multiply-adds; a host without them rounds products too.
#pragma once

#include "emulator/exec/matrix_operands.h"

namespace aiter_moe::emulator::matrix {

constexpr int double_columns = 16, double_depth = 4;

inline double read_double(const Lanes* pair, int lane) {
  const u64 bits = u64{pair[1].lane[lane]} << 32 | pair[0].lane[lane];
  return __builtin_bit_cast(double, bits);
}

inline void write_double(Lanes* pair, int lane, double value) {
  const u64 bits = __builtin_bit_cast(u64, value);
  pair[0].lane[lane] = static_cast<u32>(bits);
  pair[1].lane[lane] = static_cast<u32>(bits >> 32);
}

inline double multiply_add(double a, double b, double c) {
#if defined(__FMA__) || defined(__aarch64__)
  return __builtin_fma(a, b, c);
#else
  return a * b + c;
#endif
}

// The blgp field negates A, B and C.
inline double negated_if(bool negate, double value) { return negate ? -value : value; }

// D's registers, built aside. `edge` is 16, or 4 for four blocks.
template <int edge>
void multiply_doubles(const Instruction& i, const Lanes* a, const Lanes* b, Lanes* sums) {
  const bool negate_a = i.blgp & 1, negate_b = i.blgp & 2, negate_c = i.blgp & 4;
  for (int row = 0; row < edge; ++row)
    for (int column = 0; column < double_columns; ++column) {
      Lanes* pair = sums + 2 * (row / 4);
      const int lane = row % 4 * double_columns + column;
      double sum = negated_if(negate_c, read_double(pair, lane));
      for (int k = 0; k < double_depth; ++k) {
        const int group = k * double_columns;
        const int a_row = edge == double_columns ? row : column / edge * edge + row;
        const double factor = negated_if(negate_a, read_double(a, group + a_row));
        sum = multiply_add(factor, negated_if(negate_b, read_double(b, group + column)), sum);
      }
      write_double(pair, lane, sum);
    }
}

template <int edge>
void doubles(Wave& w, const Instruction& i) {
  constexpr int count = edge / 2;  // registers of C and D
  const Lanes* a = registers_of(w, i, i.src[0], 2);
  const Lanes* b = registers_of(w, i, i.src[1], 2);
  if (a == nullptr || b == nullptr || !broadcast_fits(w, i, 1)) return;
  Lanes sums[count];
  if (is_vector(i.src[2])) {
    const Lanes* c = registers_of(w, i, i.src[2], count);
    if (c == nullptr) return;
    for (int n = 0; n < count; ++n) sums[n] = c[n];
  } else {
    const u64 constant = w.read_scalar64(i, i.src[2]);
    for (int n = 0; n < count; ++n) fill(sums[n], static_cast<u32>(constant >> 32 * (n % 2)));
  }
  multiply_doubles<edge>(i, a, b, sums);
  if (Lanes* d = destination_of(w, i, count))
    for (int n = 0; n < count; ++n) d[n] = sums[n];
}

}  // namespace aiter_moe::emulator::matrix
