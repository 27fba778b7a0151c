// SPDX-License-Identifier: MIT
// v_bitop3: any function of three bits, given as a table of eight (the decoder's immediate).
#pragma once

#include "emulator/exec/vector_operands.h"

namespace aiter_moe::emulator::vector {

// Entry 4 a + 2 b + c of the table, for all bits of the lanes at once.
inline void apply_table(u32 table, const Lanes& a, const Lanes& b, const Lanes& c, Lanes& out) {
  u32 entry[8];
  for (int n = 0; n < 8; ++n) entry[n] = 0u - (table >> n & 1);
  for (int lane = 0; lane < lanes; ++lane) {
    const u32 x = a.lane[lane], y = b.lane[lane], z = c.lane[lane];
    const u32 low = (~y & ((~z & entry[0]) | (z & entry[1]))) |
                    (y & ((~z & entry[2]) | (z & entry[3])));
    const u32 high = (~y & ((~z & entry[4]) | (z & entry[5]))) |
                     (y & ((~z & entry[6]) | (z & entry[7])));
    out.lane[lane] = (~x & low) | (x & high);
  }
}

inline void bitop3_words(Wave& w, const Instruction& i) {
  const u64 exec = w.exec();
  Lanes room[3];
  alignas(64) Lanes result;
  const Lanes* s[3];
  for (int n = 0; n < 3; ++n) s[n] = plain_source(w, i, n, Kind::b32, &room[n], exec);
  apply_table(static_cast<u32>(i.immediate), *s[0], *s[1], *s[2], result);
  w.write(i, i.dst, result, exec);
}

inline void bitop3_halves(Wave& w, const Instruction& i) {
  constexpr Shape shape = {3, {Kind::b16, Kind::b16, Kind::b16}, Kind::b16, true};
  Operands operands;
  alignas(64) Lanes result;
  prepare(w, i, shape, operands);
  const Lanes* const* s = operands.rows;
  apply_table(static_cast<u32>(i.immediate), *s[0], *s[1], *s[2], result);
  finish(w, i, shape, &result, operands.which);
}

}  // namespace aiter_moe::emulator::vector
