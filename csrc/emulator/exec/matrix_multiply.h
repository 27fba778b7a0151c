// SPDX-License-Identifier: MIT
// tile += A * B for panels of f32 or i32 (k-major, see matrix_formats.h). One chain of fused
// multiply-adds per result, k ascending, the same on every host: AVX-512 only does sixteen columns
// at a time. Products of 16-bit and smaller formats are exact in f32, so a host without FMA
// gets the same bits for them; for f32 operands the detour over double may differ in the last.
#pragma once

#include "emulator/wave.h"

#if defined(__clang__)
#define AITER_MOE_UNROLL_16 _Pragma("clang loop unroll(full)")
#else
#define AITER_MOE_UNROLL_16 _Pragma("GCC unroll 16")
#endif

namespace aiter_moe::emulator::matrix {

inline float multiply_add(float a, float b, float c) {
#if defined(__FMA__) || defined(__aarch64__)
  return __builtin_fmaf(a, b, c);
#else
  return static_cast<float>(static_cast<double>(a) * b + c);
#endif
}

inline double multiply_add(double a, double b, double c) {
#if defined(__FMA__) || defined(__aarch64__)
  return __builtin_fma(a, b, c);
#else
  return a * b + c;
#endif
}

// Wraps.
inline i32 multiply_add(i32 a, i32 b, i32 c) {
  return static_cast<i32>(static_cast<u32>(a) * static_cast<u32>(b) + static_cast<u32>(c));
}

template <int edge, class T>
void multiply_block(const T* a, const T* b, int depth, T* tile) {
  for (int k = 0; k < depth; ++k)
    for (int row = 0; row < 16; ++row) {
      const T factor = a[k * edge + row];
      for (int column = 0; column < 16; ++column)
        tile[row * edge + column] =
            multiply_add(factor, b[k * edge + column], tile[row * edge + column]);
    }
}

#if defined(__AVX512F__)
template <int edge>
void multiply_block(const float* a, const float* b, int depth, float* tile) {
  __m512 sums[16];
  AITER_MOE_UNROLL_16
  for (int row = 0; row < 16; ++row) sums[row] = _mm512_loadu_ps(tile + row * edge);
  for (int k = 0; k < depth; ++k) {
    const __m512 columns = _mm512_loadu_ps(b + k * edge);
    AITER_MOE_UNROLL_16
    for (int row = 0; row < 16; ++row)
      sums[row] = _mm512_fmadd_ps(_mm512_set1_ps(a[k * edge + row]), columns, sums[row]);
  }
  AITER_MOE_UNROLL_16
  for (int row = 0; row < 16; ++row) _mm512_storeu_ps(tile + row * edge, sums[row]);
}
#endif

// edge: 16 or 32.
template <int edge, class T>
void multiply(const T* a, const T* b, int depth, T* tile) {
  for (int row = 0; row < edge; row += 16)
    for (int column = 0; column < edge; column += 16)
      multiply_block<edge>(a + row, b + column, depth, tile + row * edge + column);
}

}  // namespace aiter_moe::emulator::matrix
