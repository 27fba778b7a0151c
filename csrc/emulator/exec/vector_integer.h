// SPDX-License-Identifier: MIT
// Integer arithmetic of one lane: sums, products, minima, differences, and their saturating forms.
// Not here: carries (vector_carry.h), bits and shifts (vector_bits.h).
#pragma once

#include "emulator/isa/instruction.h"

namespace aiter_moe::emulator::vector {

template <class T> struct Limits;
template <> struct Limits<u8> { static constexpr i64 least = 0, most = 0xff; };
template <> struct Limits<i8> { static constexpr i64 least = -0x80, most = 0x7f; };
template <> struct Limits<u16> { static constexpr i64 least = 0, most = 0xffff; };
template <> struct Limits<i16> { static constexpr i64 least = -0x8000, most = 0x7fff; };
template <> struct Limits<u32> { static constexpr i64 least = 0, most = 0xffffffff; };
template <> struct Limits<i32> { static constexpr i64 least = -0x80000000ll, most = 0x7fffffff; };

template <class T>
inline T saturate(i64 value) {
  const i64 floored = value < Limits<T>::least ? Limits<T>::least : value;
  return static_cast<T>(floored > Limits<T>::most ? Limits<T>::most : floored);
}

template <class T>
inline T same(T a) {
  return a;
}

template <class T>
inline T add(T a, T b) {
  return static_cast<T>(static_cast<u64>(a) + static_cast<u64>(b));
}
template <class T>
inline T subtract(T a, T b) {
  return static_cast<T>(static_cast<u64>(a) - static_cast<u64>(b));
}
template <class T>
inline T multiply(T a, T b) {
  return static_cast<T>(static_cast<u64>(a) * static_cast<u64>(b));
}
template <class T>
inline T multiply_add(T a, T b, T c) {
  return static_cast<T>(static_cast<u64>(a) * static_cast<u64>(b) + static_cast<u64>(c));
}
template <class T>
inline T add_saturating(T a, T b) {
  return saturate<T>(static_cast<i64>(a) + static_cast<i64>(b));
}
template <class T>
inline T subtract_saturating(T a, T b) {
  return saturate<T>(static_cast<i64>(a) - static_cast<i64>(b));
}
template <class T>
inline T multiply_saturating(T a, T b) {
  return saturate<T>(static_cast<i64>(a) * static_cast<i64>(b));
}
template <class T>
inline T multiply_add_saturating(T a, T b, T c) {
  return saturate<T>(static_cast<i64>(a) * static_cast<i64>(b) + static_cast<i64>(c));
}

template <class T>
inline T smaller(T a, T b) {
  return a < b ? a : b;
}
template <class T>
inline T larger(T a, T b) {
  return a < b ? b : a;
}
template <class T>
inline T smallest(T a, T b, T c) {
  return smaller(smaller(a, b), c);
}
template <class T>
inline T largest(T a, T b, T c) {
  return larger(larger(a, b), c);
}
template <class T>
inline T middle(T a, T b, T c) {
  return larger(smaller(a, b), smaller(larger(a, b), c));
}

// f with its sources exchanged: the "rev" instructions.
template <class T, T (*f)(T, T)>
inline T reversed(T a, T b) {
  return f(b, a);
}

inline i64 signed_24(u32 value) { return static_cast<i32>(value << 8) >> 8; }
inline u64 unsigned_24(u32 value) { return value & 0xffffff; }

inline u32 multiply_signed_24(u32 a, u32 b) {
  return static_cast<u32>(signed_24(a) * signed_24(b));
}
inline u32 multiply_high_signed_24(u32 a, u32 b) {
  return static_cast<u32>(signed_24(a) * signed_24(b) >> 32);
}
inline u32 multiply_unsigned_24(u32 a, u32 b) {
  return static_cast<u32>(unsigned_24(a) * unsigned_24(b));
}
inline u32 multiply_high_unsigned_24(u32 a, u32 b) {
  return static_cast<u32>(unsigned_24(a) * unsigned_24(b) >> 32);
}
inline u32 multiply_add_signed_24(u32 a, u32 b, u32 c) { return multiply_signed_24(a, b) + c; }
inline u32 multiply_add_unsigned_24(u32 a, u32 b, u32 c) {
  return multiply_unsigned_24(a, b) + c;
}
inline i32 multiply_add_signed_24_saturating(u32 a, u32 b, i32 c) {
  return saturate<i32>(signed_24(a) * signed_24(b) + c);
}
inline u32 multiply_add_unsigned_24_saturating(u32 a, u32 b, u32 c) {
  return saturate<u32>(static_cast<i64>(unsigned_24(a) * unsigned_24(b) + c));
}

inline u32 multiply_high_unsigned(u32 a, u32 b) {
  return static_cast<u32>(static_cast<u64>(a) * b >> 32);
}
inline u32 multiply_high_signed(i32 a, i32 b) {
  return static_cast<u32>(static_cast<i64>(a) * b >> 32);
}

// 16-bit factors, 32-bit sum.
template <class Wide, class Narrow>
inline Wide multiply_add_wide(Narrow a, Narrow b, Wide c) {
  return static_cast<Wide>(static_cast<u32>(a) * static_cast<u32>(b) + static_cast<u32>(c));
}
template <class Wide, class Narrow>
inline Wide multiply_add_wide_saturating(Narrow a, Narrow b, Wide c) {
  return saturate<Wide>(static_cast<i64>(a) * b + c);
}

inline u32 add_three(u32 a, u32 b, u32 c) { return a + b + c; }
inline u32 shift_left_add(u32 a, u32 b, u32 c) { return (a << (b & 31)) + c; }
inline u32 add_shift_left(u32 a, u32 b, u32 c) { return (a + b) << (c & 31); }
inline u32 xor_add(u32 a, u32 b, u32 c) { return (a ^ b) + c; }
inline u64 shift_left_add_64(u64 a, u32 b, u64 c) { return (a << (b & 7)) + c; }

inline u32 byte_of(u32 value, int n) { return value >> 8 * n & 0xff; }

inline u32 average_bytes(u32 a, u32 b, u32 rounding) {
  u32 result = 0;
  for (int n = 0; n < 4; ++n)
    result |= (byte_of(a, n) + byte_of(b, n) + (rounding >> 8 * n & 1)) >> 1 << 8 * n;
  return result;
}

// Sources shifted right by the third, saturated to bytes.
template <class Byte>
inline u16 shift_right_pack(i32 a, i32 b, u32 amount) {
  const u8 low = static_cast<u8>(saturate<Byte>(a >> (amount & 31)));
  const u8 high = static_cast<u8>(saturate<Byte>(b >> (amount & 31)));
  return static_cast<u16>(low | high << 8);
}

inline u16 saturate_halves_to_bytes(u32 a) {
  const u8 low = saturate<u8>(static_cast<i16>(a)), high = saturate<u8>(static_cast<i16>(a >> 16));
  return static_cast<u16>(low | high << 8);
}

// A step of the linear feedback shift register behind stochastic rounding.
inline u32 next_random(u32 state) { return state << 1 ^ (state >> 31 ? 197 : 0); }

}  // namespace aiter_moe::emulator::vector
