// SPDX-License-Identifier: MIT
// fp4 activations x MXFP4 weights with AVX2, with or without AVX-VNNI. Both sides are doubled to
// integers; weights are offset by 12 to be unsigned, and sums start at -12 * (sum of activations).
// So the product of a block is exact, and its scale 2^(w - 127 + x - 127 - 2) is one more fma.
#pragma once

#include "cpu/avx2_dot.h"
#include "cpu/avx2_tile.h"
#include "cpu/doubled_fp4.h"

namespace aiter_moe::cpu::avx2 {

// Packed activations of a row and block.
struct PackedRow {
  uint32_t quads[8];   // even, then odd k of every eight, doubled
  uint32_t start;      // of the sums
  int32_t exponent;    // to add to the bits of a weight's scale
};

// After the rows of a block: the weight scale bytes for which adding any row's exponent gives a
// normal number, as first byte and width of the range; without such bytes `any` is 0.
struct PackedRange {
  uint8_t first, width, any, unused;
};

constexpr int kRowDwords = sizeof(PackedRow) / 4;

// A group of a tile: four k of a column in a dword, two vectors of columns per quad of k.
struct Quads {
  __m256i of[8][2];
  __m256i scale_bytes[2];
  bool plain;  // every scale of the group lies in the range of the packed rows
};

AITER_MOE_INLINE bool in_range(const uint8_t* scales, PackedRange range) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(scales));
  const __m128i above = _mm_sub_epi8(bytes, _mm_set1_epi8(static_cast<char>(range.first)));
  const __m128i past = _mm_subs_epu8(above, _mm_set1_epi8(static_cast<char>(range.width)));
  return range.any != 0 && _mm_testz_si128(past, past) != 0;
}

AITER_MOE_INLINE void decode(const uint8_t* tile, int group, PackedRange range, Quads& to) {
  const __m256i values = byte_table(_mm_add_epi8(doubled_fp4(), _mm_set1_epi8(12)));
  const uint8_t* const codes = group_codes(tile, group);
  const uint8_t* const scales = group_scales(tile, group);
  AITER_MOE_UNROLL
  for (int half = 0; half < 2; ++half) {
    AITER_MOE_UNROLL
    for (int line = 0; line < kLines; ++line) {
      const __m256i octets = load_octets(codes, line, half);
      to.of[2 * line][half] = _mm256_shuffle_epi8(values, low_nibbles(octets));
      to.of[2 * line + 1][half] = _mm256_shuffle_epi8(values, high_nibbles(octets));
    }
    to.scale_bytes[half] = load_scale_bytes(scales, half);
  }
  to.plain = in_range(scales, range);
}

// sum += dot * 2^(w + x - 256) for any two scale bytes: the exponent is split over two factors,
// each a normal number, so that neither over- nor underflows before the product does.
AITER_MOE_INLINE void add_any(__m256i w_bytes, int x_byte, const float* dot, float* sum) {
  const __m256i added = _mm256_add_epi32(w_bytes, _mm256_set1_epi32(x_byte - 256));
  const __m256i exponent = _mm256_max_epi32(added, _mm256_set1_epi32(-252));
  const __m256i half = _mm256_srai_epi32(exponent, 1);
  const __m256i rest = _mm256_sub_epi32(exponent, half);
  const __m256i bias = _mm256_set1_epi32(127);
  const __m256 first = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
  const __m256 second = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
  const __m256i nan_byte = _mm256_set1_epi32(kNanScale);
  const __m256i nan = x_byte == kNanScale ? _mm256_set1_epi32(-1)
                                          : _mm256_cmpeq_epi32(w_bytes, nan_byte);
  const __m256 result =
      _mm256_fmadd_ps(_mm256_mul_ps(_mm256_load_ps(dot), first), second, _mm256_loadu_ps(sum));
  _mm256_storeu_ps(sum, _mm256_or_ps(result, _mm256_castsi256_ps(nan)));
}

// One row of a group with scales beyond the range.
__attribute__((noinline)) inline void add_any_row(const Quads& w, const PackedRow& x,
                                                  const float* dots, float* out) {
  const int x_byte = (x.exponent >> 23) + kExponentBias;
  for (int half = 0; half < 2; ++half) {
    add_any(w.scale_bytes[half], x_byte, dots + kHalfLanes * half, out + kHalfLanes * half);
  }
}

