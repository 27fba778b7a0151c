// SPDX-License-Identifier: MIT
// Floating point arithmetic of one lane in the three IEEE formats: sums, products, minima, integral
// parts, mantissas and exponents. Results are rounded once. Not here: division's steps
// (vector_division.h), functions that hardware approximates (vector_transcendental.h).
#pragma once

#include "emulator/exec/vector_lane.h"

namespace aiter_moe::emulator::vector {

// A float as the host's number that holds it exactly.
inline f32 number(Half a) { return to_float(a); }
inline f32 number(f32 a) { return a; }
inline f64 number(f64 a) { return a; }

// A number that is exact, or was rounded to twice the precision and more, in the format.
template <class T>
inline T rounded(f32 a);
template <>
inline Half rounded<Half>(f32 a) {
  return to_half(a);
}
template <>
inline f32 rounded<f32>(f32 a) {
  return a;
}

template <class T>
inline T add_float(T a, T b) {
  if constexpr (sizeof(T) == 8) return a + b;
  else return rounded<T>(number(a) + number(b));
}
template <class T>
inline T subtract_float(T a, T b) {
  if constexpr (sizeof(T) == 8) return a - b;
  else return rounded<T>(number(a) - number(b));
}
template <class T>
inline T multiply_float(T a, T b) {
  if constexpr (sizeof(T) == 8) return a * b;
  else return rounded<T>(number(a) * number(b));
}

inline f32 fma_float(f32 a, f32 b, f32 c) { return __builtin_fmaf(a, b, c); }
inline f64 fma_float(f64 a, f64 b, f64 c) { return __builtin_fma(a, b, c); }
// The product is exact in binary64. The sum is too, unless the smaller term lies so far below the
// larger one that it can only break no tie.
inline Half fma_float(Half a, Half b, Half c) {
  return to_half(static_cast<f64>(to_float(a)) * to_float(b) + to_float(c));
}
template <class T>
inline T fused(T a, T b, T c) {
  return fma_float(a, b, c);
}
// Two roundings.
inline Half multiply_then_add(Half a, Half b, Half c) {
  return add_float(multiply_float(a, b), c);
}
// 0 times anything is 0.
inline f32 multiply_legacy(f32 a, f32 b) { return a == 0 || b == 0 ? 0 : a * b; }

inline bool is_nan(Half a) { return (a.bits & 0x7fff) > 0x7c00; }
inline bool is_nan(f32 a) { return a != a; }
inline bool is_nan(f64 a) { return a != a; }
// The bit that makes a NaN quiet is clear.
inline bool is_signalling(Half a) { return both(is_nan(a), !(a.bits & 0x200)); }
inline bool is_signalling(f32 a) { return both(is_nan(a), !(as<u32>(a) & 0x400000)); }
inline bool is_signalling(f64 a) { return both(is_nan(a), !(as<u64>(a) & 1ull << 51)); }
inline Half quieted(Half a) { return {static_cast<u16>(a.bits | 0x200)}; }
inline f32 quieted(f32 a) { return as<f32>(as<u32>(a) | 0x400000); }
inline f64 quieted(f64 a) { return as<f64>(as<u64>(a) | 1ull << 51); }
inline bool is_negative(Half a) { return a.bits >> 15; }
inline bool is_negative(f32 a) { return as<u32>(a) >> 31; }
inline bool is_negative(f64 a) { return as<u64>(a) >> 63; }

// Whether a comes first: -0 before +0. Here and below without branches, to be
// vectorised.
template <class T>
inline bool precedes(T a, T b) {
  return either(number(a) < number(b), both(number(a) == number(b), is_negative(a)));
}

// A number wins over a NaN.
template <class T>
inline T min_float(T a, T b) {
  const T least = choose(precedes(a, b), a, b);
  return choose(is_nan(a), b, choose(is_nan(b), a, least));
}
template <class T>
inline T max_float(T a, T b) {
  const T most = choose(precedes(a, b), b, a);
  return choose(is_nan(a), b, choose(is_nan(b), a, most));
}
// With IEEE rules a signalling NaN wins over a number, and is quieted.
template <class T, T (*f)(T, T)>
inline T ieee(T a, T b) {
  const T chosen = f(a, b);
  return choose(is_signalling(a), quieted(a), choose(is_signalling(b), quieted(b), chosen));
}
template <class T>
inline T min_ieee(T a, T b) {
  return ieee<T, min_float<T>>(a, b);
}
template <class T>
inline T max_ieee(T a, T b) {
  return ieee<T, max_float<T>>(a, b);
}
// f over three sources.
template <class T, T (*f)(T, T)>
inline T over_three(T a, T b, T c) {
  return f(f(a, b), c);
}
// With a NaN the least of the three, by the rules for NaN of `least`.
template <class T, T (*least)(T, T)>
inline T middle_float(T a, T b, T c) {
  const T lower = min_float(a, b), upper = max_float(a, b);
  const T middle = max_float(lower, min_float(upper, c));
  const T smallest = over_three<T, least>(a, b, c);
  return choose(either(is_nan(a), either(is_nan(b), is_nan(c))), smallest, middle);
}
// NaN wins.
template <class T>
inline T minimum_float(T a, T b) {
  const T least = choose(precedes(a, b), a, b);
  return choose(is_nan(a), quieted(a), choose(is_nan(b), quieted(b), least));
}
template <class T>
inline T maximum_float(T a, T b) {
  const T most = choose(precedes(a, b), b, a);
  return choose(is_nan(a), quieted(a), choose(is_nan(b), quieted(b), most));
}

inline f32 floor_of(f32 a) { return __builtin_floorf(a); }
inline f64 floor_of(f64 a) { return __builtin_floor(a); }
inline Half floor_of(Half a) { return to_half(__builtin_floorf(to_float(a))); }
inline f32 ceil_of(f32 a) { return __builtin_ceilf(a); }
inline f64 ceil_of(f64 a) { return __builtin_ceil(a); }
inline Half ceil_of(Half a) { return to_half(__builtin_ceilf(to_float(a))); }
inline f32 trunc_of(f32 a) { return __builtin_truncf(a); }
inline f64 trunc_of(f64 a) { return __builtin_trunc(a); }
inline Half trunc_of(Half a) { return to_half(__builtin_truncf(to_float(a))); }
inline f32 nearest_of(f32 a) { return __builtin_rintf(a); }
inline f64 nearest_of(f64 a) { return __builtin_rint(a); }
inline Half nearest_of(Half a) { return to_half(__builtin_rintf(to_float(a))); }

template <class T>
inline T round_down(T a) {
  return floor_of(a);
}
template <class T>
inline T round_up(T a) {
  return ceil_of(a);
}
template <class T>
inline T round_to_zero(T a) {
  return trunc_of(a);
}
template <class T>
inline T round_to_even(T a) {
  return nearest_of(a);
}

inline f32 below_one(f32) { return 0x1.fffffep-1f; }
inline f64 below_one(f64) { return 0x1.fffffffffffffp-1; }
inline Half below_one(Half) { return {0x3bff}; }

// The fractional part, kept below 1 where the difference would round to it.
template <class T>
inline T fraction(T a) {
  const T difference = subtract_float(a, floor_of(a));
  return number(difference) >= 1 ? below_one(a) : difference;
}

inline f64 power_of_two(i32 exponent) {
  return as<f64>(static_cast<u64>(exponent + 1023) << 52);
}
inline i32 limited(i32 value, i32 limit) {
  return value < -limit ? -limit : value > limit ? limit : value;
}

// Scaling is exact in binary64, so the result is rounded once.
inline f32 scale_by_power(f32 a, i32 exponent) {
  return static_cast<f32>(a * power_of_two(limited(exponent, 400)));
}
inline Half scale_half_by_power(Half a, i16 exponent) {
  return to_half(to_float(a) * power_of_two(limited(exponent, 100)));
}
// Steps that leave the result normal until the last one.
inline f64 scale_double_by_power(f64 a, i32 exponent) {
  i32 left = limited(exponent, 2200);
  for (; left > 1000; left -= 1000) a *= 0x1p1000;
  for (; left < -969; left += 969) a *= 0x1p-969;
  return a * power_of_two(left);
}

// A float as mantissa times a power of two, 0.5 <= |mantissa| < 1.
template <class T>
inline bool is_finite(T a) {
  return number(a) - number(a) == 0;
}
inline i32 exponent_of_double(f64 a) {
  const f64 normal = __builtin_fabs(a) < 0x1p-1022 ? a * 0x1p64 : a;
  const i32 bias = __builtin_fabs(a) < 0x1p-1022 ? 1022 + 64 : 1022;
  return static_cast<i32>(as<u64>(normal) >> 52 & 0x7ff) - bias;
}
template <class R, class T>
inline R float_exponent(T a) {
  const i32 exponent = exponent_of_double(number(a));
  return static_cast<R>(number(a) == 0 || !is_finite(a) ? 0 : exponent);
}
inline f64 mantissa_of_double(f64 a) {
  const f64 normal = __builtin_fabs(a) < 0x1p-1022 ? a * 0x1p64 : a;
  return as<f64>((as<u64>(normal) & ~(0x7ffull << 52)) | 1022ull << 52);
}
template <class T>
inline T float_mantissa(T a) {
  if (number(a) == 0 || !is_finite(a)) return a;
  const f64 mantissa = mantissa_of_double(number(a));
  if constexpr (sizeof(T) == 8) return mantissa;
  else return rounded<T>(static_cast<f32>(mantissa));
}

// Coordinates on the faces of a cube.
inline f32 magnitude(f32 a) { return __builtin_fabsf(a); }
inline bool is_z_major(f32 x, f32 y, f32 z) {
  return magnitude(z) >= magnitude(x) && magnitude(z) >= magnitude(y);
}
inline bool is_y_major(f32 x, f32 y) { return magnitude(y) >= magnitude(x); }
inline f32 cube_face(f32 x, f32 y, f32 z) {
  if (is_z_major(x, y, z)) return z < 0 ? 5 : 4;
  if (is_y_major(x, y)) return y < 0 ? 3 : 2;
  return x < 0 ? 1 : 0;
}
inline f32 cube_s(f32 x, f32 y, f32 z) {
  if (is_z_major(x, y, z)) return z < 0 ? -x : x;
  if (is_y_major(x, y)) return x;
  return x < 0 ? z : -z;
}
inline f32 cube_t(f32 x, f32 y, f32 z) {
  if (is_z_major(x, y, z)) return -y;
  if (is_y_major(x, y)) return y < 0 ? -z : z;
  return -y;
}
inline f32 cube_major(f32 x, f32 y, f32 z) {
  if (is_z_major(x, y, z)) return z * 2;
  return is_y_major(x, y) ? y * 2 : x * 2;
}

}  // namespace aiter_moe::emulator::vector
