// SPDX-License-Identifier: MIT
// Functions that hardware approximates to about one unit in the last place: here computed in
// binary64 and rounded once, by polynomials that compilers vectorise, so that results do not
// depend on a host's mathematical library. The 32-bit ones flush denormals whatever the mode says.
#pragma once

#include "emulator/exec/vector_float.h"

namespace aiter_moe::emulator::vector {

inline f32 flushed(f32 a) {
  return as<f32>(as<u32>(a) & (as<u32>(a) & 0x7f800000 ? ~0u : 0x80000000));
}

// Taylor series of 2^x for |x| <= 1/2; the next term is below 2^-53.
inline f64 exp2_reduced(f64 x) {
  const f64 y = x * 0x1.62e42fefa39efp-1;  // ln 2
  f64 sum = 1.0 / 6227020800;
  sum = sum * y + 1.0 / 479001600;
  sum = sum * y + 1.0 / 39916800;
  sum = sum * y + 1.0 / 3628800;
  sum = sum * y + 1.0 / 362880;
  sum = sum * y + 1.0 / 40320;
  sum = sum * y + 1.0 / 5040;
  sum = sum * y + 1.0 / 720;
  sum = sum * y + 1.0 / 120;
  sum = sum * y + 1.0 / 24;
  sum = sum * y + 1.0 / 6;
  sum = sum * y + 0.5;
  sum = sum * y + 1;
  return sum * y + 1;
}

// Adding and taking away 1.5 * 2^52 rounds to an integer, which the low bits then hold.
constexpr f64 integer_grid = 0x1.8p52;

inline f64 exp2_double(f32 a) {
  const f64 x = a > 1100.0f ? 1100.0f : a < -1100.0f ? -1100.0f : a;  // NaN stays
  const f64 shifted = x + integer_grid;
  const f64 whole = shifted - integer_grid;
  const i32 exponent = static_cast<i32>(static_cast<u32>(as<u64>(shifted)));
  const i32 first = exponent >> 1;  // in two steps: 2^1100 is no binary64
  return exp2_reduced(x - whole) * power_of_two(first) * power_of_two(exponent - first);
}

// log2 m = 2 / ln 2 * atanh((m - 1) / (m + 1)) for m in [sqrt(1/2), sqrt(2)].
inline f64 log2_reduced(f64 m) {
  const f64 t = (m - 1) / (m + 1), square = t * t;
  f64 sum = 1.0 / 23;
  sum = sum * square + 1.0 / 21;
  sum = sum * square + 1.0 / 19;
  sum = sum * square + 1.0 / 17;
  sum = sum * square + 1.0 / 15;
  sum = sum * square + 1.0 / 13;
  sum = sum * square + 1.0 / 11;
  sum = sum * square + 1.0 / 9;
  sum = sum * square + 1.0 / 7;
  sum = sum * square + 1.0 / 5;
  sum = sum * square + 1.0 / 3;
  sum = sum * square + 1;
  return sum * t * 0x1.71547652b82fep+1;
}

// Of a positive normal number of binary32's range.
inline f64 log2_positive(f32 a) {
  const u32 bits = as<u32>(a) - 0x3f3504f3;  // sqrt(1/2) begins each range of mantissas
  const i32 exponent = static_cast<i32>(bits) >> 23;
  const f32 mantissa = as<f32>((bits & 0x7fffff) + 0x3f3504f3);
  return exponent + log2_reduced(mantissa);
}

inline f64 log2_double(f32 a) {
  const f64 infinity = __builtin_inf(), nan = __builtin_nan("");
  const f64 finite = log2_positive(a);
  const f64 value = a == as<f32>(0x7f800000u) ? infinity : finite;
  return a == 0 ? -infinity : a > 0 ? value : nan;
}

// sin and cos of a turn fraction |x| <= 1/4, by Taylor series in the angle.
inline f64 sin_reduced(f64 x) {
  const f64 y = x * 0x1.921fb54442d18p+2, square = y * y;
  f64 sum = 1.0 / 51090942171709440000.0;
  sum = sum * square - 1.0 / 121645100408832000;
  sum = sum * square + 1.0 / 355687428096000;
  sum = sum * square - 1.0 / 1307674368000;
  sum = sum * square + 1.0 / 6227020800;
  sum = sum * square - 1.0 / 39916800;
  sum = sum * square + 1.0 / 362880;
  sum = sum * square - 1.0 / 5040;
  sum = sum * square + 1.0 / 120;
  sum = sum * square - 1.0 / 6;
  return sum * square * y + y;
}

// sin of x turns; beyond 256 turns hardware gives 0.
inline f64 sin_turns(f64 x) {
  const f64 limited = __builtin_fabs(x) <= 256 ? x : x - x;
  const f64 rest = limited - ((limited + integer_grid) - integer_grid);  // -1/2 to 1/2
  const f64 folded = rest > 0.25 ? 0.5 - rest : rest < -0.25 ? -0.5 - rest : rest;
  const f64 value = sin_reduced(folded);
  return __builtin_fabs(x) > 256 && __builtin_fabs(x) < __builtin_inf() ? 0.0 : value;
}
inline f64 cos_turns(f64 x) {
  const f64 limited = __builtin_fabs(x) <= 256 ? x : x - x;
  const f64 rest = limited - ((limited + integer_grid) - integer_grid);
  const f64 value = sin_reduced(0.25 - __builtin_fabs(rest));
  return __builtin_fabs(x) > 256 && __builtin_fabs(x) < __builtin_inf() ? 1.0 : value;
}

inline f32 exp2_float(f32 a) { return flushed(static_cast<f32>(exp2_double(flushed(a)))); }
inline f32 log2_float(f32 a) { return flushed(static_cast<f32>(log2_double(flushed(a)))); }
inline f32 reciprocal(f32 a) { return flushed(1.0f / flushed(a)); }
inline f32 square_root(f32 a) { return __builtin_sqrtf(flushed(a)); }
inline f32 reciprocal_root(f32 a) {
  return static_cast<f32>(1.0 / __builtin_sqrt(static_cast<f64>(flushed(a))));
}
inline f32 sin_float(f32 a) { return flushed(static_cast<f32>(sin_turns(flushed(a)))); }
inline f32 cos_float(f32 a) { return flushed(static_cast<f32>(cos_turns(flushed(a)))); }

inline Half exp2_half(Half a) { return to_half(exp2_double(to_float(a))); }
inline Half log2_half(Half a) { return to_half(log2_double(to_float(a))); }
inline Half reciprocal_half(Half a) { return to_half(1.0 / to_float(a)); }
inline Half square_root_half(Half a) { return to_half(__builtin_sqrtf(to_float(a))); }
inline Half reciprocal_root_half(Half a) {
  return to_half(1.0 / __builtin_sqrt(static_cast<f64>(to_float(a))));
}
inline Half sin_half(Half a) { return to_half(sin_turns(to_float(a))); }
inline Half cos_half(Half a) { return to_half(cos_turns(to_float(a))); }

inline f64 reciprocal_double(f64 a) { return 1.0 / a; }
inline f64 square_root_double(f64 a) { return __builtin_sqrt(a); }
inline f64 reciprocal_root_double(f64 a) { return 1.0 / __builtin_sqrt(a); }

}  // namespace aiter_moe::emulator::vector
