// SPDX-License-Identifier: MIT
// Conversions to and from floats of 8, 6 and 4 bits: the unscaled ones of 8 bits, and the scaled
// ones (v_cvt_scalef32_*), whose scale is the exponent field of a binary32. What a register does
// not receive of a result stays. Not here: 32 numbers at once (vector_convert_many.h).
#pragma once

#include "emulator/exec/architecture.h"
#include "emulator/exec/vector_integer.h"
#include "emulator/exec/vector_operands.h"
#include "emulator/exec/vector_small_floats.h"
#include "emulator/workgroup.h"

namespace aiter_moe::emulator::vector {

struct Bfloat {
  u16 bits;
};
template <> constexpr Kind kind_of<Bfloat> = Kind::b16;

inline f64 value_of(f32 a) { return a; }
inline f64 value_of(Half a) { return to_float(a); }
inline f64 value_of(Bfloat a) { return bfloat_to_float(a.bits); }

// The halves of a word as a type.
template <class T>
inline T low_half(u32 word) {
  return {static_cast<u16>(word)};
}
template <class T>
inline T high_half(u32 word) {
  return {static_cast<u16>(word >> 16)};
}

inline f64 inverse_of_scale(f32 scale) {
  const u32 field = exponent_field(scale);
  const f64 power = as<f64>(static_cast<u64>(1023 + 127 - field) << 52);
  return field == 255 ? __builtin_nan("") : power;
}

// To small floats: codes in the low bits.

template <SmallFormat f, Overflow overflow>
inline u32 pair_of_codes(f64 a, f64 b) {
  constexpr int bits = magnitude_bits(f) + 1;
  return encode<f, Rounding::nearest, overflow>(a, 0) |
         encode<f, Rounding::nearest, overflow>(b, 0) << bits;
}
template <SmallFormat f, Overflow overflow>
inline u32 pack_floats(f32 a, f32 b) {
  return pair_of_codes<f, overflow>(a, b);
}
template <SmallFormat f, Overflow overflow>
inline u32 pack_floats_scaled(f32 a, f32 b, f32 scale) {
  const f64 inverse = inverse_of_scale(scale);
  return pair_of_codes<f, overflow>(a * inverse, b * inverse);
}
template <SmallFormat f, class T, Overflow overflow>
inline u32 pack_word_scaled(u32 word, f32 scale) {
  const f64 inverse = inverse_of_scale(scale);
  return pair_of_codes<f, overflow>(value_of(low_half<T>(word)) * inverse,
                                    value_of(high_half<T>(word)) * inverse);
}
template <SmallFormat f, Overflow overflow>
inline u32 round_randomly(f32 a, u32 random) {
  return encode<f, Rounding::stochastic, overflow>(a, random);
}
template <SmallFormat f, class T, Overflow overflow>
inline u32 round_randomly_scaled(T a, u32 random, f32 scale) {
  const f64 value = value_of(a) * inverse_of_scale(scale);
  return encode<f, Rounding::stochastic, overflow>(value, random);
}
template <SmallFormat f>
inline u32 pair_randomly(f64 a, f64 b, u32 random) {
  constexpr int bits = magnitude_bits(f) + 1;
  return encode<f, Rounding::stochastic, Overflow::saturates>(a, random) |
         encode<f, Rounding::stochastic, Overflow::saturates>(b, next_random(random)) << bits;
}
template <SmallFormat f, class T>
inline u32 pack_word_randomly(u32 word, u32 random, f32 scale) {
  const f64 inverse = inverse_of_scale(scale);
  return pair_randomly<f>(value_of(low_half<T>(word)) * inverse,
                          value_of(high_half<T>(word)) * inverse, random);
}
template <SmallFormat f>
inline u32 pack_floats_randomly(u64 floats, u32 random, f32 scale) {
  const f64 inverse = inverse_of_scale(scale);
  return pair_randomly<f>(as<f32>(static_cast<u32>(floats)) * inverse,
                          as<f32>(static_cast<u32>(floats >> 32)) * inverse, random);
}

// A 16-bit float by stochastic rounding: noise below its last place, then cut off.
inline u32 half_randomly(f32 a, u32 random) {
  const u32 magnitude = as<u32>(a) & 0x7fffffff;
  const f64 size = __builtin_fabs(static_cast<f64>(a));
  const i64 exponent = static_cast<i64>(as<u64>(size) >> 52) - 1023;
  const i64 place = exponent < -14 ? -14 : exponent;
  const f64 step = as<f64>(static_cast<u64>(1023 - 10 + place) << 52);
  const f64 cut = __builtin_floor(size / step + random * 0x1p-32) * step;
  const Half half = magnitude < 0x7f800000 ? to_half(cut) : to_half(as<f32>(magnitude));
  return half.bits | (as<u32>(a) >> 16 & 0x8000);
}
inline u32 bfloat_randomly(f32 a, u32 random) {
  const u32 bits = as<u32>(a);
  const bool is_number = (bits & 0x7f800000) != 0x7f800000;
  return is_number ? (bits + (random >> 16)) >> 16 : to_bfloat(a);
}

// From small floats.

template <SmallFormat f>
inline f32 unpack_one(u32 code) {
  return decode<f>(code);
}
inline u64 pair_of_floats(f32 a, f32 b) { return static_cast<u64>(as<u32>(b)) << 32 | as<u32>(a); }
template <SmallFormat f>
inline u64 unpack_pair(u32 codes) {
  return pair_of_floats(decode<f>(codes), decode<f>(codes >> (magnitude_bits(f) + 1)));
}
template <SmallFormat f>
inline f32 unpack_one_scaled(u32 code, f32 scale) {
  return decode<f>(code) * power_of_field(exponent_field(scale));
}
template <SmallFormat f>
inline Half unpack_half_scaled(u32 code, f32 scale) {
  return to_half(unpack_one_scaled<f>(code, scale));
}
template <SmallFormat f>
inline u64 unpack_floats_scaled(u32 codes, f32 scale) {
  return pair_of_floats(unpack_one_scaled<f>(codes, scale),
                        unpack_one_scaled<f>(codes >> (magnitude_bits(f) + 1), scale));
}
template <class T>
inline u32 bits_as(f32 value);
template <>
inline u32 bits_as<Half>(f32 value) {
  return to_half(value).bits;
}
template <>
inline u32 bits_as<Bfloat>(f32 value) {
  return to_bfloat(value);
}
template <>
inline u32 bits_as<f32>(f32 value) {
  return as<u32>(value);
}
// Whether all numbers of a format, times any scale, are bf16 too.
constexpr bool fits_bfloat(SmallFormat f) {
  constexpr int least_scale = -127, least_bfloat = -133;
  return 1 - f.bias - f.mantissa_bits + least_scale >= least_bfloat;
}
template <SmallFormat f, class T>
inline u32 unpack_word_scaled(u32 codes, f32 scale) {
  if constexpr (__is_same(T, Bfloat) && fits_bfloat(f)) {
    const u64 pair = unpack_floats_scaled<f>(codes, scale);
    return static_cast<u32>(pair) >> 16 | (static_cast<u32>(pair >> 32) & 0xffff0000);
  }
  return bits_as<T>(unpack_one_scaled<f>(codes, scale)) |
         bits_as<T>(unpack_one_scaled<f>(codes >> (magnitude_bits(f) + 1), scale)) << 16;
}

#if defined(__AVX512BW__)
// The 16 numbers of fp4, by code.
alignas(64) inline constexpr f32 fp4_numbers[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,
                                                    4.0f,  6.0f,  -0.0f, -0.5f, -1.0f, -1.5f,
                                                    -2.0f, -3.0f, -4.0f, -6.0f};

// power_of_field of sixteen scales: the fields 0 and 255 lack just the highest bit of the fraction.
inline __m512 powers_of_fields(__m512i scales) {
  const __m512i infinity = _mm512_set1_epi32(0x7f800000);
  const __m512i field = _mm512_and_si512(scales, infinity);
  const __mmask16 special = _mm512_testn_epi32_mask(field, field) |
                            _mm512_cmpeq_epi32_mask(field, infinity);
  return _mm512_castsi512_ps(
      _mm512_mask_or_epi32(field, special, field, _mm512_set1_epi32(0x400000)));
}

// fp4 to bf16, as kernels widen weights, by a table instead of arithmetic.
template <>
inline void each_lane<unpack_word_scaled<fp4, Bfloat>>(Lanes* out, const Lanes* const* sources,
                                                       u64 which) {
  const __m512 numbers = _mm512_load_ps(fp4_numbers);
  for (int part = 0; part < lanes; part += chunk) {
    const __m512i codes = _mm512_load_si512(&sources[0]->lane[part]);
    const __m512 powers = powers_of_fields(_mm512_load_si512(&sources[1]->lane[part]));
    const auto value = [&](__m512i code) {
      return _mm512_castps_si512(_mm512_mul_ps(
          _mm512_maskz_permutexvar_ps(0xffff, code, numbers), powers));
    };
    const __m512i low = _mm512_maskz_srli_epi32(0xffff, value(codes), 16);
    const __m512i high = value(_mm512_maskz_srli_epi32(0xffff, codes, 4));
    const __m512i word = _mm512_mask_mov_epi16(low, 0xaaaaaaaa, high);
    _mm512_mask_store_epi32(&out->lane[part], static_cast<__mmask16>(which >> part), word);
  }
}
#endif

template <auto f>
constexpr Shape exact_shape() {
  Shape shape = shape_of(f);
  shape.ignores_mode = true;
  return shape;
}

// Writes the low `bits` bits of each lane at position `shift`, and leaves the others.
inline void insert_bits(Wave& w, const Instruction& i, const Lanes& value, u32 bits, u32 shift,
                        u64 which) {
  Lanes* out = destination(w, i, i.dst, 1, which);
  if (!out) return;
  const u32 mask = ((1u << bits) - 1) << shift;
  alignas(64) Lanes placed;
  for (int lane = 0; lane < lanes; ++lane)
    placed.lane[lane] = (out->lane[lane] & ~mask) | (value.lane[lane] << shift & mask);
  merge(*out, placed, which);
}

[[gnu::noinline]] inline void run_insert(Wave& w, const Instruction& i, const Shape& shape,
                                         Body body, u32 bits, u32 shift) {
  Operands operands;
  alignas(64) Lanes result;
  prepare(w, i, shape, operands);
  body(&result, operands.rows, all_lanes);
  insert_bits(w, i, result, bits, shift, operands.which);
}

// Results of 8 bits go to the byte that op_sel[3:2] names, of 16 bits to the half of op_sel[3].
template <auto f, int bits>
void insert(Wave& w, const Instruction& i) {
  const u32 shift = bits == 8 ? 8 * (i.op_sel >> 2 & 3) : 16 * (i.op_sel >> 3 & 1);
  run_insert(w, i, exact_shape<f>(), each_lane<f>, bits, shift);
}

inline bool saturates(const Wave& w) { return w.mode & mode::fp16_overflow; }

// The same where the mode says what becomes of large numbers.
template <auto special, auto saturating, int bits>
void insert_by_mode(Wave& w, const Instruction& i) {
  saturates(w) ? insert<saturating, bits>(w, i) : insert<special, bits>(w, i);
}

inline bool is_fnuz(const Wave& w) { return architecture(*w.group) == gfx942; }

// v_cvt_pk_fp8_f32, v_cvt_sr_fp8_f32 and the like, whose format depends on the architecture.
template <SmallFormat ocp, SmallFormat fnuz>
void pack_unscaled(Wave& w, const Instruction& i) {
  if (is_fnuz(w))
    insert_by_mode<pack_floats<fnuz, Overflow::special>, pack_floats<fnuz, Overflow::saturates>,
                   16>(w, i);
  else
    insert_by_mode<pack_floats<ocp, Overflow::special>, pack_floats<ocp, Overflow::saturates>,
                   16>(w, i);
}
template <SmallFormat ocp, SmallFormat fnuz>
void round_unscaled(Wave& w, const Instruction& i) {
  if (is_fnuz(w))
    insert_by_mode<round_randomly<fnuz, Overflow::special>,
                   round_randomly<fnuz, Overflow::saturates>, 8>(w, i);
  else
    insert_by_mode<round_randomly<ocp, Overflow::special>,
                   round_randomly<ocp, Overflow::saturates>, 8>(w, i);
}
template <SmallFormat ocp, SmallFormat fnuz>
void unpack_unscaled(Wave& w, const Instruction& i) {
  is_fnuz(w) ? run_bits<unpack_one<fnuz>>(w, i) : run_bits<unpack_one<ocp>>(w, i);
}
template <SmallFormat ocp, SmallFormat fnuz>
void unpack_pair_unscaled(Wave& w, const Instruction& i) {
  is_fnuz(w) ? run_bits<unpack_pair<fnuz>>(w, i) : run_bits<unpack_pair<ocp>>(w, i);
}

template <SmallFormat f>
void pack_scaled(Wave& w, const Instruction& i) {
  insert_by_mode<pack_floats_scaled<f, Overflow::special>,
                 pack_floats_scaled<f, Overflow::saturates>, 2 * (magnitude_bits(f) + 1)>(w, i);
}
template <SmallFormat f, class T>
void pack_halves_scaled(Wave& w, const Instruction& i) {
  insert_by_mode<pack_word_scaled<f, T, Overflow::special>,
                 pack_word_scaled<f, T, Overflow::saturates>, 2 * (magnitude_bits(f) + 1)>(w, i);
}
template <SmallFormat f, class T>
void round_scaled(Wave& w, const Instruction& i) {
  insert_by_mode<round_randomly_scaled<f, T, Overflow::special>,
                 round_randomly_scaled<f, T, Overflow::saturates>, 8>(w, i);
}

// Sources of `bits` bits are chosen by op_sel: a byte by its two low bits, a half by the lowest.
[[gnu::noinline]] inline void run_unpack(Wave& w, const Instruction& i, const Shape& shape,
                                         Body body, u32 shift) {
  const u64 exec = w.exec();
  Lanes room[2], result[2];
  const Lanes* sources[2];
  for (int n = 0; n < 2; ++n) sources[n] = plain_source(w, i, n, shape.source[n], &room[n], exec);
  if (shift) {
    for (int lane = 0; lane < lanes; ++lane)
      room[0].lane[lane] = sources[0]->lane[lane] >> shift;
    sources[0] = &room[0];
  }
  if (!is_16_bit(shape.result)) {
    if (Lanes* out = destination(w, i, i.dst, rows_of(shape.result), exec))
      body(out, sources, exec);
    return;
  }
  body(result, sources, all_lanes);
  insert_bits(w, i, result[0], 16, i.op_sel & 8 ? 16 : 0, exec);
}
template <auto f, int bits>
void unpack(Wave& w, const Instruction& i) {
  const u32 shift = bits == 8 ? 8 * (i.op_sel & 3) : 16 * (i.op_sel & 1);
  run_unpack(w, i, exact_shape<f>(), each_lane<f>, shift);
}

}  // namespace aiter_moe::emulator::vector
