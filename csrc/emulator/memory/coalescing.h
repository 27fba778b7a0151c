// SPDX-License-Identifier: MIT
// How many 128-byte lines (of the L2) a vector memory instruction touches, against how many its
// bytes would fill if they lay side by side.
#pragma once

#include "emulator/memory/lane_mask.h"
#include "emulator/memory/transfer.h"

namespace aiter_moe::emulator {

constexpr u32 line_bytes = 128;

// Distinct values among the first `count` of `values`, 32 bits each.
inline u32 count_distinct(const u32* values, u32 count) {
  u32 distinct = 0;
  for (u32 n = 0; n < count; ++n) {
    u32 seen = 0;
    for (u32 k = 0; k < n; ++k) seen |= values[k] == values[n];
    distinct += 1 - seen;
  }
  return distinct;
}

// Lines that 64 lanes touch, `bytes` each; idle lanes repeat another's address. Neighbours, and
// lanes 16 and 32 apart (rows of a matrix fragment), mostly share lines: few are left to compare.
inline u32 lines_touched(const LaneAddresses& at, u32 bytes) {
  const u64 origin = at.at[0] / line_bytes - (1u << 30);
  u32 first[lanes], last[lanes];
  u32 crossing = 0;
  for (int lane = 0; lane < lanes; ++lane) {
    first[lane] = static_cast<u32>(at.at[lane] / line_bytes - origin);
    last[lane] = static_cast<u32>((at.at[lane] + bytes - 1) / line_bytes - origin);
    crossing |= first[lane] ^ last[lane];
  }
  u32 kept[2 * lanes];
  u32 count = 0;
  for (u64 left = ~likely_repeats(first); left != 0; left &= left - 1)
    kept[count++] = first[__builtin_ctzll(left)];
  if (crossing != 0)
    for (int lane = 0; lane < lanes; ++lane) {
      kept[count] = last[lane];
      count += last[lane] != first[lane];
    }
  return count_distinct(kept, count);
}

}  // namespace aiter_moe::emulator
