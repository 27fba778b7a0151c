// SPDX-License-Identifier: MIT
// The 16-bit floats as values of a lane, by integer arithmetic only: compilers vectorise it, and
// no host needs instructions for them. Every conversion rounds once, to nearest even.
#pragma once

#include "emulator/isa/instruction.h"

namespace aiter_moe::emulator {

// IEEE binary16.
struct Half {
  u16 bits;
};

inline float to_float(Half half) {
  const u32 magnitude = static_cast<u32>(half.bits & 0x7fff) << 13;
  const u32 sign = static_cast<u32>(half.bits & 0x8000) << 16;
  const float scaled = __builtin_bit_cast(float, magnitude) * 0x1p112f;
  const u32 finite = __builtin_bit_cast(u32, scaled);
  const u32 special = 0x7f800000 | magnitude;
  return __builtin_bit_cast(float, sign | (magnitude >= 0x0f800000 ? special : finite));
}

inline Half to_half(float value) {
  const u32 bits = __builtin_bit_cast(u32, value);
  const u32 magnitude = bits & 0x7fffffff;
  const u32 normal = (magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13;
  // 0.5 has a last place of 2^-24, the step of half denormals
  const float aligned = __builtin_bit_cast(float, magnitude) + 0.5f;
  const u32 denormal = __builtin_bit_cast(u32, aligned) - 0x3f000000;
  u32 half = magnitude < 0x38800000 ? denormal : normal;
  half = magnitude >= 0x47800000 ? 0x7c00 : half;
  half = magnitude > 0x7f800000 ? 0x7e00 | (magnitude >> 13 & 0x3ff) : half;
  return {static_cast<u16>(half | (bits >> 16 & 0x8000))};
}

// Rounds to odd: a further rounding to a format of fewer than 23 bits is then exact.
inline float narrow_to_odd(double value) {
  const float nearest = static_cast<float>(value);
  const double back = nearest;
  u32 bits = __builtin_bit_cast(u32, nearest);
  bits -= __builtin_fabs(back) > __builtin_fabs(value) ? 1 : 0;
  bits |= back != value ? 1 : 0;
  return __builtin_bit_cast(float, bits);
}

inline Half to_half(double value) { return to_half(narrow_to_odd(value)); }

// Towards zero; beyond the range the largest finite value.
inline Half to_half_towards_zero(float value) {
  const u32 bits = __builtin_bit_cast(u32, value);
  const u32 magnitude = bits & 0x7fffffff;
  const u32 normal = (magnitude - 0x38000000) >> 13;
  const u32 shift = 126 - (magnitude >> 23);  // of 2^-14 > value >= 2^-25
  const u32 denormal = shift < 32 ? ((magnitude & 0x7fffff) | 0x800000) >> shift : 0;
  u32 half = magnitude < 0x38800000 ? denormal : normal;
  half = magnitude >= 0x47800000 ? 0x7bff : half;
  half = magnitude == 0x7f800000 ? 0x7c00 : half;
  half = magnitude > 0x7f800000 ? 0x7e00 | (magnitude >> 13 & 0x3ff) : half;
  return {static_cast<u16>(half | (bits >> 16 & 0x8000))};
}

inline float bfloat_to_float(u32 low_bits) {
  return __builtin_bit_cast(float, low_bits << 16);
}

inline u32 to_bfloat(float value) {
  const u32 bits = __builtin_bit_cast(u32, value);
  const u32 nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  const u32 nan = bits >> 16 | 0x40;
  return (bits & 0x7fffffff) > 0x7f800000 ? nan : nearest;
}

inline u32 to_bfloat(double value) { return to_bfloat(narrow_to_odd(value)); }

}  // namespace aiter_moe::emulator
