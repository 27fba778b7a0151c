// SPDX-License-Identifier: MIT
// Scaled conversions of 32 numbers at once, to and from six registers of 6-bit floats.
#pragma once

#include "emulator/exec/vector_scaled_convert.h"

namespace aiter_moe::emulator::vector {

constexpr int many = 32, packed_rows = 6;

inline void set_six(u32 (&words)[packed_rows + 1], int n, u32 code) {
  const int bit = 6 * n, word = bit >> 5, shift = bit & 31;
  const u64 placed = static_cast<u64>(code) << shift;
  words[word] |= static_cast<u32>(placed);
  words[word + 1] |= static_cast<u32>(placed >> 32);
}
inline u32 get_six(const Lanes* rows, int n, int lane) {
  const int bit = 6 * n, word = bit >> 5, shift = bit & 31;
  const u64 above = word + 1 < packed_rows ? rows[word + 1].lane[lane] : 0;
  return static_cast<u32>((above << 32 | rows[word].lane[lane]) >> shift) & 63;
}

// Number n of a source of 32 numbers.
template <class T>
inline f64 number_of_many(const Lanes* rows, int n, int lane) {
  if constexpr (sizeof(T) == 4) return as<f32>(rows[n].lane[lane]);
  else return value_of(n & 1 ? high_half<T>(rows[n >> 1].lane[lane])
                             : low_half<T>(rows[n >> 1].lane[lane]));
}

inline void write_rows(Wave& w, const Instruction& i, const Lanes* rows, int count, u64 which) {
  Lanes* out = destination(w, i, i.dst, count, which);
  if (!out) return;
  for (int row = 0; row < count; ++row) merge(out[row], rows[row], which);
}

inline const Lanes* many_source(Wave& w, const Instruction& i, int n, int rows) {
  if (is_vector(i.src[n])) return register_rows(w, i, i.src[n], rows, w.exec());
  w.fault(FaultKind::bad_instruction, i, 0, 0, "a scalar where many registers are packed");
  return nullptr;
}

// The rounding of a pack: to nearest, or with a random number that changes from number to number.
template <SmallFormat f, class T, Rounding rounding>
void pack_many(Wave& w, const Instruction& i) {
  constexpr bool random = rounding == Rounding::stochastic;
  Lanes scale_room, random_room, result[packed_rows];
  const Lanes* from = many_source(w, i, 0, sizeof(T) == 4 ? many : many / 2);
  if (!from) return;
  const u64 exec = w.exec();
  const Lanes* noise = random ? plain_source(w, i, 1, Kind::b32, &random_room, exec) : nullptr;
  const Lanes* scales = plain_source(w, i, random ? 2 : 1, Kind::f32, &scale_room, exec);
  for (int lane = 0; lane < lanes; ++lane) {
    const f64 inverse = inverse_of_scale(as<f32>(scales->lane[lane]));
    u32 words[packed_rows + 1] = {}, state = random ? noise->lane[lane] : 0;
    for (int n = 0; n < many; ++n) {
      const f64 value = number_of_many<T>(from, n, lane) * inverse;
      set_six(words, n, encode<f, rounding, Overflow::saturates>(value, state));
      state = next_random(state);
    }
    for (int row = 0; row < packed_rows; ++row) result[row].lane[lane] = words[row];
  }
  write_rows(w, i, result, packed_rows, exec);
}

// Two sources of 16 numbers, taken in turn.
template <SmallFormat f>
void pack_two_sources(Wave& w, const Instruction& i) {
  Lanes scale_room, result[packed_rows];
  const Lanes* even = many_source(w, i, 0, many / 2);
  const Lanes* odd = many_source(w, i, 1, many / 2);
  if (!even || !odd) return;
  const u64 exec = w.exec();
  const Lanes* scales = plain_source(w, i, 2, Kind::f32, &scale_room, exec);
  for (int lane = 0; lane < lanes; ++lane) {
    const f64 inverse = inverse_of_scale(as<f32>(scales->lane[lane]));
    u32 words[packed_rows + 1] = {};
    for (int n = 0; n < many; ++n) {
      const f64 value = number_of_many<f32>(n & 1 ? odd : even, n >> 1, lane) * inverse;
      set_six(words, n, encode<f, Rounding::nearest, Overflow::saturates>(value, 0));
    }
    for (int row = 0; row < packed_rows; ++row) result[row].lane[lane] = words[row];
  }
  write_rows(w, i, result, packed_rows, exec);
}

template <SmallFormat f, class T>
void unpack_many(Wave& w, const Instruction& i) {
  constexpr int per_word = sizeof(T) == 4 ? 1 : 2, rows = many / per_word;
  Lanes scale_room, result[rows];
  const Lanes* from = many_source(w, i, 0, packed_rows);
  if (!from) return;
  const u64 exec = w.exec();
  const Lanes* scales = plain_source(w, i, 1, Kind::f32, &scale_room, exec);
  for (int lane = 0; lane < lanes; ++lane)
    for (int row = 0; row < rows; ++row) {
      u32 word = 0;
      for (int part = 0; part < per_word; ++part) {
        const u32 code = get_six(from, row * per_word + part, lane);
        const f32 value = unpack_one_scaled<f>(code, as<f32>(scales->lane[lane]));
        word |= bits_as<T>(value) << 16 * part;
      }
      result[row].lane[lane] = word;
    }
  write_rows(w, i, result, rows, exec);
}

}  // namespace aiter_moe::emulator::vector
