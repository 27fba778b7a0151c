// SPDX-License-Identifier: MIT
// a4w4 with weights decoded on the way, a block at a time: whole tiles in order for 1 to 4 rows,
// which wait for memory; a column group at a time for up to 12. Weights are offset by 12 to be
// unsigned for vpdpbusd, and a sum starts at -12 * (sum of activations).
#pragma once

#include "cpu/avx512_a4w4_scale.h"

namespace aiter_moe::cpu::avx512_vnni {

// Packed per block: 8 dwords of activations for every row, then per row the start of its sum, then
// the rows' scales: exponents, first byte and width of `RowScales`.
struct FewBlock {
  static constexpr int kQuads = 8;

  static constexpr int words(int rows) { return (kQuads + 2) * rows + 2; }
};

// The 64 entries repeat the table of 16: vpermb ignores the two highest bits of an index only.
AITER_MOE_INLINE __m512i offset_fp4() {
  return _mm512_broadcast_i32x4(_mm_add_epi8(doubled_fp4(), _mm_set1_epi8(12)));
}

// Values of the low nibbles: byte b of an octet's dword holds k = 2 b, and 2 b + 1 in the high one.
AITER_MOE_INLINE __m512i look_up(__m512i codes, __m512i values) {
#if defined(__AVX512VBMI__)
  return _mm512_permutexvar_epi8(codes, values);
#else
  return _mm512_shuffle_epi8(values, _mm512_and_si512(codes, _mm512_set1_epi8(15)));
#endif
}

inline void pack_few_row(const uint8_t* codes, int stride, uint32_t* to) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
  const __m128i nibble = _mm_set1_epi8(15);
  const __m128i even = _mm_shuffle_epi8(doubled_fp4(), _mm_and_si128(bytes, nibble));
  const __m128i odd =
      _mm_shuffle_epi8(doubled_fp4(), _mm_and_si128(_mm_srli_epi16(bytes, 4), nibble));
  const __m128i ones = _mm_set1_epi8(1);
  __m128i sums = _mm_dpbusd_epi32(_mm_setzero_si128(), ones, even);
  sums = _mm_dpbusd_epi32(sums, ones, odd);
  sums = _mm_add_epi32(sums, _mm_shuffle_epi32(sums, 0x4E));
  sums = _mm_add_epi32(sums, _mm_shuffle_epi32(sums, 0xB1));
  alignas(32) uint32_t quads[FewBlock::kQuads];
  _mm_store_si128(reinterpret_cast<__m128i*>(quads), _mm_unpacklo_epi32(even, odd));
  _mm_store_si128(reinterpret_cast<__m128i*>(quads + 4), _mm_unpackhi_epi32(even, odd));
  AITER_MOE_UNROLL
  for (int i = 0; i < FewBlock::kQuads; ++i) to[i * stride] = quads[i];
  to[FewBlock::kQuads * stride] = static_cast<uint32_t>(-12 * _mm_cvtsi128_si32(sums));
}

inline void pack_few(const RowSource* rows, int count, int blocks, uint32_t* to) {
  for (int block = 0; block < blocks; ++block, to += FewBlock::words(count)) {
    uint32_t* const exponents = to + (FewBlock::kQuads + 1) * count;
    int least = 255, most = 0;
    for (int m = 0; m < count; ++m) {
      const int byte = rows[m].scales[block];
      const uint8_t* const codes = static_cast<const uint8_t*>(rows[m].values);
      pack_few_row(codes + block * (kBlock / 2), count, to + m);
      exponents[m] = packed_exponent(byte);
      least = byte < least ? byte : least;
      most = byte > most ? byte : most;
    }
    pack_range(least, most, exponents + count);
  }
}

// Sums of a group's doubled products of one block.
template <int Rows>
AITER_MOE_INLINE void multiply_block(const uint8_t* codes, const uint32_t* x, __m512i values,
                                     __m512i dot[Rows]) {
  const uint32_t* const starts = x + FewBlock::kQuads * Rows;
  AITER_MOE_UNROLL
  for (int m = 0; m < Rows; ++m) dot[m] = _mm512_set1_epi32(static_cast<int>(starts[m]));
  AITER_MOE_UNROLL
  for (int i = 0; i < FewBlock::kQuads; ++i) {
    const __m512i line = _mm512_loadu_si512(codes + 64 * (i / 2));
    const __m512i quad = look_up(_mm512_srli_epi16(line, 4 * (i % 2)), values);
    AITER_MOE_UNROLL
    for (int m = 0; m < Rows; ++m) {
      const __m512i activation = _mm512_set1_epi32(static_cast<int>(x[i * Rows + m]));
      dot[m] = _mm512_dpbusd_epi32(dot[m], quad, activation);
      keep_in_register(dot[m]);
    }
  }
}

