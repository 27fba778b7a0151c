// SPDX-License-Identifier: MIT
// Dot products of four unsigned and four signed bytes per dword, with AVX2 alone and with the
// 256-bit vpdpbusd of AVX-VNNI, or its AVX-512 encoding where a build allows only that.
#pragma once

#include <immintrin.h>

#include "cpu/vector.h"

namespace aiter_moe::cpu::avx2 {

// Sums of a dword's products as two int16, added up at the end of a block: a block's sums of
// products of weights 0 to 24 and activations -12 to 12 fit.
struct PairSums {
  // The first sum of a block that is to come out as `value` more.
  static uint32_t start(int value) { return static_cast<uint16_t>(value); }

  static AITER_MOE_INLINE __m256i add(__m256i sums, __m256i weights, __m256i activations) {
    return _mm256_add_epi16(sums, _mm256_maddubs_epi16(weights, activations));
  }

  static AITER_MOE_INLINE __m256i total(__m256i sums) {
    return _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
  }
};

}  // namespace aiter_moe::cpu::avx2

#if defined(__AVXVNNI__) || (defined(__AVX512VNNI__) && defined(__AVX512VL__))
namespace aiter_moe::cpu::avx2_vnni {

struct QuadSums {
  static uint32_t start(int value) { return static_cast<uint32_t>(value); }

  static AITER_MOE_INLINE __m256i add(__m256i sums, __m256i weights, __m256i activations) {
#if defined(__AVXVNNI__)
    return _mm256_dpbusd_avx_epi32(sums, weights, activations);
#else
    return _mm256_dpbusd_epi32(sums, weights, activations);
#endif
  }

  static AITER_MOE_INLINE __m256i total(__m256i sums) { return sums; }
};

}  // namespace aiter_moe::cpu::avx2_vnni
#endif
