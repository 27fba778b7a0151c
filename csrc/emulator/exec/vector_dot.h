// SPDX-License-Identifier: MIT
// Dot products of the parts of words, with an addend: VOP3P, and the VOP2 forms that accumulate.
#pragma once

#include "emulator/exec/vector_packed.h"

namespace aiter_moe::emulator::vector {

// Part n of a word, as a number of `bits` bits.
template <class Wide, int bits>
inline i64 part_of(u32 word, int n) {
  const u32 top = word << (32 - bits - bits * n);
  if constexpr (static_cast<Wide>(-1) < 0) return static_cast<i32>(top) >> (32 - bits);
  else return top >> (32 - bits);
}

template <class Wide, int bits>
inline i64 dot_integers(u32 a, u32 b, Wide c) {
  i64 sum = c;
  for (int n = 0; n < 32 / bits; ++n)
    sum += part_of<Wide, bits>(a, n) * part_of<Wide, bits>(b, n);
  return sum;
}
template <class Wide, int bits>
inline Wide dot(u32 a, u32 b, Wide c) {
  return static_cast<Wide>(dot_integers<Wide, bits>(a, b, c));
}
template <class Wide, int bits>
inline Wide dot_saturating(u32 a, u32 b, Wide c) {
  return saturate<Wide>(dot_integers<Wide, bits>(a, b, c));
}

inline f32 dot_halves(u32 a, u32 b, f32 c) {
  const Half a0 = {static_cast<u16>(a)}, a1 = {static_cast<u16>(a >> 16)};
  const Half b0 = {static_cast<u16>(b)}, b1 = {static_cast<u16>(b >> 16)};
  const f64 first = static_cast<f64>(to_float(a0)) * to_float(b0);
  const f64 second = static_cast<f64>(to_float(a1)) * to_float(b1);
  return static_cast<f32>(first + second + c);
}
inline f32 dot_bfloats(u32 a, u32 b, f32 c) {
  const f64 first = static_cast<f64>(bfloat_to_float(a)) * bfloat_to_float(b);
  const f64 second =
      static_cast<f64>(bfloat_to_float(a >> 16)) * bfloat_to_float(b >> 16);
  return static_cast<f32>(first + second + c);
}

// The words of a source with the halves that op_sel and op_sel_hi choose, signs changed for
// floats (bits 15 and 31).
inline void choose_halves(const Instruction& i, int n, bool floats, Lanes& words) {
  const u32 low = i.op_sel >> n & 1 ? 16 : 0, high = i.op_sel_hi >> n & 1 ? 16 : 0;
  const u32 flip = (i.negate >> n & 1 ? 0x8000u : 0) | (i.negate_hi >> n & 1 ? 0x80000000u : 0);
  for (int lane = 0; lane < lanes; ++lane) {
    const u32 word = words.lane[lane];
    words.lane[lane] = ((word >> low & 0xffff) | word >> high << 16) ^ (floats ? flip : 0);
  }
}

// What op_sel and the signs mean for the first two sources.
enum class Parts : u8 { integers, integer_halves, floats };

[[gnu::noinline]] inline void run_dot(Wave& w, const Instruction& i, Parts parts, Body body) {
  const bool floats = parts == Parts::floats;
  const Kind kind = floats ? Kind::f32 : Kind::b32;
  Lanes room[most_sources];
  const Lanes* sources[most_sources];
  alignas(64) Lanes result;
  for (int n = 0; n < most_sources; ++n) {
    const Lanes* words = plain_source(w, i, n, n == 2 || !floats ? kind : Kind::f16, &room[n],
                                      w.exec());
    if (words != &room[n]) room[n] = *words;
    sources[n] = &room[n];
  }
  for (int n = 0; n < 2; ++n)
    if (parts != Parts::integers) choose_halves(i, n, floats, room[n]);
  if (floats) change_sign(&room[2], kind, false, i.negate >> 2 & 1);
  body(&result, sources, all_lanes);
  if (floats) modify_float_result(w, i, kind, &result);
  w.write(i, i.dst, result);
}

template <auto f>
void dot_floats(Wave& w, const Instruction& i) {
  run_dot(w, i, Parts::floats, each_lane<f>);
}
template <class Wide, int bits>
void dot_words(Wave& w, const Instruction& i) {
  run_dot(w, i, bits == 16 ? Parts::integer_halves : Parts::integers,
          i.clamp ? each_lane<dot_saturating<Wide, bits>> : each_lane<dot<Wide, bits>>);
}

}  // namespace aiter_moe::emulator::vector
