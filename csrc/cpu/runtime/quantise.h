// SPDX-License-Identifier: MIT
// Rows of bf16, fp16 or f32 to MXFP4: fp4 codes in pairs (even element low) and one e8m0 byte per
// 32 elements. Bit-equal to aiter_moe/formats/mxfp4.py; codes of a block whose scale is 255
// (an infinity or NaN inside) are 0.
#pragma once

#if defined(__AVX512F__) && defined(__AVX512BW__)
#include <immintrin.h>
#endif

#include "cpu/runtime/convert.h"
#include "cpu/runtime/pool.h"

namespace aiter_moe {

// Values are aiter's (aiter_moe.enums.ScaleRounding).
enum class Rounding : int { kDown = 0, kUp = 1, kEven = 2, kCeil = 3 };

constexpr uint32_t kInfinityBits = 0x7F800000u;
constexpr uint32_t kNanScale = 255;

// The scale of a block from the bits of its largest magnitude.
inline uint32_t scale_byte(uint32_t amax_bits, Rounding rounding) {
  if (amax_bits >= kInfinityBits) return kNanScale;
  const float amax = float_of(amax_bits);
  uint32_t target = bits_of(amax * 0.25f);
  if (rounding == Rounding::kUp) target = bits_of(amax / 6.0f);
  if (rounding == Rounding::kEven) {
    target = bits_of(float_of((amax_bits + 0x200000u) & kInfinityBits) * 0.25f);
  }
  const bool up = rounding == Rounding::kUp || rounding == Rounding::kCeil;
  return (target >> 23) + (up && (target & 0x7FFFFFu) != 0);
}

// 1 / value(scale), exact; 0 for a NaN scale, which makes all its codes 0.
inline float inverse_scale(uint32_t scale) {
  if (scale == kNanScale) return 0.0f;
  if (scale == 254) return float_of(0x00400000u);  // 2^-127
  return float_of((254u - scale) << 23);
}

#if defined(__AVX512F__) && defined(__AVX512BW__)

inline void load_block(const uint16_t* x, Float type, __m512& low, __m512& high) {
  const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  const __m256i second = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + 16));
  if (type == Float::kBf16) {
    low = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(first), 16));
    high = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(second), 16));
  } else {
    low = _mm512_cvtph_ps(first);
    high = _mm512_cvtph_ps(second);
  }
}

inline void load_block(const float* x, Float, __m512& low, __m512& high) {
  low = _mm512_loadu_ps(x);
  high = _mm512_loadu_ps(x + 16);
}

// Codes 0..15 of 16 values, one per 32-bit lane.
inline __m512i fp4_codes(__m512 value) {
  const __m512i bits = _mm512_castps_si512(value);
  const __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7FFFFFFF));
  // From 1 on: round the mantissa to one bit; exponent and mantissa then count codes up from 2.
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(magnitude, 22), _mm512_set1_epi32(1));
  const __m512i carried =
      _mm512_add_epi32(_mm512_add_epi32(magnitude, _mm512_set1_epi32(0x1FFFFF)), odd);
  const __m512i large =
      _mm512_sub_epi32(_mm512_srli_epi32(carried, 22), _mm512_set1_epi32(2 * 127 - 2));
  // Below 1: adding 2^22 rounds to a multiple of a half, counted in the low bits.
  const __m512i shift = _mm512_set1_epi32(0x4A800000);
  const __m512i small = _mm512_sub_epi32(
      _mm512_castps_si512(
          _mm512_add_ps(_mm512_castsi512_ps(magnitude), _mm512_castsi512_ps(shift))),
      shift);
  const __mmask16 below =
      _mm512_cmplt_epu32_mask(magnitude, _mm512_set1_epi32(0x3F800000));
  const __m512i code = _mm512_min_epu32(_mm512_mask_mov_epi32(large, below, small),
                                        _mm512_set1_epi32(7));
  const __m512i sign =
      _mm512_and_si512(_mm512_srli_epi32(bits, 28), _mm512_set1_epi32(8));
  return _mm512_or_si512(code, sign);
}

// Pairs of lanes to bytes.
inline __m128i pack_codes(__m512i codes) {
  return _mm512_cvtepi64_epi8(_mm512_or_si512(codes, _mm512_srli_epi64(codes, 28)));
}

