// SPDX-License-Identifier: MIT
// The 16-bit floats as values of a lane, by integer arithmetic only: compilers vectorise it, and
// no host needs instructions for them. Every conversion rounds once, to nearest even.
#pragma once

#include "emulator/exec/branchless.h"

namespace aiter_moe::emulator {

// IEEE binary16.
struct Half {
  u16 bits;
};

// No product of denormals: hosts take long for those.
inline float to_float(Half half) {
  const u32 magnitude = half.bits & 0x7fff, moved = magnitude << 13;
  const float denormal = static_cast<float>(static_cast<i32>(magnitude)) * 0x1p-24f;
  const u32 number =
      choose(magnitude < 0x400, __builtin_bit_cast(u32, denormal), moved + 0x38000000);
  const u32 value = choose(magnitude < 0x7c00, number, moved | 0x7f800000);
  return __builtin_bit_cast(float, value | static_cast<u32>(half.bits & 0x8000) << 16);
}

inline Half to_half(float value) {
  const u32 bits = __builtin_bit_cast(u32, value);
  const u32 magnitude = bits & 0x7fffffff;
  const u32 normal = (magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13;
  // 0.5 has a last place of 2^-24, the step of half denormals
  const float aligned = __builtin_bit_cast(float, magnitude) + 0.5f;
  const u32 denormal = __builtin_bit_cast(u32, aligned) - 0x3f000000;
  const u32 number = choose(magnitude < 0x38800000, denormal, normal);
  const u32 limited = choose(magnitude < 0x47800000, number, u32{0x7c00});
  const u32 nan = 0x7e00 | (magnitude >> 13 & 0x3ff);
  const u32 half = choose(magnitude > 0x7f800000, nan, limited);
  return {static_cast<u16>(half | (bits >> 16 & 0x8000))};
}

// Rounds to odd: a further rounding to a format of fewer than 23 bits is then exact.
inline float narrow_to_odd(double value) {
  const float nearest = static_cast<float>(value);
  const double back = nearest;
  const u32 bits = __builtin_bit_cast(u32, nearest);
  const u32 above = __builtin_fabs(back) > __builtin_fabs(value), inexact = back != value;
  return __builtin_bit_cast(float, (bits - above) | inexact);
}

inline Half to_half(double value) { return to_half(narrow_to_odd(value)); }

// Towards zero; beyond the range the largest finite value.
inline Half to_half_towards_zero(float value) {
  const u32 bits = __builtin_bit_cast(u32, value);
  const u32 magnitude = bits & 0x7fffffff;
  const u32 normal = (magnitude - 0x38000000) >> 13;
  const u32 shift = 126 - (magnitude >> 23);  // of 2^-14 > value >= 2^-25
  const u32 denormal = ((magnitude & 0x7fffff) | 0x800000) >> (shift < 31 ? shift : 31);
  const u32 number = choose(magnitude < 0x38800000, denormal, normal);
  const u32 limited = choose(magnitude < 0x47800000, number, u32{0x7bff});
  const u32 special = 0x7c00 | (magnitude > 0x7f800000 ? 0x200 : 0) | (magnitude >> 13 & 0x3ff);
  const u32 half = choose(magnitude < 0x7f800000, limited, special);
  return {static_cast<u16>(half | (bits >> 16 & 0x8000))};
}

inline float bfloat_to_float(u32 low_bits) {
  return __builtin_bit_cast(float, low_bits << 16);
}

inline u32 to_bfloat(float value) {
  const u32 bits = __builtin_bit_cast(u32, value);
  const u32 nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  const u32 nan = bits >> 16 | 0x40;
  return choose((bits & 0x7fffffff) > 0x7f800000, nan, nearest);
}

inline u32 to_bfloat(double value) { return to_bfloat(narrow_to_odd(value)); }

}  // namespace aiter_moe::emulator
