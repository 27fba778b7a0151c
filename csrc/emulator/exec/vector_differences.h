// SPDX-License-Identifier: MIT
// Sums of absolute differences of bytes, halves and words.
#pragma once

#include "emulator/exec/vector_integer.h"
#include "emulator/exec/vector_operands.h"

namespace aiter_moe::emulator::vector {

inline u32 absolute_difference(u32 a, u32 b) { return a > b ? a - b : b - a; }

inline u32 sum_byte_differences(u32 a, u32 b, u32 c) {
  for (int n = 0; n < 4; ++n) c += absolute_difference(byte_of(a, n), byte_of(b, n));
  return c;
}
// Bytes that are zero in the reference b count for nothing.
inline u32 sum_masked_byte_differences(u32 a, u32 b, u32 c) {
  for (int n = 0; n < 4; ++n)
    c += byte_of(b, n) ? absolute_difference(byte_of(a, n), byte_of(b, n)) : 0;
  return c;
}
inline u32 sum_byte_differences_high(u32 a, u32 b, u32 c) {
  return (sum_byte_differences(a, b, 0) << 16) + c;
}
inline u32 sum_half_differences(u32 a, u32 b, u32 c) {
  return absolute_difference(a & 0xffff, b & 0xffff) + absolute_difference(a >> 16, b >> 16) + c;
}
inline u32 add_difference(u32 a, u32 b, u32 c) { return absolute_difference(a, b) + c; }
inline u32 add_difference_saturating(u32 a, u32 b, u32 c) {
  return saturate<u32>(static_cast<i64>(absolute_difference(a, b)) + c);
}

// Four sums over the bytes n to n + 3 of a, each added to a half of c.
template <u32 (*sum)(u32, u32, u32)>
inline u64 sliding_sums(u64 a, u32 b, u64 c) {
  u64 result = 0;
  for (int n = 0; n < 4; ++n) {
    const u32 window = static_cast<u32>(a >> 8 * n), start = static_cast<u32>(c >> 16 * n & 0xffff);
    result |= static_cast<u64>(sum(window, b, start) & 0xffff) << 16 * n;
  }
  return result;
}

// The same with sums of 32 bits, which take four registers.
inline void sliding_word_sums(Wave& w, const Instruction& i) {
  const u64 exec = w.exec();
  Lanes room[2][2], result[4];
  const Lanes* a = plain_source(w, i, 0, Kind::b64, room[0], exec);
  const Lanes* b = plain_source(w, i, 1, Kind::b32, room[1], exec);
  if (!is_vector(i.src[2])) return w.fault(FaultKind::bad_instruction, i);
  const Lanes* c = register_rows(w, i, i.src[2], 4, exec);
  for (int lane = 0; lane < lanes; ++lane)
    for (int n = 0; n < 4; ++n) {
      const u32 window = static_cast<u32>(load<u64>(a, lane) >> 8 * n);
      result[n].lane[lane] =
          sum_masked_byte_differences(window, b->lane[lane], c[n].lane[lane]);
    }
  for (int n = 0; n < 4; ++n) w.write(i, static_cast<u16>(i.dst + n), result[n], exec);
}

}  // namespace aiter_moe::emulator::vector
