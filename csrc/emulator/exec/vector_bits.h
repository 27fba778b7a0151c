// SPDX-License-Identifier: MIT
// Bitwise functions of one lane: logic, shifts, bit fields, counts, and permutations of bytes.
#pragma once

#include "emulator/isa/instruction.h"

namespace aiter_moe::emulator::vector {

template <class T>
inline T bit_and(T a, T b) {
  return a & b;
}
template <class T>
inline T bit_or(T a, T b) {
  return a | b;
}
template <class T>
inline T bit_xor(T a, T b) {
  return a ^ b;
}
inline u32 bit_xnor(u32 a, u32 b) { return ~(a ^ b); }
inline u32 bit_not(u32 a) { return ~a; }
inline u32 and_or(u32 a, u32 b, u32 c) { return (a & b) | c; }
inline u32 or_three(u32 a, u32 b, u32 c) { return a | b | c; }
inline u32 shift_left_or(u32 a, u32 b, u32 c) { return a << (b & 31) | c; }
inline u32 select_bits(u32 mask, u32 a, u32 b) { return (mask & a) | (~mask & b); }

// The amount is the first source and counts modulo the width.
template <class T>
inline T shift_left(u32 amount, T value) {
  return static_cast<T>(value << (amount & (8 * sizeof(T) - 1)));
}
template <class T>
inline T shift_right(u32 amount, T value) {
  return static_cast<T>(value >> (amount & (8 * sizeof(T) - 1)));
}
// The same with the amount in a 16-bit source.
template <class T>
inline T shift_left_half(u16 amount, T value) {
  return shift_left<T>(amount, value);
}
template <class T>
inline T shift_right_half(u16 amount, T value) {
  return shift_right<T>(amount, value);
}

inline u32 extract_bits(u32 value, u32 offset, u32 width) {
  return value >> (offset & 31) & ((1u << (width & 31)) - 1);
}
inline u32 extract_signed_bits(u32 value, u32 offset, u32 width) {
  const u32 bits = width & 31;
  const u32 field = static_cast<u32>(static_cast<i32>(value) >> (offset & 31));
  const u32 unused = (32 - bits) & 31;
  return bits ? static_cast<u32>(static_cast<i32>(field << unused) >> unused) : 0;
}
inline u32 bit_mask(u32 width, u32 offset) {
  return ((1u << (width & 31)) - 1) << (offset & 31);
}

inline u32 align_bits(u32 high, u32 low, u32 amount) {
  return static_cast<u32>((static_cast<u64>(high) << 32 | low) >> (amount & 31));
}
inline u32 align_bytes(u32 high, u32 low, u32 amount) {
  return align_bits(high, low, 8 * (amount & 3));
}

inline u32 reverse_bits(u32 a) {
  a = (a >> 1 & 0x55555555) | (a & 0x55555555) << 1;
  a = (a >> 2 & 0x33333333) | (a & 0x33333333) << 2;
  a = (a >> 4 & 0x0f0f0f0f) | (a & 0x0f0f0f0f) << 4;
  return __builtin_bswap32(a);
}

// Written out: a host without the instruction would call its compiler's library.
inline u32 count_ones(u32 a) {
  a -= a >> 1 & 0x55555555;
  a = (a & 0x33333333) + (a >> 2 & 0x33333333);
  a = (a + (a >> 4)) & 0x0f0f0f0f;
  return a * 0x01010101 >> 24;
}
inline u32 count_ones_add(u32 a, u32 b) { return count_ones(a) + b; }

inline u32 leading_zeros(u32 a) { return a ? static_cast<u32>(__builtin_clz(a)) : ~0u; }
inline u32 leading_signs(u32 a) {
  return leading_zeros(a ^ static_cast<u32>(static_cast<i32>(a) >> 31));
}
inline u32 trailing_zeros(u32 a) { return a ? static_cast<u32>(__builtin_ctz(a)) : ~0u; }

// A byte of `data` by selector: 0 to 7 a byte, 8 to 11 the sign of a half, 12 zeros, above ones.
inline u32 permuted_byte(u64 data, u32 selector) {
  const u32 byte = static_cast<u32>(data >> 8 * (selector & 7)) & 0xff;
  const u32 sign = data >> (16 * (selector & 3) + 15) & 1 ? 0xff : 0;
  if (selector < 8) return byte;
  return selector < 12 ? sign : selector == 12 ? 0 : 0xff;
}
inline u32 permute_bytes(u32 high, u32 low, u32 selectors) {
  const u64 data = static_cast<u64>(high) << 32 | low;
  u32 result = 0;
  for (int n = 0; n < 4; ++n) result |= permuted_byte(data, selectors >> 8 * n & 0xff) << 8 * n;
  return result;
}

}  // namespace aiter_moe::emulator::vector
