// SPDX-License-Identifier: MIT
// fp4 activations x MXFP4 weights with AVX-512 VNNI. Both sides are doubled to integers; weights
// are offset by 12 to be unsigned for vpdpbusd, and the sum starts at -12 * (sum of activations).
// So the product of a block is exact, and its scale 2^(w - 127 + x - 127 - 2) is one more fma.
#pragma once

#include "cpu/avx512_tile.h"

namespace aiter_moe::cpu::avx512_vnni {

using namespace avx512;

// Packed per block: 8 dwords of activations for every row, then per row the start of the sum and
// the exponent to add to a weight's scale bits, then the weight scale bytes for which that
// addition gives a normal number, as first byte and width of the range.
struct A4W4Block {
  static constexpr int kQuads = 8;

  static constexpr int words(int rows) { return (kQuads + 2) * rows + 2; }
};

AITER_MOE_INLINE __m128i doubled_fp4() {
  return _mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);
}

AITER_MOE_INLINE __m512i offset_fp4() {
  return _mm512_broadcast_i32x4(_mm_add_epi8(doubled_fp4(), _mm_set1_epi8(12)));
}

// value * 2^(sum - 256) + sum_of_blocks for any two scale bytes: the exponent is split over two
// factors, each a normal number, so that neither over- nor underflows before the product does.
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

// Adds the block products `dot` to `sum`; `tail` is the part of the packed block after its quads.
template <int Rows>
AITER_MOE_INLINE void add_scaled(const __m512i dot[Rows], __m512i w_bytes, const uint32_t* tail,
                                 __m512 sum[Rows]) {
  const int* const exponents = reinterpret_cast<const int*>(tail + Rows);
  const __m512i first = _mm512_set1_epi32(static_cast<int>(tail[2 * Rows]));
  const __m512i width = _mm512_set1_epi32(static_cast<int>(tail[2 * Rows + 1]));
  if (_mm512_cmpgt_epu32_mask(_mm512_sub_epi32(w_bytes, first), width) == 0) [[likely]] {
    const __m512i bits = _mm512_slli_epi32(w_bytes, 23);
    AITER_MOE_UNROLL
    for (int m = 0; m < Rows; ++m) {
      const __m512i scale = _mm512_add_epi32(bits, _mm512_set1_epi32(exponents[m]));
      sum[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[m]), _mm512_castsi512_ps(scale), sum[m]);
    }
    return;
  }
  AITER_MOE_UNROLL
  for (int m = 0; m < Rows; ++m) {
    const int x_byte = (exponents[m] >> 23) + 129;
    sum[m] = add_scaled_any(_mm512_cvtepi32_ps(dot[m]), w_bytes, x_byte, sum[m]);
  }
}

template <int Rows, int Ahead>
__attribute__((noinline)) void multiply_a4w4(const Job& job, const uint32_t* x, float* out) {
  constexpr int words = A4W4Block::words(Rows);
  const __m512i values = offset_fp4();
  const uint8_t* const next = job.next;
  const int end = job.range.end;
  __m512 sum[Rows];
  AITER_MOE_UNROLL
  for (int m = 0; m < Rows; ++m) sum[m] = _mm512_setzero_ps();
  for (int block = job.range.begin; block < end; ++block, x += words) {
    const uint8_t* const tile = panel_tile(job.panel, block);
    prefetch<Ahead>(group_codes(tile, job.group), next, block, end);
    __m512i octet[4];
    load_octets(group_codes(tile, job.group), octet);
    const uint32_t* const tail = x + A4W4Block::kQuads * Rows;
    __m512i dot[Rows];
    AITER_MOE_UNROLL
    for (int m = 0; m < Rows; ++m) dot[m] = _mm512_set1_epi32(static_cast<int>(tail[m]));
    AITER_MOE_UNROLL
    for (int i = 0; i < A4W4Block::kQuads; ++i) {
      const __m512i codes = _mm512_srli_epi16(octet[i / 2], 4 * (i % 2));
      const __m512i quad = _mm512_shuffle_epi8(values, _mm512_and_si512(codes, _mm512_set1_epi8(15)));
      AITER_MOE_UNROLL
      for (int m = 0; m < Rows; ++m) {
        const __m512i activation = _mm512_set1_epi32(static_cast<int>(x[i * Rows + m]));
        dot[m] = _mm512_dpbusd_epi32(dot[m], quad, activation);
      }
    }
    add_scaled<Rows>(dot, load_scale_bytes(group_scales(tile, job.group)), tail, sum);
  }
  store_sums<Rows>(sum, out);
}

// `Ahead`: prefetch distance in tiles.
template <int Rows_, int Groups, int Ahead>
struct A4W4 {
  static constexpr int kRows = Rows_;
  static constexpr int kRowWords = A4W4Block::words(1);
  static constexpr int kActivationBits = 4;

  static long words(int rows, int blocks) {
    return static_cast<long>(A4W4Block::words(rows)) * blocks;
  }

  static void pack(const RowSource* rows, int count, int blocks, uint32_t* to) {
    for (int block = 0; block < blocks; ++block, to += A4W4Block::words(count)) {
      int least = 255, most = 0;
      for (int m = 0; m < count; ++m) {
        const int byte = rows[m].scales[block];
        pack_row(static_cast<const uint8_t*>(rows[m].values) + block * (kBlock / 2), byte, count,
                 to + m);
        least = byte < least ? byte : least;
        most = byte > most ? byte : most;
      }
      // w + x - 129 must be the exponent field of a normal number, 1 to 254, for every row.
      const int first = least < 130 ? 130 - least : 0;
      const int last = most > 129 ? 383 - most : 254;
      const bool any = most != kNanScale && last >= first;
      uint32_t* const range = to + (A4W4Block::kQuads + 2) * count;
      range[0] = any ? static_cast<uint32_t>(first) : 256u;
      range[1] = any ? static_cast<uint32_t>(last - first) : 0u;
    }
  }

  // Sixteen bytes of codes: byte b of an octet's dword holds k = 2 b (low nibble) and 2 b + 1.
  static void pack_row(const uint8_t* codes, int scale, int stride, uint32_t* to) {
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
    alignas(32) uint32_t quads[A4W4Block::kQuads];
    _mm_store_si128(reinterpret_cast<__m128i*>(quads), _mm_unpacklo_epi32(even, odd));
    _mm_store_si128(reinterpret_cast<__m128i*>(quads + 4), _mm_unpackhi_epi32(even, odd));
    AITER_MOE_UNROLL
    for (int i = 0; i < A4W4Block::kQuads; ++i) to[i * stride] = quads[i];
    to[A4W4Block::kQuads * stride] = static_cast<uint32_t>(-12 * _mm_cvtsi128_si32(sums));
    to[(A4W4Block::kQuads + 1) * stride] = static_cast<uint32_t>(scale - 129) << 23;
  }

  static void multiply(Panel panel, const uint8_t* next, BlockRange range, const uint32_t* x,
                       int rows, int groups, float* out) {
    for (int group = 0; group < groups; ++group) {
      const Job job{panel, group, next, range};
      float* const to = out + group * rows * kLanes;
      with_rows(rows, [&]<int Rows>() { multiply_a4w4<Rows, Ahead>(job, x, to); });
    }
  }
};

}  // namespace aiter_moe::cpu::avx512_vnni
