// SPDX-License-Identifier: MIT
// What the AVX-512 micro-kernels of both kinds share: reading weight tiles and their scales,
// prefetch, storing sums, and choosing the instance for a number of rows.
#pragma once

#include <immintrin.h>

#include "cpu/operands.h"

namespace aiter_moe::cpu::avx512 {

// A group's codes: one vector per eight k.
AITER_MOE_INLINE void load_octets(const uint8_t* codes, __m512i octet[4]) {
  AITER_MOE_UNROLL
  for (int line = 0; line < 4; ++line) octet[line] = _mm512_loadu_si512(codes + 64 * line);
}

// The sixteen scale bytes of a group, one per dword.
AITER_MOE_INLINE __m512i load_scale_bytes(const uint8_t* scales) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scales)));
}

AITER_MOE_INLINE __m512 scales_to_f32(__m512i bytes) {
  const __m512i bits = _mm512_max_epu32(_mm512_slli_epi32(bytes, 23), _mm512_set1_epi32(0x400000));
  const __mmask16 nan = _mm512_cmpeq_epi32_mask(bytes, _mm512_set1_epi32(255));
  return _mm512_castsi512_ps(_mm512_mask_mov_epi32(bits, nan, _mm512_set1_epi32(0x7FC00000)));
}

// Asks for a group's lines `Ahead` tiles further: of this panel, or past its end of the next one.
template <int Ahead>
AITER_MOE_INLINE void prefetch(const uint8_t* codes, const uint8_t* next, int block, int end) {
  if constexpr (Ahead > 0) {
    if (next == nullptr && block + Ahead >= end) return;
    const uint8_t* const from = block + Ahead < end
                                    ? codes + static_cast<long>(Ahead) * kTileBytes
                                    : next + static_cast<long>(block + Ahead - end) * kTileBytes;
    AITER_MOE_UNROLL
    for (int line = 0; line < kGroupBytes + 64; line += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(from + line), _MM_HINT_T0);
    }
  }
}

template <int Rows>
AITER_MOE_INLINE void store_sums(const __m512 sums[Rows], float* out) {
  AITER_MOE_UNROLL
  for (int m = 0; m < Rows; ++m) _mm512_storeu_ps(out + m * kLanes, sums[m]);
}

// What a pass multiplies: a group of a panel over a range of blocks, and what is read after it.
struct Job {
  Panel panel;
  int group;
  const uint8_t* next;
  BlockRange range;
};

// Calls `kernel.template operator()<Rows>()` with Rows = count, 1 <= count <= 12.
template <class Kernel>
AITER_MOE_INLINE void with_rows(int count, const Kernel& kernel) {
  switch (count) {
    case 1: return kernel.template operator()<1>();
    case 2: return kernel.template operator()<2>();
    case 3: return kernel.template operator()<3>();
    case 4: return kernel.template operator()<4>();
    case 5: return kernel.template operator()<5>();
    case 6: return kernel.template operator()<6>();
    case 7: return kernel.template operator()<7>();
    case 8: return kernel.template operator()<8>();
    case 9: return kernel.template operator()<9>();
    case 10: return kernel.template operator()<10>();
    case 11: return kernel.template operator()<11>();
    default: return kernel.template operator()<12>();
  }
}

}  // namespace aiter_moe::cpu::avx512