template <typename Element>
inline uint32_t quantise_block(const Element* x, Float type, Rounding rounding, uint8_t* codes) {
  __m512 low, high;
  load_block(x, type, low, high);
  const __m512i positive = _mm512_set1_epi32(0x7FFFFFFF);
  // Magnitudes order as integers; an infinity or NaN is above all others.
  const __m512i most =
      _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(low), positive),
                       _mm512_and_si512(_mm512_castps_si512(high), positive));
  const uint32_t scale = scale_byte(_mm512_reduce_max_epu32(most), rounding);
  if (scale == kNanScale) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), _mm_setzero_si128());
    return scale;
  }
  const __m512 inverse = _mm512_set1_ps(inverse_scale(scale));
  const __m128i first = pack_codes(fp4_codes(_mm512_mul_ps(low, inverse)));
  const __m128i second = pack_codes(fp4_codes(_mm512_mul_ps(high, inverse)));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), _mm_unpacklo_epi64(first, second));
  return scale;
}

#else

inline float element(const uint16_t* x, int i, Float type) {
  return type == Float::kBf16 ? bf16_to_f32(x[i]) : f16_to_f32(x[i]);
}

inline float element(const float* x, int i, Float) { return x[i]; }

// Code 0..15 of one value; the steps are those of the vector version.
inline uint32_t fp4_code(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  const uint32_t large = ((magnitude + 0x1FFFFFu + (magnitude >> 22 & 1u)) >> 22) - (2 * 127 - 2);
  const uint32_t small = bits_of(float_of(magnitude) + float_of(0x4A800000u)) - 0x4A800000u;
  const uint32_t code = magnitude < 0x3F800000u ? small : large;
  return (code < 7u ? code : 7u) | (bits >> 28 & 8u);
}

template <typename Element>
inline uint32_t quantise_block(const Element* x, Float type, Rounding rounding, uint8_t* codes) {
  float values[32];
  uint32_t most = 0;
  for (int i = 0; i < 32; ++i) values[i] = element(x, i, type);
  for (int i = 0; i < 32; ++i) most = larger(most, bits_of(values[i]) & 0x7FFFFFFFu);
  const uint32_t scale = scale_byte(most, rounding);
  if (scale == kNanScale) {
    host_memset(codes, 0, 16);
    return scale;
  }
  const float inverse = inverse_scale(scale);
  uint32_t parts[32];
  for (int i = 0; i < 32; ++i) parts[i] = fp4_code(values[i] * inverse);
  for (int i = 0; i < 16; ++i) {
    codes[i] = static_cast<uint8_t>(parts[2 * i] | parts[2 * i + 1] << 4);
  }
  return scale;
}

#endif

struct QuantiseArgs {
  const void* x;       // rows of `columns` elements, `stride` elements apart
  uint8_t* codes;      // [rows][columns / 2]
  uint8_t* scales;     // [rows][columns / 32]
  long rows;
  long columns;
  long stride;
  Float type;
  Rounding rounding;
};

template <typename Element>
inline void quantise_row(const QuantiseArgs& args, long row) {
  const long blocks = args.columns / 32;
  const Element* x = static_cast<const Element*>(args.x) + row * args.stride;
  uint8_t* codes = args.codes + row * (args.columns / 2);
  uint8_t* scales = args.scales + row * blocks;
  for (long block = 0; block < blocks; ++block) {
    scales[block] = static_cast<uint8_t>(
        quantise_block(x + 32 * block, args.type, args.rounding, codes + 16 * block));
  }
}

inline void quantise(const QuantiseArgs& args, int threads) {
  static constexpr long kElementsPerThread = 32768;  // below that a barrier costs more than it gives
  static constexpr Task task{
      [](const void*) { return 1; },
      [](const void* context, int) { return static_cast<const QuantiseArgs*>(context)->rows; },
      [](const void* context, int, long begin, long end, int) {
        const QuantiseArgs& rows = *static_cast<const QuantiseArgs*>(context);
        for (long row = begin; row < end; ++row) {
          if (rows.type == Float::kF32) {
            quantise_row<float>(rows, row);
          } else {
            quantise_row<uint16_t>(rows, row);
          }
        }
      }};
  const long useful = args.rows * args.columns / kElementsPerThread;
  Pool::run(task, &args, static_cast<int>(smaller<long>(threads, useful)));
}

}  // namespace aiter_moe
