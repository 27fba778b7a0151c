// SPDX-License-Identifier: MIT
// What the scalar ALU computes, as pure functions. Shift counts and bit positions use their low
// five (or six) bits. Moves, masks and control flow: scalar_moves.h, scalar_masks.h, scalar_flow.h.
#pragma once

#include "emulator/exec/scalar_form.h"

namespace aiter_moe::emulator::scalar {

constexpr i32 wrap(i64 value) { return static_cast<i32>(static_cast<u32>(value)); }
constexpr Flagged<i32> signed_sum(i64 sum) { return {wrap(sum), sum != wrap(sum)}; }

constexpr Flagged<u32> add_unsigned(u32 a, u32 b) { return {a + b, a + b < a}; }
constexpr Flagged<u32> subtract_unsigned(u32 a, u32 b) { return {a - b, b > a}; }
constexpr Flagged<i32> add_signed(i32 a, i32 b) { return signed_sum(i64{a} + b); }
constexpr Flagged<i32> subtract_signed(i32 a, i32 b) { return signed_sum(i64{a} - b); }

// For equal operands the first counts as selected by max, the second by min.
template <class T>
constexpr Flagged<T> minimum(T a, T b) {
  return {a < b ? a : b, a < b};
}
template <class T>
constexpr Flagged<T> maximum(T a, T b) {
  return {a >= b ? a : b, a >= b};
}

template <int shift>
constexpr Flagged<u32> shift_add(u32 a, u32 b) {
  const u64 sum = (u64{a} << shift) + b;
  return {static_cast<u32>(sum), sum >> 32 != 0};
}

constexpr i32 multiply(i32 a, i32 b) { return wrap(i64{a} * b); }
constexpr u32 multiply_high_unsigned(u32 a, u32 b) { return static_cast<u32>(u64{a} * b >> 32); }
constexpr i32 multiply_high_signed(i32 a, i32 b) { return static_cast<i32>(i64{a} * b >> 32); }

constexpr u32 absolute(i32 a) { return a < 0 ? 0u - static_cast<u32>(a) : static_cast<u32>(a); }
constexpr u32 absolute_difference(i32 a, i32 b) { return absolute(wrap(i64{a} - b)); }

template <class T>
constexpr T bit_and(T a, T b) {
  return a & b;
}
template <class T>
constexpr T bit_or(T a, T b) {
  return a | b;
}
template <class T>
constexpr T bit_xor(T a, T b) {
  return a ^ b;
}
template <class T>
constexpr T bit_and_not(T a, T b) {
  return a & ~b;
}
template <class T>
constexpr T bit_or_not(T a, T b) {
  return a | ~b;
}
template <class T>
constexpr T bit_nand(T a, T b) {
  return ~(a & b);
}
template <class T>
constexpr T bit_nor(T a, T b) {
  return ~(a | b);
}
template <class T>
constexpr T bit_xnor(T a, T b) {
  return ~(a ^ b);
}
template <class T>
constexpr T bit_not(T a) {
  return ~a;
}

template <class T>
constexpr int bits = 8 * sizeof(T);

template <class T>
constexpr T shift_left(T a, u32 count) {
  return a << (count & (bits<T> - 1));
}
// Arithmetic for signed T.
template <class T>
constexpr T shift_right(T a, u32 count) {
  return a >> (count & (bits<T> - 1));
}

template <class T>
constexpr T low_mask(u32 width) {
  return width >= static_cast<u32>(bits<T>) ? ~T{0} : (T{1} << width) - 1;
}
template <class T>
constexpr T mask_at(u32 width, u32 position) {
  return low_mask<T>(width & (bits<T> - 1)) << (position & (bits<T> - 1));
}

constexpr u32 field_width(u32 field) { return field >> 16 & 0x7f; }

template <class T>
constexpr T extract_unsigned(T a, u32 field) {
  return shift_right(a, field) & low_mask<T>(field_width(field));
}
// T is signed; the bits shifted in are the sign's, as the shift is arithmetic.
template <class T>
constexpr T extract_signed(T a, u32 field) {
  const u32 width = field_width(field);
  if (width == 0) return 0;
  const T shifted = shift_right(a, field);
  if (width >= static_cast<u32>(bits<T>)) return shifted;
  return shift_right(shift_left(shifted, bits<T> - width), bits<T> - width);
}

template <class T>
constexpr int count_ones(T a) {
  return __builtin_popcountll(a);
}
template <class T>
constexpr i32 ones(T a) {
  return count_ones(a);
}
template <class T>
constexpr i32 zeros(T a) {
  return bits<T> - count_ones(a);
}

constexpr i32 not_found = -1;

template <class T>
constexpr i32 first_one(T a) {
  return a == 0 ? not_found : __builtin_ctzll(a);
}
template <class T>
constexpr i32 first_zero(T a) {
  return first_one(static_cast<T>(~a));
}
template <class T>
constexpr i32 leading_zeros(T a) {
  return a == 0 ? not_found : __builtin_clzll(a) - (64 - bits<T>);
}
// How many bits from the top equal the sign; not found where all do.
template <class T, class U>
constexpr i32 leading_sign_bits(T a) {
  return leading_zeros(static_cast<U>(a < 0 ? ~a : a));
}

template <class T>
constexpr T reverse(T a) {
  T out = 0;
  for (int n = 0; n < bits<T>; ++n) out |= (a >> n & 1) << (bits<T> - 1 - n);
  return out;
}

// One bit for each group of four: set where the group has any.
template <class T>
constexpr T quads(T a) {
  T out = 0;
  for (int n = 0; n < bits<T> / 4; ++n) out |= T{(a >> 4 * n & 15) != 0} << n;
  return out;
}
template <class T>
constexpr T whole_quads(T a) {
  T out = 0;
  for (int n = 0; n < bits<T> / 4; ++n) out |= T{(a >> 4 * n & 15) != 0 ? 15u : 0u} << 4 * n;
  return out;
}

constexpr u64 replicate(u32 a) {
  u64 out = 0;
  for (int n = 0; n < 32; ++n) out |= u64{(a >> n & 1) * 3} << 2 * n;
  return out;
}

constexpr i32 extend_byte(i32 a) { return static_cast<i8>(a); }
constexpr i32 extend_half(i32 a) { return static_cast<i16>(a); }

constexpr u32 pack_low_low(u32 a, u32 b) { return (a & 0xffff) | b << 16; }
constexpr u32 pack_low_high(u32 a, u32 b) { return (a & 0xffff) | (b & 0xffff0000); }
constexpr u32 pack_high_high(u32 a, u32 b) { return a >> 16 | (b & 0xffff0000); }

template <class T>
constexpr bool equal(T a, T b) {
  return a == b;
}
template <class T>
constexpr bool unequal(T a, T b) {
  return a != b;
}
template <class T>
constexpr bool greater(T a, T b) {
  return a > b;
}
template <class T>
constexpr bool greater_equal(T a, T b) {
  return a >= b;
}
template <class T>
constexpr bool less(T a, T b) {
  return a < b;
}
template <class T>
constexpr bool less_equal(T a, T b) {
  return a <= b;
}
template <class T>
constexpr bool bit_is_set(T a, u32 position) {
  return shift_right(a, position) & 1;
}
template <class T>
constexpr bool bit_is_clear(T a, u32 position) {
  return !bit_is_set(a, position);
}

}  // namespace aiter_moe::emulator::scalar