// out[Rows][16] += x[Rows][32] * w.
template <class Dot, int Rows>
__attribute__((noinline)) void add_rows(const Quads& w, const PackedRow* x, float* out) {
  __m256i sums[Rows][2];
  AITER_MOE_UNROLL
  for (int m = 0; m < Rows; ++m) {
    sums[m][0] = sums[m][1] = _mm256_set1_epi32(static_cast<int>(x[m].start));
  }
  // Unrolled, GCC would add up the products of a sum first, in more registers than there are.
  AITER_MOE_ROLLED
  for (int first = 0; first < 8; first += 2) {
    AITER_MOE_UNROLL
    for (int quad = first; quad < first + 2; ++quad) {
      const __m256i left = w.of[quad][0], right = w.of[quad][1];
      AITER_MOE_UNROLL
      for (int m = 0; m < Rows; ++m) {
        const __m256i activations = _mm256_set1_epi32(static_cast<int>(x[m].quads[quad]));
        sums[m][0] = Dot::add(sums[m][0], left, activations);
        keep_in_register(sums[m][0]);
        sums[m][1] = Dot::add(sums[m][1], right, activations);
        keep_in_register(sums[m][1]);
      }
    }
  }
  if (!w.plain) [[unlikely]] {
    alignas(32) float dots[Rows][kLanes];
    AITER_MOE_UNROLL
    for (int m = 0; m < 2 * Rows; ++m) {
      const __m256 dot = _mm256_cvtepi32_ps(Dot::total(sums[m / 2][m % 2]));
      _mm256_store_ps(dots[m / 2] + kHalfLanes * (m % 2), dot);
    }
    for (int m = 0; m < Rows; ++m) add_any_row(w, x[m], dots[m], out + m * kLanes);
    return;
  }
  AITER_MOE_UNROLL
  for (int half = 0; half < 2; ++half) {
    const __m256i bits = _mm256_slli_epi32(w.scale_bytes[half], 23);
    AITER_MOE_UNROLL
    for (int m = 0; m < Rows; ++m) {
      float* const to = out + m * kLanes + kHalfLanes * half;
      const __m256i scale = _mm256_add_epi32(bits, _mm256_set1_epi32(x[m].exponent));
      const __m256 dot = _mm256_cvtepi32_ps(Dot::total(sums[m][half]));
      _mm256_storeu_ps(
          to, _mm256_fmadd_ps(dot, _mm256_castsi256_ps(scale), _mm256_loadu_ps(to)));
    }
  }
}

// `Rows`: most rows of a pass, which share a decoded tile. All groups of a tile go together.
template <class Dot, int Rows>
struct FourBits {
  static constexpr int kRows = Rows;
  static constexpr int kRowWords = kRowDwords + 1;
  static constexpr int kActivationBits = 4;
  static constexpr int kRunRows = 6;  // ten sums, two vectors of weights, products, an activation

  static long words(int rows, int blocks) {
    return (static_cast<long>(kRowDwords) * rows + 1) * blocks;
  }

  static void pack(const RowSource* rows, int count, int blocks, uint32_t* to) {
    for (int block = 0; block < blocks; ++block, to += words(count, 1)) {
      int least = 255, most = 0;
      for (int m = 0; m < count; ++m) {
        const int byte = rows[m].scales[block];
        const uint8_t* const codes = static_cast<const uint8_t*>(rows[m].values);
        const PackedRow row = packed(codes + block * (kBlock / 2), byte);
        __builtin_memcpy(to + m * kRowDwords, &row, sizeof(row));
        least = byte < least ? byte : least;
        most = byte > most ? byte : most;
      }
      const PackedRange range = packed_range(least, most);
      __builtin_memcpy(to + count * kRowDwords, &range, sizeof(range));
    }
  }

  static PackedRange packed_range(int least, int most) {
    const ByteRange weights = normal_weights(least, most);
    if (weights.count == 0) return {};
    return {static_cast<uint8_t>(weights.first), static_cast<uint8_t>(weights.count - 1), 1, 0};
  }

  // Sixteen bytes of codes: byte b of an octet's dword holds k = 2 b (low nibble) and 2 b + 1.
  static PackedRow packed(const uint8_t* codes, int scale) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
    const __m128i nibble = _mm_set1_epi8(15);
    const __m128i even = _mm_shuffle_epi8(doubled_fp4(), _mm_and_si128(bytes, nibble));
    const __m128i odd =
        _mm_shuffle_epi8(doubled_fp4(), _mm_and_si128(_mm_srli_epi16(bytes, 4), nibble));
    const __m128i ones = _mm_set1_epi8(1);
    const __m128i pairs = _mm_maddubs_epi16(ones, _mm_add_epi8(even, odd));
    __m128i sums = _mm_madd_epi16(pairs, _mm_set1_epi16(1));
    sums = _mm_add_epi32(sums, _mm_shuffle_epi32(sums, 0x4E));
    sums = _mm_add_epi32(sums, _mm_shuffle_epi32(sums, 0xB1));
    PackedRow row;
    _mm_storeu_si128(reinterpret_cast<__m128i*>(row.quads), _mm_unpacklo_epi32(even, odd));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(row.quads + 4), _mm_unpackhi_epi32(even, odd));
    row.start = Dot::start(-12 * _mm_cvtsi128_si32(sums));
    row.exponent = static_cast<int32_t>(packed_exponent(scale));
    return row;
  }

  static void multiply(Panel panel, const uint8_t* next, int ahead, BlockRange range,
                       const uint32_t* x, int rows, int groups, float* out) {
    const Stream stream{panel, next, ahead, range};
    const Runs runs = runs_of<kRunRows>(rows);
    walk(stream, x, words(rows, 1), rows, groups, out,
         [rows, runs](const uint8_t* tile, int group, const uint32_t* block, float* sums) {
           PackedRange range;
           __builtin_memcpy(&range, block + rows * kRowDwords, sizeof(range));
           Quads w;
           decode(tile, group, range, w);
           const PackedRow* const packed = reinterpret_cast<const PackedRow*>(block);
           for_each_run<kRunRows>(runs, [&]<int Run>(int first) {
             add_rows<Dot, Run>(w, packed + first, sums + first * kLanes);
           });
         });
  }
};

template <int Rows, int>
struct A4W4 : FourBits<PairSums, Rows> {};

}  // namespace aiter_moe::cpu::avx2

#if defined(__AVXVNNI__) || (defined(__AVX512VNNI__) && defined(__AVX512VL__))
namespace aiter_moe::cpu::avx2_vnni {

template <int Rows, int>
struct A4W4 : avx2::FourBits<QuadSums, Rows> {};

}  // namespace aiter_moe::cpu::avx2_vnni
#endif
