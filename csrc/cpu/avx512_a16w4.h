// SPDX-License-Identifier: MIT
// bf16 activations x MXFP4 weights with AVX-512 BF16. vdpbf16ps adds two exact products to an f32
// sum and takes denormals, of products and sums too, as zero; block sums then meet their scale in
// an fma that keeps denormals.
#pragma once

#include "cpu/avx512_tile.h"

namespace aiter_moe::cpu::avx512_bf16 {

using namespace avx512;

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
  // Few rows leave the additions of one sum waiting for each other.
  constexpr int kChains = Rows <= 2 ? 4 : Rows <= 5 ? 2 : 1;
  const __m512i values = bf16_values();
  const uint8_t* const next = job.next;
  const int end = job.range.end;
  __m512 sum[Rows];
  AITER_MOE_UNROLL
  for (int m = 0; m < Rows; ++m) sum[m] = _mm512_setzero_ps();
  for (int block = job.range.begin; block < end; ++block, x += 16 * Rows) {
    const uint8_t* const tile = panel_tile(job.panel, block);
    prefetch<Ahead>(group_codes(tile, job.group), next, block, end);
    __m512i octet[4];
    load_octets(group_codes(tile, job.group), octet);
    __m512 part[kChains][Rows];
    AITER_MOE_UNROLL
    for (int m = 0; m < kChains * Rows; ++m) part[m / Rows][m % Rows] = _mm512_setzero_ps();
    AITER_MOE_UNROLL
    for (int i = 0; i < 16; ++i) {
      const __m512i codes = _mm512_srli_epi16(octet[i / 4], 4 * (i % 4));
      const __m512i pair = _mm512_permutexvar_epi16(codes, values);
      AITER_MOE_UNROLL
      for (int m = 0; m < Rows; ++m) {
        const __m512i activation = _mm512_set1_epi32(static_cast<int>(x[i * Rows + m]));
        __m512& to = part[i % kChains][m];
        to = _mm512_dpbf16_ps(to, (__m512bh)pair, (__m512bh)activation);
      }
    }
    const __m512 scale = scales_to_f32(load_scale_bytes(group_scales(tile, job.group)));
    AITER_MOE_UNROLL
    for (int m = 0; m < Rows; ++m) {
      __m512 dot = part[0][m];
      AITER_MOE_UNROLL
      for (int chain = 1; chain < kChains; ++chain) dot = _mm512_add_ps(dot, part[chain][m]);
      sum[m] = _mm512_fmadd_ps(dot, scale, sum[m]);
    }
  }
  store_sums<Rows>(sum, out);
}

// bf16 activations x MXFP4 weights. `Ahead`: prefetch distance in tiles.
template <int Rows_, int Groups, int Ahead>
struct A16W4 {
  static constexpr int kRows = Rows_;
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

  static void multiply(Panel panel, const uint8_t* next, BlockRange range, const uint32_t* x,
                       int rows, int groups, float* out) {
    for (int group = 0; group < groups; ++group) {
      const Job job{panel, group, next, range};
      float* const to = out + group * rows * kLanes;
      with_rows(rows, [&]<int Rows>() { multiply_a16w4<Rows, Ahead>(job, x, to); });
    }
  }
};

}  // namespace aiter_moe::cpu::avx512_bf16
