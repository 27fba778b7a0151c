// SPDX-License-Identifier: MIT
// bf16 activations x MXFP4 weights with AVX2 and FMA, in f32.
//
// A byte of codes is looked up twice, for the upper and the lower byte of its bf16 value; the two
// interleave to pairs of bf16 whose halves become f32 by a shift and a mask. That leaves two k of a
// column side by side: lanes (c0 ka, c0 kb, c1 ka, c1 kb) of one vector and those of c2, c3 of
// another. Few rows multiply them as they are and add the neighbours of each sum once a block; for
// more rows a shuffle puts columns in order before they are stored for all runs of rows.
#pragma once

#include "cpu/avx2_tile.h"

namespace aiter_moe::cpu::avx2 {

// Bytes of the bf16 values of the sixteen codes.
AITER_MOE_INLINE __m256i bf16_upper_bytes() {
  return byte_table(_mm_setr_epi8(0x00, 0x3F, 0x3F, 0x3F, 0x40, 0x40, 0x40, 0x40, -0x80, -0x41,
                                  -0x41, -0x41, -0x40, -0x40, -0x40, -0x40));
}

AITER_MOE_INLINE __m256i bf16_lower_bytes() {
  return byte_table(_mm_setr_epi8(0x00, 0x00, -0x80, -0x40, 0x00, 0x40, -0x80, -0x40, 0x00, 0x00,
                                  -0x80, -0x40, 0x00, 0x40, -0x80, -0x40));
}

// The values of one nibble of each byte of eight dwords: four k of eight columns.
struct FourK {
  // Lane pairs of columns 0, 1, 4, 5 and of 2, 3, 6, 7; the first two of the k, then the others.
  __m256 left[2], right[2];
};

AITER_MOE_INLINE FourK four_k(__m256i nibbles) {
  const __m256i upper = _mm256_shuffle_epi8(bf16_upper_bytes(), nibbles);
  const __m256i lower = _mm256_shuffle_epi8(bf16_lower_bytes(), nibbles);
  const __m256i left = _mm256_unpacklo_epi8(lower, upper);
  const __m256i right = _mm256_unpackhi_epi8(lower, upper);
  const __m256i odd = _mm256_set1_epi32(static_cast<int>(0xFFFF0000u));
  return {{_mm256_castsi256_ps(_mm256_slli_epi32(left, 16)),
           _mm256_castsi256_ps(_mm256_and_si256(left, odd))},
          {_mm256_castsi256_ps(_mm256_slli_epi32(right, 16)),
           _mm256_castsi256_ps(_mm256_and_si256(right, odd))}};
}

AITER_MOE_INLINE __m256 scales_of(const uint8_t* scales, int half) {
  const __m256i bytes = load_scale_bytes(scales, half);
  const __m256i bits =
      _mm256_max_epu32(_mm256_slli_epi32(bytes, 23), _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_cmpeq_epi32(bytes, _mm256_set1_epi32(kNanScale));
  return _mm256_castsi256_ps(
      _mm256_or_si256(bits, _mm256_and_si256(nan, _mm256_set1_epi32(0x400000))));
}

AITER_MOE_INLINE void add_scaled(__m256 dot, __m256 scale, float* sum) {
  _mm256_storeu_ps(sum, _mm256_fmadd_ps(dot, scale, _mm256_loadu_ps(sum)));
}

// A group of a tile as f32, [k in packed order][column].
struct Values {
  alignas(32) float of[kBlock][kLanes];
  alignas(32) float scale[kLanes];
};

AITER_MOE_INLINE void decode(const uint8_t* tile, int group, Values& to) {
  const uint8_t* const codes = group_codes(tile, group);
  for (int line = 0; line < kLines; ++line) {
    AITER_MOE_UNROLL
    for (int half = 0; half < 2; ++half) {
      const __m256i octets = load_octets(codes, line, half);
      AITER_MOE_UNROLL
      for (int nibble = 0; nibble < 2; ++nibble) {
        const FourK w = four_k(nibble == 0 ? low_nibbles(octets) : high_nibbles(octets));
        AITER_MOE_UNROLL
        for (int i = 0; i < 2; ++i) {
          float* const first = to.of[8 * line + 4 * nibble + 2 * i] + kHalfLanes * half;
          _mm256_store_ps(first, _mm256_shuffle_ps(w.left[i], w.right[i], 0x88));
          _mm256_store_ps(first + kLanes, _mm256_shuffle_ps(w.left[i], w.right[i], 0xDD));
        }
      }
    }
  }
  AITER_MOE_UNROLL
  for (int half = 0; half < 2; ++half) {
    _mm256_store_ps(to.scale + kHalfLanes * half, scales_of(group_scales(tile, group), half));
  }
}

// out[Rows][16] += x[Rows][32] * w.
template <int Rows>
__attribute__((noinline)) void add_rows(const Values& w, const float* x, float* out) {
  __m256 dot[Rows][2];
  AITER_MOE_UNROLL
  for (int m = 0; m < Rows; ++m) dot[m][0] = dot[m][1] = _mm256_setzero_ps();
  AITER_MOE_ROLLED
  for (int first = 0; first < kBlock; first += 2) {
    AITER_MOE_UNROLL
    for (int k = first; k < first + 2; ++k) {
      __m256 left = _mm256_load_ps(w.of[k]), right = _mm256_load_ps(w.of[k] + kHalfLanes);
      keep_in_register(left);  // else every row would load them
      keep_in_register(right);
      AITER_MOE_UNROLL
      for (int m = 0; m < Rows; ++m) {
        const __m256 activation = _mm256_broadcast_ss(x + m * kBlock + k);
        dot[m][0] = _mm256_fmadd_ps(left, activation, dot[m][0]);
        keep_in_register(dot[m][0]);
        dot[m][1] = _mm256_fmadd_ps(right, activation, dot[m][1]);
        keep_in_register(dot[m][1]);
      }
    }
  }
  AITER_MOE_UNROLL
  for (int m = 0; m < Rows; ++m) {
    AITER_MOE_UNROLL
    for (int half = 0; half < 2; ++half) {
      add_scaled(dot[m][half], _mm256_load_ps(w.scale + kHalfLanes * half),
                 out + m * kLanes + kHalfLanes * half);
    }
  }
}

// The same straight from a tile, for few rows.
template <int Rows>
AITER_MOE_INLINE void add_few_rows(const uint8_t* tile, int group, const float* x, float* out) {
  const uint8_t* const codes = group_codes(tile, group);
  AITER_MOE_UNROLL
  for (int half = 0; half < 2; ++half) {
    // [first or second pair of a four][left or right]: one row alone needs chains of its own.
    __m256 dot[Rows][2][2];
    AITER_MOE_UNROLL
    for (int m = 0; m < Rows; ++m) {
      dot[m][0][0] = dot[m][0][1] = dot[m][1][0] = dot[m][1][1] = _mm256_setzero_ps();
    }
    AITER_MOE_UNROLL
    for (int line = 0; line < kLines; ++line) {
      const __m256i octets = load_octets(codes, line, half);
      AITER_MOE_UNROLL
      for (int nibble = 0; nibble < 2; ++nibble) {
        const FourK w = four_k(nibble == 0 ? low_nibbles(octets) : high_nibbles(octets));
        AITER_MOE_UNROLL
        for (int i = 0; i < 2; ++i) {
          AITER_MOE_UNROLL
          for (int m = 0; m < Rows; ++m) {
            const double* const pair =
                reinterpret_cast<const double*>(x + m * kBlock + 8 * line + 4 * nibble + 2 * i);
            const __m256 activation = _mm256_castpd_ps(_mm256_broadcast_sd(pair));
            __m256(&to)[2] = dot[m][Rows == 1 ? i : 0];
            to[0] = _mm256_fmadd_ps(w.left[i], activation, to[0]);
            to[1] = _mm256_fmadd_ps(w.right[i], activation, to[1]);
          }
        }
      }
    }
    const __m256 scale = scales_of(group_scales(tile, group), half);
    AITER_MOE_UNROLL
    for (int m = 0; m < Rows; ++m) {
      __m256 sum = _mm256_hadd_ps(dot[m][0][0], dot[m][0][1]);
      if (Rows == 1) sum = _mm256_add_ps(sum, _mm256_hadd_ps(dot[m][1][0], dot[m][1][1]));
      add_scaled(sum, scale, out + m * kLanes + kHalfLanes * half);
    }
  }
}

// `Rows`: most rows of a pass, which share a decoded tile. All groups of a tile go together.
template <int Rows, int>
struct A16W4 {
  static constexpr int kRows = Rows;
  static constexpr int kRowWords = kBlock;
  static constexpr int kActivationBits = 16;
  static constexpr int kFewRows = 5;
  static constexpr int kRunRows = 6;  // twelve sums, two vectors of weights, one activation

  static long words(int rows, int blocks) { return static_cast<long>(kRowWords) * rows * blocks; }

  // f32 values, [block][row][32]; each eight in the order 0 4 2 6 1 5 3 7 of four_k.
  static void pack(const RowSource* rows, int count, int blocks, uint32_t* to) {
    const __m256i order = _mm256_setr_epi32(0, 4, 2, 6, 1, 5, 3, 7);
    for (int m = 0; m < count; ++m) {
      const uint16_t* const from = static_cast<const uint16_t*>(rows[m].values);
      for (int k = 0; k < blocks * kBlock; k += 8) {
        const __m256i wide = _mm256_cvtepu16_epi32(
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + k)));
        const __m256i bits = _mm256_permutevar8x32_epi32(_mm256_slli_epi32(wide, 16), order);
        uint32_t* const block = to + (static_cast<long>(k / kBlock) * count + m) * kBlock;
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(block + k % kBlock), bits);
      }
    }
  }

  static void multiply(Panel panel, const uint8_t* next, int ahead, BlockRange range,
                       const uint32_t* x, int rows, int groups, float* out) {
    const Stream stream{panel, next, ahead, range};
    const long block_words = words(rows, 1);
    if (rows <= kFewRows) {
      with_rows<kFewRows>(rows, [&]<int Few>() {
        walk(stream, x, block_words, Few, groups, out,
             [](const uint8_t* tile, int group, const uint32_t* block, float* sums) {
               add_few_rows<Few>(tile, group, reinterpret_cast<const float*>(block), sums);
             });
      });
      return;
    }
    const Runs runs = runs_of<kRunRows>(rows);
    walk(stream, x, block_words, rows, groups, out,
         [runs](const uint8_t* tile, int group, const uint32_t* block, float* sums) {
           Values w;
           decode(tile, group, w);
           const float* const values = reinterpret_cast<const float*>(block);
           for_each_run<kRunRows>(runs, [&]<int Run>(int first) {
             add_rows<Run>(w, values + first * kBlock, sums + first * kLanes);
           });
         });
  }
};

}  // namespace aiter_moe::cpu::avx2