template <int Rows>
__attribute__((noinline)) void multiply_few(const zmm::Job& job, const uint32_t* x, float* out) {
  const __m512i values = offset_fp4();
  zmm::clear_sums(Rows, out);
  for (int block = job.range.begin; block < job.range.end; ++block, x += FewBlock::words(Rows)) {
    const uint8_t* const tile = panel_tile(job.panel, block);
    if (const uint8_t* const soon = job.tile_ahead(block, job.ahead)) zmm::prefetch_lines(soon);
    const uint32_t* const tail = x + (FewBlock::kQuads + 1) * Rows;
    const RowScales scales{reinterpret_cast<const int*>(tail), tail[Rows], tail[Rows + 1]};
    AITER_MOE_ROLLED
    for (int group = 0; group < kPanelGroups; ++group) {
      float* const to = out + group * Rows * kLanes;
      __m512i dot[Rows];
      multiply_block<Rows>(group_codes(tile, group), x, values, dot);
      alignas(64) int32_t dots[Rows][kLanes];
      AITER_MOE_UNROLL
      for (int m = 0; m < Rows; ++m) _mm512_store_si512(dots[m], dot[m]);
      const __m512i w_bytes = zmm::load_scale_bytes(group_scales(tile, group));
      add_scaled(dots[0], w_bytes, scales, Rows, to);
    }
  }
}

// ---- up to zmm::kGroupRows rows, a group at a time

// The rare block whose exponents cannot be added as they are.
template <int Rows>
__attribute__((noinline, cold)) void add_scaled_rare(const __m512i* dot, __m512i w_bytes,
                                                     const RowScales& scales, __m512* sum) {
  alignas(64) float sums[Rows * kLanes];
  for (int m = 0; m < Rows; ++m) _mm512_store_ps(sums + m * kLanes, sum[m]);
  add_scaled(reinterpret_cast<const int32_t*>(dot), w_bytes, scales, Rows, sums);
  for (int m = 0; m < Rows; ++m) sum[m] = _mm512_load_ps(sums + m * kLanes);
}

template <int Rows>
__attribute__((noinline)) void multiply_group(const zmm::Job& job, int group, const uint32_t* x,
                                              float* out) {
  const __m512i values = offset_fp4();
  __m512 sum[Rows];
  AITER_MOE_UNROLL
  for (int m = 0; m < Rows; ++m) sum[m] = _mm512_setzero_ps();
  for (int block = job.range.begin; block < job.range.end; ++block, x += FewBlock::words(Rows)) {
    const uint8_t* const tile = panel_tile(job.panel, block);
    if (const uint8_t* const soon = job.tile_ahead(block, job.ahead)) {
      zmm::prefetch_share(soon, group);
    }
    const uint32_t* const tail = x + (FewBlock::kQuads + 1) * Rows;
    const RowScales scales{reinterpret_cast<const int*>(tail), tail[Rows], tail[Rows + 1]};
    __m512i dot[Rows];
    multiply_block<Rows>(group_codes(tile, group), x, values, dot);
    const __m512i w_bytes = zmm::load_scale_bytes(group_scales(tile, group));
    if (!adds_exponents(w_bytes, scales)) [[unlikely]] {
      __m512i dots[Rows];
      __m512 sums[Rows];
      AITER_MOE_UNROLL
      for (int m = 0; m < Rows; ++m) dots[m] = dot[m], sums[m] = sum[m];
      add_scaled_rare<Rows>(dots, w_bytes, scales, sums);
      AITER_MOE_UNROLL
      for (int m = 0; m < Rows; ++m) sum[m] = sums[m];
      continue;
    }
    const __m512i bits = _mm512_slli_epi32(w_bytes, 23);
    AITER_MOE_UNROLL
    for (int m = 0; m < Rows; ++m) {
      const __m512i scale = _mm512_add_epi32(bits, _mm512_set1_epi32(scales.exponents[m]));
      sum[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[m]), _mm512_castsi512_ps(scale), sum[m]);
      keep_in_register(sum[m]);
    }
  }
  AITER_MOE_UNROLL
  for (int m = 0; m < Rows; ++m) _mm512_storeu_ps(out + m * kLanes, sum[m]);
}

}  // namespace aiter_moe::cpu::avx512_vnni
