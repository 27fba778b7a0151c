// SPDX-License-Identifier: MIT
// The steps of a division: scaling of sources that would leave the range of intermediate results,
// the last fused step which takes the scaling back, and the special cases.
#pragma once

#include "emulator/exec/vector_carry.h"
#include "emulator/exec/vector_float.h"

namespace aiter_moe::emulator::vector {

template <class T> struct Division;
template <>
struct Division<f32> {
  static constexpr i32 far = 96, tiny = 23, scale = 64, bias = 127, underflow = -150,
                       overflow = 129;
  static constexpr f32 least_normal = 0x1p-126f, largest = 0x1.fffffep127f;
};
template <>
struct Division<f64> {
  static constexpr i32 far = 768, tiny = 53, scale = 128, bias = 1023, underflow = -1075,
                       overflow = 1025;
  static constexpr f64 least_normal = 0x1p-1022, largest = 0x1.fffffffffffffp1023;
};

inline i32 biased_exponent(f32 a) { return static_cast<i32>(as<u32>(a) >> 23 & 255); }
inline i32 biased_exponent(f64 a) { return static_cast<i32>(as<u64>(a) >> 52 & 2047); }
inline f32 magnitude_of(f32 a) { return __builtin_fabsf(a); }
inline f64 magnitude_of(f64 a) { return __builtin_fabs(a); }

inline f32 scaled(f32 a, i32 exponent) { return scale_by_power(a, exponent); }
inline f64 scaled(f64 a, i32 exponent) { return scale_double_by_power(a, exponent); }

// What div_scale does to a pair of denominator and numerator.
struct Scaling {
  i32 denominator;
  i32 numerator;
  u32 undone_later;  // the bit of the mask
};

// Without branches, for vectorising. A quotient that underflows counts as denormal.
template <class T>
inline Scaling scaling_of(T denominator, T numerator) {
  using D = Division<T>;
  const bool far = biased_exponent(numerator) - biased_exponent(denominator) >= D::far;
  const bool denormal = magnitude_of(denominator) < D::least_normal;
  const bool inverse_small = magnitude_of(T(1) / denominator) < D::least_normal;
  const bool quotient_small = magnitude_of(numerator / denominator) < D::least_normal;
  const bool tiny = biased_exponent(numerator) <= D::tiny;
  const i32 last = (!quotient_small & tiny) ? D::scale : 0;
  const i32 small = inverse_small ? -D::scale : last;
  const i32 both = denormal ? D::scale : small;
  const bool only_numerator = quotient_small & !inverse_small & !denormal & !far;
  const bool only_denominator = (quotient_small & inverse_small & !denormal) | far;
  return {far ? D::scale : both,
          only_numerator ? D::scale : only_denominator ? 0 : both,
          static_cast<u32>(only_numerator | only_denominator)};
}

// a is the denominator b or the numerator c.
template <class T>
inline T divide_scale(T a, T b, T c) {
  const Scaling scaling = scaling_of(b, c);
  const T value = scaled(a, a == b ? scaling.denominator : scaling.numerator);
  return either(b == 0, c == 0) ? T(__builtin_nan("")) : value;
}
template <class T>
inline u32 divide_scale_flag(T, T b, T c) {
  return either(b == 0, c == 0) ? 0 : scaling_of(b, c).undone_later;
}

template <class T>
void division_scale(Wave& w, const Instruction& i) {
  constexpr Shape shape = shape_of(divide_scale<T>);
  Operands operands;
  alignas(64) Lanes result[2];
  prepare(w, i, shape, operands);
  each_lane<divide_scale<T>>(result, operands.rows, all_lanes);
  const u64 flags = lanes_where<divide_scale_flag<T>>(operands.rows);
  finish(w, i, shape, result, operands.which);
  w.write_scalar64(i, carry_destination(i), flags & operands.which);
}

// An unevaluated sum: high is the rounded value, low what rounding lost, exactly.
struct Exact {
  f64 high;
  f64 low;
};
inline Exact exact_sum(f64 a, f64 b) {
  const f64 sum = a + b, part = sum - a;
  return {sum, (a - (sum - part)) + (b - part)};
}
inline Exact exact_product(f64 a, f64 b) {
  const f64 product = a * b;
  return {product, __builtin_fma(a, b, -product)};
}
// The sign of what a fused a * b + c lost.
inline f64 lost_by_fma(f64 a, f64 b, f64 c, f64 sum) {
  const Exact product = exact_product(a, b);
  const Exact small = exact_sum(c, product.low);
  const Exact large = exact_sum(product.high, small.high);
  return ((large.high - sum) + large.low) + small.low;
}

// The exact a * b + c, scaled and rounded once: the product is exact in binary64, and rounding the
// sum to odd keeps what a further rounding needs to know.
inline f32 scaled_fma(f32 a, f32 b, f32 c, f64 factor) {
  const Exact sum = exact_sum(static_cast<f64>(a) * b, c);
  const bool inexact = sum.low != 0 && __builtin_fabs(sum.high) < __builtin_inf();
  const bool above = (sum.low < 0) != (sum.high < 0);  // |high| is above the exact sum
  const u64 bits = as<u64>(sum.high);
  const u64 odd = inexact ? (bits - (above ? 1 : 0)) | 1 : bits;
  return static_cast<f32>(as<f64>(odd) * factor);
}

// Scaling down drops bits of a sum already rounded: where they make a tie, what the first rounding
// lost decides.
inline f64 scaled_fma(f64 a, f64 b, f64 c, f64 factor) {
  constexpr f64 step = 0x1p-1074;
  const f64 sum = __builtin_fma(a, b, c), result = sum * factor;
  if (factor > 1 || __builtin_fabs(sum) >= Division<f64>::least_normal / factor) return result;
  const f64 dropped = sum - result / factor, lost = lost_by_fma(a, b, c, sum);
  const bool tie = __builtin_fabs(dropped) * 2 == step / factor;
  if (!tie || lost == 0 || (lost < 0) != (dropped < 0)) return result;
  return result + (dropped < 0 ? -step : step);
}

// What the scaling of the quotient c takes back.
template <class T>
inline T divide_fused(T a, T b, T c) {
  using D = Division<T>;
  const f64 factor = power_of_two(biased_exponent(c) > D::bias ? D::scale : -D::scale);
  return scaled_fma(a, b, c, factor);
}

template <class T>
void division_fused(Wave& w, const Instruction& i) {
  constexpr Shape shape = shape_of(fused<T>);
  Operands operands;
  alignas(64) Lanes result[2];
  w.need_scalar(i, operand::vcc);
  w.need_scalar(i, operand::vcc + 1);
  check_rounding(w, i, shape);
  prepare(w, i, shape, operands);
  each_lane<fused<T>>(result, operands.rows, all_lanes);
  if (w.vcc()) each_lane<divide_fused<T>>(result, operands.rows, w.vcc());
  finish(w, i, shape, result, operands.which);
}

// The sign and a magnitude as a number.
inline f32 with_sign(f32 value, bool negative) {
  return as<f32>((as<u32>(value) & 0x7fffffff) | static_cast<u32>(negative) << 31);
}
inline f64 with_sign(f64 value, bool negative) {
  return as<f64>((as<u64>(value) & ~(1ull << 63)) | static_cast<u64>(negative) << 63);
}

// a is the quotient, b the denominator, c the numerator.
template <class T>
inline T divide_fixup(T a, T b, T c) {
  using D = Division<T>;
  const T infinity = T(__builtin_inf()), x = magnitude_of(b), y = magnitude_of(c);
  const bool negative = is_negative(b) != is_negative(c);
  const bool invalid = ((x == 0) & (y == 0)) | ((x == infinity) & (y == infinity));
  const i32 exponent = biased_exponent(c) - biased_exponent(b);
  const bool vanishes = (x == infinity) | (y == 0) | (exponent < D::underflow);
  const bool unbounded = (x == 0) | (y == infinity) | (exponent > D::overflow);
  const T finite = choose(vanishes, T(0), a);
  const T value = with_sign(choose(unbounded & !vanishes, infinity, finite), negative);
  const T number = choose(invalid, with_sign(T(__builtin_nan("")), true), value);
  return choose(is_nan(c), quieted(c), choose(is_nan(b), quieted(b), number));
}
inline Half divide_fixup_half(Half a, Half b, Half c) {
  const f32 x = to_float(b), y = to_float(c), infinity = __builtin_inff();
  const u16 sign = (b.bits ^ c.bits) & 0x8000;
  const f32 ax = magnitude_of(x), ay = magnitude_of(y);
  if (is_nan(c)) return quieted(c);
  if (is_nan(b)) return quieted(b);
  if ((ax == 0 && ay == 0) || (ax == infinity && ay == infinity)) return {0xfe00};
  if (ax == 0 || ay == infinity) return {static_cast<u16>(sign | 0x7c00)};
  if (ax == infinity || ay == 0) return {sign};
  return {static_cast<u16>(sign | (a.bits & 0x7fff))};
}

}  // namespace aiter_moe::emulator::vector
