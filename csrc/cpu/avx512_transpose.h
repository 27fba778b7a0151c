// SPDX-License-Identifier: MIT
// Rows of dwords to columns, as packed activations want them: the dwords of one k of all rows lie
// together.
#pragma once

#include <immintrin.h>

#include "cpu/vector.h"

namespace aiter_moe::cpu::zmm {

constexpr int kTransposed = 16;  // rows of a transposition, and dwords of a row

// v[m][i] to v[i][m].
AITER_MOE_INLINE void transpose(__m512i (&v)[kTransposed]) {
  __m512i w[kTransposed];
  AITER_MOE_UNROLL
  for (int i = 0; i < kTransposed; i += 2) {
    w[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    w[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
  AITER_MOE_UNROLL
  for (int i = 0; i < kTransposed; i += 4) {
    v[i] = _mm512_unpacklo_epi64(w[i], w[i + 2]);
    v[i + 1] = _mm512_unpackhi_epi64(w[i], w[i + 2]);
    v[i + 2] = _mm512_unpacklo_epi64(w[i + 1], w[i + 3]);
    v[i + 3] = _mm512_unpackhi_epi64(w[i + 1], w[i + 3]);
  }
  // v[4 a + b] has dwords b, b + 4, b + 8, b + 12 of the four rows from 4 a on.
  AITER_MOE_UNROLL
  for (int b = 0; b < 4; ++b) {
    const __m512i even_low = _mm512_shuffle_i32x4(v[b], v[b + 4], 0x88);
    const __m512i even_high = _mm512_shuffle_i32x4(v[b + 8], v[b + 12], 0x88);
    const __m512i odd_low = _mm512_shuffle_i32x4(v[b], v[b + 4], 0xDD);
    const __m512i odd_high = _mm512_shuffle_i32x4(v[b + 8], v[b + 12], 0xDD);
    w[b] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
    w[b + 8] = _mm512_shuffle_i32x4(even_low, even_high, 0xDD);
    w[b + 4] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
    w[b + 12] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xDD);
  }
  AITER_MOE_UNROLL
  for (int i = 0; i < kTransposed; ++i) v[i] = w[i];
}

// So few rows are stored sooner one dword at a time.
constexpr int kFewColumns = 4;

// Sixteen dwords of each of `rows` rows, at most 16: row_of(m)'s dword i goes to to[i * rows + m].
template <class RowOf>
AITER_MOE_INLINE void store_columns(int rows, const RowOf& row_of, uint32_t* to) {
  if (rows == 1) return _mm512_storeu_si512(to, row_of(0));
  if (rows <= kFewColumns) {
    for (int m = 0; m < rows; ++m) {
      alignas(64) uint32_t dwords[kTransposed];
      _mm512_store_si512(dwords, row_of(m));
      AITER_MOE_UNROLL
      for (int i = 0; i < kTransposed; ++i) to[i * rows + m] = dwords[i];
    }
    return;
  }
  __m512i v[kTransposed] = {};
  for (int m = 0; m < rows; ++m) v[m] = row_of(m);
  transpose(v);
  const __mmask16 held = static_cast<__mmask16>((1u << rows) - 1);
  AITER_MOE_UNROLL
  for (int i = 0; i < kTransposed; ++i) _mm512_mask_storeu_epi32(to + i * rows, held, v[i]);
}

}  // namespace aiter_moe::cpu::zmm
