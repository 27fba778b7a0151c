// SPDX-License-Identifier: MIT
// sum + a.low * b.low + a.high * b.high of bf16 pairs, one per dword. With
// AITER_MOE_BF16_DOT_IN_F32 two f32 FMAs take the place of vdpbf16ps, so that what is built on it
// runs on CPUs without that instruction; unlike it, they keep denormals.
#pragma once

#include <immintrin.h>

#include "cpu/vector.h"

namespace aiter_moe::cpu::zmm {

AITER_MOE_INLINE __m512 bf16_dot(__m512 sum, __m512i a, __m512i b) {
#if defined(AITER_MOE_BF16_DOT_IN_F32)
  const __m512i high = _mm512_set1_epi32(static_cast<int>(0xFFFF0000u));
  const __m512 a_low = _mm512_castsi512_ps(_mm512_slli_epi32(a, 16));
  const __m512 b_low = _mm512_castsi512_ps(_mm512_slli_epi32(b, 16));
  const __m512 a_high = _mm512_castsi512_ps(_mm512_and_si512(a, high));
  const __m512 b_high = _mm512_castsi512_ps(_mm512_and_si512(b, high));
  return _mm512_fmadd_ps(a_high, b_high, _mm512_fmadd_ps(a_low, b_low, sum));
#else
  return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
#endif
}

}  // namespace aiter_moe::cpu::zmm
