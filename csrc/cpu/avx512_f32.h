// SPDX-License-Identifier: MIT
// bf16 activations x MXFP4 weights with AVX-512 alone: both become f32, which holds their products
// exactly. Sums of a block meet their scale in one more fma.
#pragma once

#include "cpu/avx512_a16w4.h"

namespace aiter_moe::cpu::avx512 {

struct Dot {
  static constexpr int kSteps = 8;  // of the eight k of a line of codes: one by one

  // Lane i holds fp4 value i; the low four bits of a dword of codes are the index.
  static AITER_MOE_INLINE __m512i table() {
    return _mm512_castps_si512(_mm512_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f,
                                              -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f,
                                              -6.0f));
  }

  static AITER_MOE_INLINE __m512i weights(__m512i codes, int step, __m512i table) {
    return _mm512_permutexvar_epi32(_mm512_srli_epi32(codes, 4 * step), table);
  }

  static AITER_MOE_INLINE __m512 add(__m512 sum, __m512i weights, uint32_t activation) {
    const __m512i x = _mm512_set1_epi32(static_cast<int>(activation));
    return _mm512_fmadd_ps(_mm512_castsi512_ps(weights), _mm512_castsi512_ps(x), sum);
  }

  // What steps [first, first + 16) of a block multiply, one f32 each.
  static AITER_MOE_INLINE __m512i steps(const uint16_t* block, int first) {
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block + first));
    return _mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16);
  }
};

template <int Rows, int Groups>
using A16W4 = zmm::A16W4<Dot, Rows, Groups>;

}  // namespace aiter_moe::cpu::avx512
