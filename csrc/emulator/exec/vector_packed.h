// SPDX-License-Identifier: MIT
// VOP3P: two 16-bit or two 32-bit results an instruction, the sources of each chosen by op_sel
// (low result) and op_sel_hi (high result); and the mixed ones, whose sources are 16 or 32 bits.
#pragma once

#include "emulator/exec/vector_float.h"
#include "emulator/exec/vector_integer.h"
#include "emulator/exec/vector_operands.h"

namespace aiter_moe::emulator::vector {

// Source n as words; kind says what inline constants mean. 16-bit integers read them as 32 bits.
inline const Lanes* packed_words(Wave& w, const Instruction& i, int n, Kind kind, Lanes* room) {
  const Kind constants = kind == Kind::b16 ? Kind::b32 : kind;
  return plain_source(w, i, n, constants, room, w.exec());
}

// One half of a source, in the low bits, with its sign changed.
inline void take_half(const Lanes& words, bool high, Kind kind, bool negate, Lanes& out) {
  const u32 shift = high ? 16 : 0, flip = kind == Kind::f16 && negate ? 0x8000 : 0;
  for (int lane = 0; lane < lanes; ++lane)
    out.lane[lane] = (words.lane[lane] >> shift & 0xffff) ^ flip;
}

inline void combine_halves(const Lanes& low, const Lanes& high, Lanes& out) {
  for (int lane = 0; lane < lanes; ++lane)
    out.lane[lane] = (low.lane[lane] & 0xffff) | high.lane[lane] << 16;
}

struct HalfSelection {
  u8 high;    // bit n: source n's upper half
  u8 negate;
};

inline void run_half(Wave& w, const Instruction& i, const Shape& shape, const Lanes* const* words,
                     HalfSelection select, Body body, Lanes& result) {
  Lanes room[most_sources];
  const Lanes* sources[most_sources];
  for (int n = 0; n < shape.count; ++n) {
    const Kind kind = shape.source[n];
    take_half(*words[n], select.high >> n & 1, kind, select.negate >> n & 1, room[n]);
    if (is_float(kind) && !keeps_input_denormals(w, kind)) flush_denormals(&room[n], kind);
    sources[n] = &room[n];
  }
  body(&result, sources, all_lanes);
  if (is_float(shape.result)) modify_float_result(w, i, shape.result, &result);
}

[[gnu::noinline]] inline void run_packed_halves(Wave& w, const Instruction& i, const Shape& shape,
                                                Body body) {
  Lanes room[most_sources];
  const Lanes* words[most_sources];
  alignas(64) Lanes low, high;
  check_rounding(w, i, shape);
  for (int n = 0; n < shape.count; ++n)
    words[n] = packed_words(w, i, n, shape.source[n], &room[n]);
  run_half(w, i, shape, words, {i.op_sel, i.negate}, body, low);
  run_half(w, i, shape, words, {i.op_sel_hi, i.negate_hi}, body, high);
  combine_halves(low, high, low);
  w.write(i, i.dst, low);
}

// f on the two halves of words.
template <auto f>
void packed_halves(Wave& w, const Instruction& i) {
  run_packed_halves(w, i, shape_of(f), each_lane<f>);
}
template <auto f, auto saturating>
void packed_halves_saturating(Wave& w, const Instruction& i) {
  run_packed_halves(w, i, shape_of(f), i.clamp ? each_lane<saturating> : each_lane<f>);
}

template <auto ieee_rules, auto f>
void packed_ieee(Wave& w, const Instruction& i) {
  run_packed_halves(w, i, shape_of(f), w.mode & mode::ieee ? each_lane<ieee_rules> : each_lane<f>);
}

// VOP2, without selection of halves.
inline void packed_accumulate(Wave& w, const Instruction& i) {
  Instruction halves = i;
  halves.op_sel = 0;
  halves.op_sel_hi = 7;
  packed_halves<fused<Half>>(w, halves);
}

// Which words of source n are read, as a mask: with both results from one of them, the other may
// be anything.
constexpr u32 both_words = 3;
inline u32 words_read(const Instruction& i, int n) {
  return 1u << (i.op_sel >> n & 1) | 1u << (i.op_sel_hi >> n & 1);
}

// One word of a pair, in its place in the pair.
inline const Lanes* one_word(Wave& w, const Instruction& i, u16 pair, u32 word, Lanes* room) {
  const u16 code = static_cast<u16>(pair + word);
  if (is_vector(code)) return register_rows(w, i, code, 1, w.exec()) - word;
  fill(room[word], w.read_scalar(i, code));
  return room;
}

// The words `read` of a 64-bit source of packed words; constants stand for both words.
inline const Lanes* word_pair(Wave& w, const Instruction& i, int n, u32 read, Lanes* room) {
  const u16 code = i.src[n];
  const bool registers = is_vector(code) || code < operand::scalars;
  if (registers && read != both_words) return one_word(w, i, code, read >> 1, room);
  if (is_vector(code)) return register_rows(w, i, code, 2, w.exec());
  if (registers) return scalar_source(w, i, code, Kind::b64, room);
  fill(room[0], w.read_scalar(i, code));
  room[1] = room[0];
  return room;
}

inline bool takes_words_in_order(const Instruction& i, int count) {
  const u32 all = (1u << count) - 1;
  return ((i.op_sel | i.negate | i.negate_hi | ~i.op_sel_hi) & all) == 0 && !i.clamp;
}

// One of the two results in general.
inline void run_word(Wave& w, const Instruction& i, int count, const Lanes* const* pairs,
                     HalfSelection select, Body body, Lanes& result) {
  Lanes room[most_sources];
  const Lanes* sources[most_sources];
  for (int n = 0; n < count; ++n) {
    room[n] = pairs[n][select.high >> n & 1];
    if (select.negate >> n & 1) change_sign(&room[n], Kind::f32, false, true);
    if (!keeps_input_denormals(w, Kind::f32)) flush_denormals(&room[n], Kind::f32);
    sources[n] = &room[n];
  }
  body(&result, sources, all_lanes);
  modify_float_result(w, i, Kind::f32, &result);
}

[[gnu::noinline]] inline void run_words(Wave& w, const Instruction& i, int count,
                                        const Lanes* const* pairs, const Shape& shape, Body body) {
  alignas(64) Lanes low, high;
  check_rounding(w, i, shape);
  run_word(w, i, count, pairs, {i.op_sel, i.negate}, body, low);
  run_word(w, i, count, pairs, {i.op_sel_hi, i.negate_hi}, body, high);
  w.write(i, i.dst, low);
  w.write(i, static_cast<u16>(i.dst + 1), high);
}

// f on two words.
template <auto f>
void packed_words_of(Wave& w, const Instruction& i) {
  constexpr Shape shape = shape_of(f);
  const u64 exec = w.exec();
  Lanes room[shape.count][2];
  const Lanes* low[shape.count];
  const Lanes* high[shape.count];
  for (int n = 0; n < shape.count; ++n) {
    low[n] = word_pair(w, i, n, words_read(i, n), room[n]);
    high[n] = low[n] + 1;
  }
  const bool usual = (w.mode & mode::usual_mask) == mode::usual;
  if (__builtin_expect(!usual || !takes_words_in_order(i, shape.count), 0))
    return run_words(w, i, shape.count, low, shape, each_lane<f>);
  Lanes* out = destination(w, i, i.dst, 2, exec);
  if (!out) return;
  each_lane<f>(out, low, exec);
  each_lane<f>(out + 1, high, exec);
}

// Two words, each from either word of its own source.
inline void move_words(Wave& w, const Instruction& i) {
  Lanes room[2][2];
  const u32 first = i.op_sel & 1, second = i.op_sel >> 1 & 1;
  const Lanes low = word_pair(w, i, 0, 1u << first, room[0])[first];
  const Lanes high = word_pair(w, i, 1, 1u << second, room[1])[second];
  w.write(i, i.dst, low);
  w.write(i, static_cast<u16>(i.dst + 1), high);
}

// Source n of a mixed instruction as binary32: op_sel_hi says that it is 16 bits, op_sel which.
inline void mixed_source(Wave& w, const Instruction& i, int n, Lanes& out) {
  Lanes room;
  const bool is_half = i.op_sel_hi >> n & 1;
  const Kind kind = is_half ? Kind::f16 : Kind::f32;
  const Lanes& words = *plain_source(w, i, n, kind, &room, w.exec());
  const u32 shift = i.op_sel >> n & 1 ? 16 : 0;
  for (int lane = 0; lane < lanes; ++lane) {
    const Half half = {static_cast<u16>(words.lane[lane] >> shift)};
    out.lane[lane] = is_half ? as<u32>(to_float(half)) : words.lane[lane];
  }
  change_sign(&out, Kind::f32, i.absolute >> n & 1, i.negate >> n & 1);
  if (!is_half && !keeps_input_denormals(w, kind)) flush_denormals(&out, kind);
}

// a * b + c, in binary32 for the half forms too, which round again.
inline void mixed_sum(Wave& w, const Instruction& i, Lanes& result) {
  Lanes room[most_sources];
  const Lanes* sources[most_sources];
  for (int n = 0; n < most_sources; ++n) {
    mixed_source(w, i, n, room[n]);
    sources[n] = &room[n];
  }
  each_lane<fused<f32>>(&result, sources, all_lanes);
}

inline void mixed_to_float(Wave& w, const Instruction& i) {
  alignas(64) Lanes result;
  mixed_sum(w, i, result);
  modify_float_result(w, i, Kind::f32, &result);
  w.write(i, i.dst, result);
}

template <bool to_high>
void mixed_to_half(Wave& w, const Instruction& i) {
  alignas(64) Lanes result;
  mixed_sum(w, i, result);
  for (int lane = 0; lane < lanes; ++lane)
    result.lane[lane] = to_half(as<f32>(result.lane[lane])).bits;
  modify_float_result(w, i, Kind::f16, &result);
  Lanes* out = destination(w, i, i.dst, 1, w.exec());
  if (!out) return;
  keep_half(result, *out, to_high);
  merge(*out, result, w.exec());
}

}  // namespace aiter_moe::emulator::vector
