// SPDX-License-Identifier: MIT
// Integer sums of doubled fp4 products into f32 sums, under any two scale bytes.
#pragma once

#include "cpu/avx512_tile.h"
#include "cpu/doubled_fp4.h"

namespace aiter_moe::cpu::avx512_vnni {

// What a packed block says of its rows' scales: for every row the exponent to add to the bits of
// a weight's scale, and the weight scale bytes for which all these additions give normal numbers,
// as the first byte and the width of the range.
struct RowScales {
  const int* exponents;
  uint32_t first;
  uint32_t width;
};

// First byte and width for rows whose scale bytes lie from `least` to `most`.
inline void pack_range(int least, int most, uint32_t* range) {
  const ByteRange weights = normal_weights(least, most);
  const bool any = weights.count > 0;
  range[0] = any ? static_cast<uint32_t>(weights.first) : 256u;
  range[1] = any ? static_cast<uint32_t>(weights.count - 1) : 0u;
}

// value * 2^(w + x - 256) + sum for any two scale bytes: the exponent is split over two factors,
// each a normal number, so that neither over- nor underflows before the product does.
AITER_MOE_INLINE __m512 add_scaled_any(__m512 value, __m512i w_bytes, int x_byte, __m512 sum) {
  const __m512i added = _mm512_add_epi32(w_bytes, _mm512_set1_epi32(x_byte - 256));
  const __m512i exponent = _mm512_max_epi32(added, _mm512_set1_epi32(-252));
  const __m512i half = _mm512_srai_epi32(exponent, 1);
  const __m512i rest = _mm512_sub_epi32(exponent, half);
  const __m512i bias = _mm512_set1_epi32(127);
  const __m512 first = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(half, bias), 23));
  const __m512 second = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(rest, bias), 23));
  const __m512i nan_byte = _mm512_set1_epi32(kNanScale);
  const __mmask16 nan = x_byte == kNanScale ? static_cast<__mmask16>(0xFFFF)
                                            : _mm512_cmpeq_epi32_mask(w_bytes, nan_byte);
  const __m512 result = _mm512_fmadd_ps(_mm512_mul_ps(value, first), second, sum);
  return _mm512_mask_mov_ps(result, nan, _mm512_castsi512_ps(_mm512_set1_epi32(0x7FC00000)));
}

// Whether all weight scales of a group allow the addition of exponents.
AITER_MOE_INLINE bool adds_exponents(__m512i w_bytes, const RowScales& x) {
  const __m512i first = _mm512_set1_epi32(static_cast<int>(x.first));
  const __m512i width = _mm512_set1_epi32(static_cast<int>(x.width));
  return _mm512_cmpgt_epu32_mask(_mm512_sub_epi32(w_bytes, first), width) == 0;
}

// sums[m] += dots[m] under the weights' and the rows' scales, for `rows` rows of 16 lanes.
AITER_MOE_INLINE void add_scaled(const int32_t* dots, __m512i w_bytes, const RowScales& x,
                                 int rows, float* sums) {
  const __m512i bits = _mm512_slli_epi32(w_bytes, 23);
  const bool plain = adds_exponents(w_bytes, x);
  for (int m = 0; m < rows; ++m, dots += kLanes, sums += kLanes) {
    const __m512 dot = _mm512_cvtepi32_ps(_mm512_loadu_si512(dots));
    const __m512 sum = _mm512_loadu_ps(sums);
    if (plain) [[likely]] {
      const __m512i scale = _mm512_add_epi32(bits, _mm512_set1_epi32(x.exponents[m]));
      _mm512_storeu_ps(sums, _mm512_fmadd_ps(dot, _mm512_castsi512_ps(scale), sum));
    } else {
      const int x_byte = (x.exponents[m] >> 23) + kExponentBias;
      _mm512_storeu_ps(sums, add_scaled_any(dot, w_bytes, x_byte, sum));
    }
  }
}

}  // namespace aiter_moe::cpu::avx512_vnni
