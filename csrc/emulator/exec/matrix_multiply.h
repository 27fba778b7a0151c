// SPDX-License-Identifier: MIT
// Products of panels of f32 or i32, k-major (see matrix_formats.h): one chain of fused
// multiply-adds per result, k ascending, the same on every host.
#pragma once

#include "emulator/exec/matrix_vectors.h"

namespace aiter_moe::emulator::matrix {

// Rows of A times columns of B: sums of results start as start(row, column) says and end in
// finish(row, column, sums), for sixteen columns at a time. Sixteen vectors of sums are under way.
template <int edge, Products products, class T, class Start, class Finish>
AITER_MOE_MATRIX_INLINE void multiply_panels(const T* a, const T* b, int depth, Start start,
                                             Finish finish) {
  using Vector = VectorOf<T>;
  constexpr int vectors = edge / width, rows = width / vectors;
  for (int first = 0; first < edge; first += rows) {
    Vector sums[rows][vectors];
    AITER_MOE_MATRIX_UNROLL
    for (int n = 0; n < rows * vectors; ++n)
      sums[n / vectors][n % vectors] = start(first + n / vectors, n % vectors * width);
    for (int k = 0; k < depth; ++k) {
      Vector columns[vectors];
      for (int v = 0; v < vectors; ++v) columns[v] = load<Vector>(b + k * edge + v * width);
      AITER_MOE_MATRIX_UNROLL
      for (int n = 0; n < rows * vectors; ++n) {
        const int row = n / vectors, v = n % vectors;
        sums[row][v] =
            multiply_add<products>(splat(a[k * edge + first + row]), columns[v], sums[row][v]);
      }
    }
    AITER_MOE_MATRIX_UNROLL
    for (int n = 0; n < rows * vectors; ++n)
      finish(first + n / vectors, n % vectors * width, sums[n / vectors][n % vectors]);
  }
}

// tile += A * B.
template <int edge, Products products, class T>
void multiply(const T* a, const T* b, int depth, T* tile) {
  using Vector = VectorOf<T>;
  multiply_panels<edge, products>(
      a, b, depth,
      [&](int row, int column) { return load<Vector>(tile + row * edge + column); },
      [&](int row, int column, Vector sums) { store(tile + row * edge + column, sums); });
}

}  // namespace aiter_moe::emulator::matrix
