// SPDX-License-Identifier: MIT
// Floats of 8, 6 and 4 bits as numbers and back: to nearest even or by added noise (stochastic
// rounding). Vectorised by compilers: no tables.
#pragma once

#include "emulator/exec/vector_float.h"

namespace aiter_moe::emulator::vector {

// What the largest codes mean.
enum class Specials : u8 {
  none,          // numbers, like all others
  nan,           // the largest magnitude is NaN (OCP e4m3)
  infinity_nan,  // as IEEE says
  negative_zero  // the code of -0 is NaN, magnitudes are all numbers (FNUZ)
};

struct SmallFormat {
  int exponent_bits;
  int mantissa_bits;
  int bias;
  Specials specials;
};

constexpr SmallFormat fp8_ocp = {4, 3, 7, Specials::nan};
constexpr SmallFormat bf8_ocp = {5, 2, 15, Specials::infinity_nan};
constexpr SmallFormat fp8_fnuz = {4, 3, 8, Specials::negative_zero};
constexpr SmallFormat bf8_fnuz = {5, 2, 16, Specials::negative_zero};
constexpr SmallFormat fp6 = {2, 3, 1, Specials::none};
constexpr SmallFormat bf6 = {3, 2, 3, Specials::none};
constexpr SmallFormat fp4 = {2, 1, 1, Specials::none};

constexpr int magnitude_bits(SmallFormat f) { return f.exponent_bits + f.mantissa_bits; }
constexpr u32 sign_of_code(SmallFormat f) { return 1u << magnitude_bits(f); }
constexpr u32 magnitude_mask(SmallFormat f) { return sign_of_code(f) - 1; }

// The largest code of a number.
constexpr u32 most_finite(SmallFormat f) {
  const u32 most = magnitude_mask(f);
  if (f.specials == Specials::nan) return most - 1;
  if (f.specials == Specials::infinity_nan) return most - (1u << f.mantissa_bits);
  return most;
}
constexpr u32 nan_code(SmallFormat f) {
  return f.specials == Specials::negative_zero ? sign_of_code(f) : magnitude_mask(f);
}

// 2^(field - 127) for the exponent field of a scale; the field 255 is NaN.
inline f32 power_of_field(u32 field) {
  const f32 normal = as<f32>(field << 23);
  const f32 power = field == 0 ? 0x1p-127f : normal;
  return field == 255 ? __builtin_nanf("") : power;
}
inline u32 exponent_field(f32 scale) { return as<u32>(scale) >> 23 & 255; }

template <SmallFormat f>
inline f32 decode(u32 code) {
  constexpr int shift = 23 - f.mantissa_bits;
  constexpr f32 step = as<f32>(static_cast<u32>(128 - f.bias - f.mantissa_bits) << 23);
  const u32 size = code & magnitude_mask(f), moved = size << shift;
  const u32 sign = (code & sign_of_code(f)) << (31 - magnitude_bits(f));
  const u32 denormal = as<u32>(static_cast<f32>(static_cast<i32>(size)) * step);
  const u32 normal = moved + (static_cast<u32>(127 - f.bias) << 23);
  const u32 number = size < 1u << f.mantissa_bits ? denormal : normal;
  if constexpr (f.specials == Specials::negative_zero)
    return as<f32>((code & 0xff) == nan_code(f) ? 0x7fc00000 : number | sign);
  const u32 special = 0x7f800000 | (moved & 0x7fffff);
  return as<f32>(sign | (size > most_finite(f) ? special : number));
}

// How a number that lies between two codes is rounded.
enum class Rounding : u8 { nearest, stochastic };

// Beyond the largest number: that number, or what the format has for infinity.
enum class Overflow : u8 { special, saturates };

template <SmallFormat f>
constexpr u32 overflow_code(Overflow overflow) {
  if (f.specials == Specials::none || overflow == Overflow::saturates) return most_finite(f);
  return f.specials == Specials::infinity_nan ? most_finite(f) + 1 : nan_code(f);
}

// The code of |value|; `noise` is a fraction of the last place in 1/2^32, for stochastic rounding.
template <SmallFormat f, Rounding rounding, Overflow overflow>
inline u32 encode(f64 value, u32 noise) {
  constexpr i64 least = 1 - f.bias;
  constexpr f64 grid = 0x1.8p52;  // rounds to integers
  const f64 size = __builtin_fabs(value);
  const i64 exponent = static_cast<i64>(as<u64>(size) >> 52) - 1023;
  const i64 place = exponent < least ? least : exponent;
  const f64 in_steps = size * as<f64>(static_cast<u64>(1023 + f.mantissa_bits - place) << 52);
  const f64 chosen =
      rounding == Rounding::nearest ? in_steps : __builtin_floor(in_steps + noise * 0x1p-32);
  const u64 steps = as<u64>(chosen + grid) - as<u64>(grid);
  const u64 code = (static_cast<u64>(place - least) << f.mantissa_bits) + steps;
  const u32 finite = static_cast<u32>(code > most_finite(f) ? overflow_code<f>(overflow) : code);
  const u32 sign = static_cast<u32>(as<u64>(value) >> 63) << magnitude_bits(f);
  const u32 size_code = size != size ? nan_code(f) : finite;
  if constexpr (f.specials == Specials::negative_zero)
    return size_code == 0 || size_code == nan_code(f) ? size_code : size_code | sign;
  return size_code | sign;
}

}  // namespace aiter_moe::emulator::vector
