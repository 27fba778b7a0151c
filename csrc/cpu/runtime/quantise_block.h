// SPDX-License-Identifier: MIT
// One block of 32 bf16, fp16 or f32 values to MXFP4: fp4 codes in pairs (even element low) and an
// e8m0 byte. Bit-equal to aiter_moe/formats/mxfp4.py; codes of a block whose scale is 255 (an
// infinity or NaN inside) are 0. With AVX-512, with AVX2, or without either.
#pragma once

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "cpu/runtime/convert.h"

namespace aiter_moe {

// Values are aiter's (aiter_moe.enums.ScaleRounding).
enum class Rounding : int { kDown = 0, kUp = 1, kEven = 2, kCeil = 3 };

constexpr uint32_t kInfinityBits = 0x7F800000u;
constexpr uint32_t kNanScale = 255;

// The scale of a block from the bits of its largest magnitude.
template <Rounding kRounding>
inline uint32_t scale_byte(uint32_t amax_bits) {
  if (amax_bits >= kInfinityBits) return kNanScale;
  const float amax = float_of(amax_bits);
  uint32_t target = bits_of(amax * 0.25f);
  if (kRounding == Rounding::kUp) target = bits_of(amax / 6.0f);
  if (kRounding == Rounding::kEven) {
    target = bits_of(float_of((amax_bits + 0x200000u) & kInfinityBits) * 0.25f);
  }
  const bool up = kRounding == Rounding::kUp || kRounding == Rounding::kCeil;
  return (target >> 23) + (up && (target & 0x7FFFFFu) != 0);
}

// 1 / value(scale), exact; 0 for a NaN scale, which makes all its codes 0.
inline float inverse_scale(uint32_t scale) {
  if (scale == kNanScale) return 0.0f;
  if (scale == 254) return float_of(0x00400000u);  // 2^-127
  return float_of((254u - scale) << 23);
}

#if defined(__AVX512F__) && defined(__AVX512BW__)

// 16 values from element `first` on, widened to f32.
template <Float kType>
inline __m512 load_values(const void* x, long first) {
  if constexpr (kType == Float::kF32) {
    return _mm512_loadu_ps(static_cast<const float*>(x) + first);
  } else {
    const uint16_t* from = static_cast<const uint16_t*>(x) + first;
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    if constexpr (kType == Float::kF16) return _mm512_cvtph_ps(half);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
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

template <Float kType, Rounding kRounding>
inline uint32_t quantise_block(const void* x, long first, uint8_t* codes) {
  const __m512 low = load_values<kType>(x, first);
  const __m512 high = load_values<kType>(x, first + 16);
  const __m512i positive = _mm512_set1_epi32(0x7FFFFFFF);
  // Magnitudes order as integers; an infinity or NaN is above all others.
  const __m512i most =
      _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(low), positive),
                       _mm512_and_si512(_mm512_castps_si512(high), positive));
  const uint32_t scale = scale_byte<kRounding>(_mm512_reduce_max_epu32(most));
  if (scale == kNanScale) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), _mm_setzero_si128());
    return scale;
  }
  const __m512 inverse = _mm512_set1_ps(inverse_scale(scale));
  const __m128i head = pack_codes(fp4_codes(_mm512_mul_ps(low, inverse)));
  const __m128i tail = pack_codes(fp4_codes(_mm512_mul_ps(high, inverse)));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), _mm_unpacklo_epi64(head, tail));
  return scale;
}

#elif defined(__AVX2__) && defined(__F16C__)

// 8 values from element `first` on, widened to f32.
template <Float kType>
inline __m256 load_values(const void* x, long first) {
  if constexpr (kType == Float::kF32) {
    return _mm256_loadu_ps(static_cast<const float*>(x) + first);
  } else {
    const uint16_t* from = static_cast<const uint16_t*>(x) + first;
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    if constexpr (kType == Float::kF16) return _mm256_cvtph_ps(half);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
  }
}

inline __m256i magnitudes(__m256 values) {
  return _mm256_and_si256(_mm256_castps_si256(values), _mm256_set1_epi32(0x7FFFFFFF));
}

