// SPDX-License-Identifier: MIT
// Conversions of one lane between integers and floats of 16, 32 and 64 bits, and packed pairs of
// them. Not here: formats of 8 bits and fewer (vector_small_floats.h).
#pragma once

#include "emulator/exec/vector_float.h"
#include "emulator/exec/vector_integer.h"
#include "emulator/exec/vector_operands.h"

namespace aiter_moe::emulator::vector {

// Towards zero, saturated; NaN gives 0.
inline u32 to_unsigned(f32 a) {
  const f32 positive = a > 0 ? a : 0;
  const f32 limited = positive < 0x1p32f ? positive : 0x1.fffffep31f;
  return positive < 0x1p32f ? static_cast<u32>(limited) : ~0u;
}
inline i32 to_signed(f32 a) {
  const f32 defined = a == a ? a : 0;
  const f32 floored = defined > -0x1p31f ? defined : -0x1p31f;
  const f32 limited = floored < 0x1p31f ? floored : 0x1.fffffep30f;
  return floored < 0x1p31f ? static_cast<i32>(limited) : 0x7fffffff;
}
inline u32 double_to_unsigned(f64 a) {
  const f64 positive = a > 0 ? a : 0;
  return static_cast<u32>(static_cast<i64>(positive < 0xffffffffp0 ? positive : 0xffffffffp0));
}
inline i32 double_to_signed(f64 a) {
  const f64 defined = a == a ? a : 0;
  const f64 floored = defined > -0x1p31 ? defined : -0x1p31;
  return static_cast<i32>(floored < 0x7fffffffp0 ? floored : 0x7fffffffp0);
}

inline f32 unsigned_to_float(u32 a) { return static_cast<f32>(a); }
inline f32 signed_to_float(i32 a) { return static_cast<f32>(a); }
inline f64 unsigned_to_double(u32 a) { return a; }
inline f64 signed_to_double(i32 a) { return a; }
inline f64 float_to_double(f32 a) { return a; }
inline f32 double_to_float(f64 a) { return static_cast<f32>(a); }
inline Half float_to_half(f32 a) { return to_half(a); }
inline f32 half_to_float(Half a) { return to_float(a); }
inline f32 bfloat_half_to_float(u16 a) { return bfloat_to_float(a); }

inline Half unsigned_to_half(u16 a) { return to_half(static_cast<f32>(a)); }
inline Half signed_to_half(i16 a) { return to_half(static_cast<f32>(a)); }
inline u16 half_to_unsigned(Half a) { return saturate<u16>(to_signed(to_float(a))); }
inline i16 half_to_signed(Half a) { return saturate<i16>(to_signed(to_float(a))); }

inline i32 nearest_to_signed(f32 a) { return to_signed(__builtin_floorf(a + 0.5f)); }
inline i32 floor_to_signed(f32 a) { return to_signed(__builtin_floorf(a)); }

// A two's complement nibble as a multiple of 1/16.
inline f32 nibble_to_offset(u32 a) {
  return static_cast<f32>(static_cast<i32>(a << 28) >> 28) * 0.0625f;
}
template <int n>
inline f32 byte_to_float(u32 a) {
  return static_cast<f32>(byte_of(a, n));
}

constexpr u32 pair(u32 low, u32 high) { return (low & 0xffff) | high << 16; }

inline u32 pack_halves_of_floats(Half a, Half b) { return pair(a.bits, b.bits); }
inline u32 pack_bfloats(f32 a, f32 b) { return pair(to_bfloat(a), to_bfloat(b)); }
inline u32 pack_to_halves(f32 a, f32 b) { return pair(to_half(a).bits, to_half(b).bits); }
inline u32 pack_to_halves_towards_zero(f32 a, f32 b) {
  return pair(to_half_towards_zero(a).bits, to_half_towards_zero(b).bits);
}
inline u32 pack_unsigned(u32 a, u32 b) { return pair(saturate<u16>(a), saturate<u16>(b)); }
inline u32 pack_signed(i32 a, i32 b) {
  return pair(static_cast<u16>(saturate<i16>(a)), static_cast<u16>(saturate<i16>(b)));
}

// Fractions of the integer range, to nearest even; NaN gives 0.
inline u32 unsigned_norm(f32 a) {
  const f32 unit = a > 0 ? (a < 1 ? a : 1) : 0;
  return static_cast<u32>(__builtin_rintf(unit * 65535.0f));
}
inline u32 signed_norm(f32 a) {
  const f32 defined = a == a ? a : 0;
  const f32 unit = defined > -1 ? (defined < 1 ? defined : 1) : -1;
  return static_cast<u32>(static_cast<i32>(__builtin_rintf(unit * 32767.0f)));
}
inline u32 pack_unsigned_norm(f32 a, f32 b) { return pair(unsigned_norm(a), unsigned_norm(b)); }
inline u32 pack_signed_norm(f32 a, f32 b) { return pair(signed_norm(a), signed_norm(b)); }
inline u32 pack_half_unsigned_norm(Half a, Half b) {
  return pack_unsigned_norm(to_float(a), to_float(b));
}
inline u32 pack_half_signed_norm(Half a, Half b) {
  return pack_signed_norm(to_float(a), to_float(b));
}
inline u16 half_to_unsigned_norm(Half a) { return static_cast<u16>(unsigned_norm(to_float(a))); }
inline u16 half_to_signed_norm(Half a) { return static_cast<u16>(signed_norm(to_float(a))); }

// Puts a float as a byte into c.
inline u32 insert_unsigned_byte(f32 a, u32 position, u32 c) {
  const u32 shift = 8 * (position & 3), byte = saturate<u8>(to_unsigned(a));
  return (c & ~(0xffu << shift)) | byte << shift;
}

// The same into the destination itself.
inline void accumulate_byte(Wave& w, const Instruction& i) {
  Instruction three_sources = i;
  three_sources.src[2] = i.dst;
  run<insert_unsigned_byte>(w, three_sources);
}

}  // namespace aiter_moe::emulator::vector
