// SPDX-License-Identifier: MIT
// What the AVX-512 micro-kernels of both kinds share: reading weight tiles and their scales,
// prefetch, storing sums, and choosing the instance for a number of rows.
//
// Four loads bring a W tile of 16 columns x 32 k; a 4x4 transpose of dwords inside each 128-bit
// lane leaves one vector per eight k, whose dword p is column (p >> 2) + 4 * (p & 3). Sums stay in
// that order, scales are permuted once per block, and the epilogue undoes it.
#pragma once

#include <immintrin.h>

#include "cpu/operands.h"

namespace aiter_moe::cpu::avx512 {

AITER_MOE_INLINE __m512i column_order() {
  return _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
}

AITER_MOE_INLINE void load_octets(const uint8_t* codes, __m512i octet[4]) {
  const __m512i a = _mm512_loadu_si512(codes), b = _mm512_loadu_si512(codes + 64);
  const __m512i c = _mm512_loadu_si512(codes + 128), d = _mm512_loadu_si512(codes + 192);
  const __m512i ab_low = _mm512_unpacklo_epi32(a, b), ab_high = _mm512_unpackhi_epi32(a, b);
  const __m512i cd_low = _mm512_unpacklo_epi32(c, d), cd_high = _mm512_unpackhi_epi32(c, d);
  octet[0] = _mm512_unpacklo_epi64(ab_low, cd_low);
  octet[1] = _mm512_unpackhi_epi64(ab_low, cd_low);
  octet[2] = _mm512_unpacklo_epi64(ab_high, cd_high);
  octet[3] = _mm512_unpackhi_epi64(ab_high, cd_high);
}

// The sixteen scale bytes of a block, one per dword, in column order of the sums.
AITER_MOE_INLINE __m512i load_scale_bytes(const WeightTile& tile, int block) {
  const __m512i line = _mm512_loadu_si512(scale_line(tile, block));
  const __m512i shifted = _mm512_srl_epi32(line, _mm_cvtsi32_si128(scale_shift(tile, block)));
  const __m512i bytes = _mm512_and_si512(shifted, _mm512_set1_epi32(0xFF));
  return _mm512_permutexvar_epi32(column_order(), bytes);
}

AITER_MOE_INLINE __m512 scales_to_f32(__m512i bytes) {
  const __m512i bits = _mm512_max_epu32(_mm512_slli_epi32(bytes, 23), _mm512_set1_epi32(0x400000));
  const __mmask16 nan = _mm512_cmpeq_epi32_mask(bytes, _mm512_set1_epi32(255));
  return _mm512_castsi512_ps(_mm512_mask_mov_epi32(bits, nan, _mm512_set1_epi32(0x7FC00000)));
}

// Asks for the lines `Ahead` blocks further: of this tile, or past its end of the next one.
template <int Ahead>
AITER_MOE_INLINE void prefetch(const uint8_t* codes, const uint8_t* next, int block, int end) {
  if constexpr (Ahead > 0) {
    const long place = block + Ahead;
    const uint8_t* from = place < end ? codes + place * kTileBytes
                                      : next + (place - end) * kTileBytes;
    AITER_MOE_UNROLL
    for (int line = 0; line < kTileBytes; line += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(from + line), _MM_HINT_T0);
    }
  }
}

template <int Rows>
AITER_MOE_INLINE void store_sums(const __m512 sums[Rows], float* out) {
  AITER_MOE_UNROLL
  for (int m = 0; m < Rows; ++m) {
    _mm512_storeu_ps(out + m * kLanes, _mm512_permutexvar_ps(column_order(), sums[m]));
  }
}

// What a pass multiplies: a weight tile over a range of blocks, and the tile read after it.
struct Job {
  const WeightTile& tile;
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