// The largest of eight numbers below 2^31.
inline uint32_t largest(__m256i numbers) {
  __m128i most = _mm_max_epu32(_mm256_castsi256_si128(numbers),
                               _mm256_extracti128_si256(numbers, 1));
  most = _mm_max_epu32(most, _mm_shuffle_epi32(most, 0x4E));
  most = _mm_max_epu32(most, _mm_shuffle_epi32(most, 0xB1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(most));
}

// Codes 0..15 of 8 values, one per 32-bit lane; the steps are those of the AVX-512 version.
inline __m256i fp4_codes(__m256 value) {
  const __m256i magnitude = magnitudes(value);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(magnitude, 22), _mm256_set1_epi32(1));
  const __m256i carried =
      _mm256_add_epi32(_mm256_add_epi32(magnitude, _mm256_set1_epi32(0x1FFFFF)), odd);
  const __m256i large =
      _mm256_sub_epi32(_mm256_srli_epi32(carried, 22), _mm256_set1_epi32(2 * 127 - 2));
  const __m256i shift = _mm256_set1_epi32(0x4A800000);
  const __m256i small = _mm256_sub_epi32(
      _mm256_castps_si256(
          _mm256_add_ps(_mm256_castsi256_ps(magnitude), _mm256_castsi256_ps(shift))),
      shift);
  const __m256i below = _mm256_cmpgt_epi32(_mm256_set1_epi32(0x3F800000), magnitude);
  const __m256i code =
      _mm256_min_epu32(_mm256_blendv_epi8(large, small, below), _mm256_set1_epi32(7));
  const __m256i sign = _mm256_and_si256(_mm256_srli_epi32(_mm256_castps_si256(value), 28),
                                        _mm256_set1_epi32(8));
  return _mm256_or_si256(code, sign);
}

// 32 codes to 16 bytes.
inline __m128i pack_codes(const __m256i (&codes)[4]) {
  const __m256i bytes = _mm256_packus_epi16(_mm256_packus_epi32(codes[0], codes[1]),
                                            _mm256_packus_epi32(codes[2], codes[3]));
  const __m256i natural =
      _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  const __m256i pairs = _mm256_maddubs_epi16(natural, _mm256_set1_epi16(0x1001));
  return _mm_packus_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
}

template <Float kType, Rounding kRounding>
inline uint32_t quantise_block(const void* x, long first, uint8_t* codes) {
  __m256 values[4];
  __m256i most = _mm256_setzero_si256();
  for (int i = 0; i < 4; ++i) {
    values[i] = load_values<kType>(x, first + 8 * i);
    most = _mm256_max_epu32(most, magnitudes(values[i]));
  }
  const uint32_t scale = scale_byte<kRounding>(largest(most));
  if (scale == kNanScale) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), _mm_setzero_si128());
    return scale;
  }
  const __m256 inverse = _mm256_set1_ps(inverse_scale(scale));
  __m256i parts[4];
  for (int i = 0; i < 4; ++i) parts[i] = fp4_codes(_mm256_mul_ps(values[i], inverse));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), pack_codes(parts));
  return scale;
}

#else

template <Float kType>
inline float element(const void* x, long i) {
  if constexpr (kType == Float::kF32) return static_cast<const float*>(x)[i];
  const uint16_t half = static_cast<const uint16_t*>(x)[i];
  return kType == Float::kBf16 ? bf16_to_f32(half) : f16_to_f32(half);
}

// Code 0..15 of one value; the steps are those of the vector version.
inline uint32_t fp4_code(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  const uint32_t large = ((magnitude + 0x1FFFFFu + (magnitude >> 22 & 1u)) >> 22) - (2 * 127 - 2);
  const uint32_t small = bits_of(float_of(magnitude) + float_of(0x4A800000u)) - 0x4A800000u;
  const uint32_t code = choose(magnitude < 0x3F800000u, small, large);
  return (code < 7 ? code : 7) | (bits >> 28 & 8u);
}

template <Float kType, Rounding kRounding>
inline uint32_t quantise_block(const void* x, long first, uint8_t* codes) {
  float values[32];
  int32_t most = 0;
  for (int i = 0; i < 32; ++i) values[i] = element<kType>(x, first + i);
  for (int i = 0; i < 32; ++i) {
    const int32_t magnitude = static_cast<int32_t>(bits_of(values[i]) & 0x7FFFFFFFu);
    most = most > magnitude ? most : magnitude;
  }
  const uint32_t scale = scale_byte<kRounding>(static_cast<uint32_t>(most));
  if (scale == kNanScale) {
    __builtin_memset(codes, 0, 16);
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

}  // namespace aiter_moe
