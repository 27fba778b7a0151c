// SPDX-License-Identifier: MIT
// Micro-kernels for AVX-512 with BF16, VNNI and VBMI: vdpbf16ps for bf16 activations, exact
// integer block products by vpdpbusd for fp4 ones. Included through microkernel.h.
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

// bf16 pairs of the codes k_j and k_{j+4} of eight: the 16-bit view shifted by 4 j, looked up.
AITER_MOE_INLINE __m512i bf16_values() {
  const __m256i half = _mm256_setr_epi16(
      0x0000, 0x3F00, 0x3F80, 0x3FC0, 0x4000, 0x4040, 0x4080, 0x40C0, static_cast<short>(0x8000),
      static_cast<short>(0xBF00), static_cast<short>(0xBF80), static_cast<short>(0xBFC0),
      static_cast<short>(0xC000), static_cast<short>(0xC040), static_cast<short>(0xC080),
      static_cast<short>(0xC0C0));
  return _mm512_broadcast_i64x4(half);
}

template <int Rows, int Ahead>
__attribute__((noinline)) void multiply_a16w4(const Job& job, const uint32_t* x, float* out) {
  const __m512i values = bf16_values();
  const WeightTile tile = job.tile;
  const uint8_t* const next = job.next;
  const int end = job.range.end;
  __m512 sum[Rows];
  AITER_MOE_UNROLL
  for (int m = 0; m < Rows; ++m) sum[m] = _mm512_setzero_ps();
  for (int block = job.range.begin; block < end; ++block, x += 16 * Rows) {
    prefetch<Ahead>(tile.codes, next, block, end);
    __m512i octet[4];
    load_octets(tile.codes + static_cast<long>(block) * kTileBytes, octet);
    __m512 part[Rows];
    AITER_MOE_UNROLL
    for (int m = 0; m < Rows; ++m) part[m] = _mm512_setzero_ps();
    AITER_MOE_UNROLL
    for (int i = 0; i < 16; ++i) {
      const __m512i pair = _mm512_permutexvar_epi16(_mm512_srli_epi16(octet[i / 4], 4 * (i % 4)), values);
      AITER_MOE_UNROLL
      for (int m = 0; m < Rows; ++m) {
        const __m512i activation = _mm512_set1_epi32(static_cast<int>(x[i * Rows + m]));
        part[m] = _mm512_dpbf16_ps(part[m], (__m512bh)pair, (__m512bh)activation);
      }
    }
    const __m512 scale = scales_to_f32(load_scale_bytes(tile, block));
    AITER_MOE_UNROLL
    for (int m = 0; m < Rows; ++m) sum[m] = _mm512_fmadd_ps(part[m], scale, sum[m]);
  }
  store_sums<Rows>(sum, out);
}

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

// bf16 activations x MXFP4 weights. `Ahead`: prefetch distance in blocks.
template <int Ahead>
struct A16W4 {
  static constexpr int kRows = 12;
  static constexpr int kRowWords = 16;
  static constexpr int kActivationBits = 16;

  static long words(int rows, int blocks) { return 16L * rows * blocks; }

  // Per block and pair i = 4 * octet + j: one dword (x_j | x_{j+4} << 16) for every row.
  static void pack(const RowSource* rows, int count, int blocks, uint32_t* to) {
    const __m512i order = _mm512_setr_epi32(
        0x00040000, 0x00050001, 0x00060002, 0x00070003, 0x000C0008, 0x000D0009, 0x000E000A,
        0x000F000B, 0x00140010, 0x00150011, 0x00160012, 0x00170013, 0x001C0018, 0x001D0019,
        0x001E001A, 0x001F001B);
    for (int m = 0; m < count; ++m) {
      const uint16_t* from = static_cast<const uint16_t*>(rows[m].values);
      for (int block = 0; block < blocks; ++block) {
        const __m512i line = _mm512_loadu_si512(from + block * kBlock);
        alignas(64) uint32_t pairs[16];
        _mm512_store_si512(pairs, _mm512_permutexvar_epi16(order, line));
        uint32_t* const column = to + static_cast<long>(block) * 16 * count + m;
        AITER_MOE_UNROLL
        for (int i = 0; i < 16; ++i) column[i * count] = pairs[i];
      }
    }
  }

  static void multiply(const WeightTile& tile, const uint8_t* next, BlockRange range,
                       const uint32_t* x, int count, float* out) {
    const Job job{tile, next, range};
    with_rows(count, [&]<int Rows>() { multiply_a16w4<Rows, Ahead>(job, x, out); });
  }
};

}  // namespace aiter_moe::cpu::avx512
