// SPDX-License-Identifier: MIT
// Conversions between float32 and the 16-bit formats in plain integer arithmetic, rounding to
// nearest even; they vectorise for whatever instruction set the unit is compiled for.
#pragma once

#include <stdint.h>

namespace aiter_moe {

// Values are those of aiter_moe/targets/cpu_runtime.py.
enum class Float : int { kBf16 = 0, kF16 = 1, kF32 = 2 };

inline uint32_t bits_of(float value) { return __builtin_bit_cast(uint32_t, value); }

inline float float_of(uint32_t bits) { return __builtin_bit_cast(float, bits); }

// Both sides computed, one taken: a branch around float arithmetic, which may trap, would keep
// the compiler from vectorising.
inline uint32_t choose(bool first, uint32_t a, uint32_t b) {
  const uint32_t mask = 0u - static_cast<uint32_t>(first);
  return (a & mask) | (b & ~mask);
}

inline float bf16_to_f32(uint16_t half) { return float_of(static_cast<uint32_t>(half) << 16); }

inline uint16_t f32_to_bf16(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
  const uint32_t quiet_nan = bits >> 16 | 0x40u;
  return static_cast<uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? quiet_nan : rounded);
}

inline float f16_to_f32(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(half & 0x7FFFu) << 13;
  // Exponent 31 (inf, NaN) becomes 255; others are rebased by a multiplication, which also
  // normalises denormals.
  const uint32_t special = magnitude | 0x7F800000u;
  const uint32_t scaled = bits_of(float_of(magnitude) * float_of(0x77800000u));  // 2^112
  return float_of(sign | choose(magnitude >= 0x0F800000u, special, scaled));
}

inline uint16_t f32_to_f16(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  // Below 2^-14: adding 0.5 leaves the rounded multiple of 2^-24 in the low bits.
  const uint32_t denormal = bits_of(float_of(magnitude) + 0.5f) - 0x3F000000u;
  const uint32_t normal = (magnitude - 0x38000000u + 0xFFFu + (magnitude >> 13 & 1u)) >> 13;
  const uint32_t nan = 0x7E00u | (magnitude >> 13 & 0x3FFu);
  uint32_t half = choose(magnitude < 0x38800000u, denormal, normal);
  half = choose(magnitude >= 0x477FF000u, 0x7C00u, half);  // 65520 and above round to infinity
  half = choose(magnitude > 0x7F800000u, nan, half);
  return static_cast<uint16_t>(sign | half);
}

}  // namespace aiter_moe
