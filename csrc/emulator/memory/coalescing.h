// SPDX-License-Identifier: MIT
// How many 128-byte lines (of the L2) a vector memory instruction touches, against how many its
// bytes would fill if they lay side by side.
#pragma once

#include "emulator/memory/lane_mask.h"
#include "emulator/memory/transfer.h"

namespace aiter_moe::emulator {

constexpr u32 line_bytes = 128;

// Counts distinct values, by a hash table that is never more than half full.
class DistinctCounter {
 public:
  u32 count() const { return count_; }

  void add(u32 value) {
    const u32 key = value + 1;  // 0 marks a free place
    u32 at = key * 0x9e3779b1 >> 24;
    while (table_[at] != 0 && table_[at] != key) at = (at + 1) % places;
    count_ += table_[at] == 0;
    table_[at] = key;
  }

 private:
  static constexpr u32 places = 256;
  u32 table_[places] = {};
  u32 count_ = 0;
};

// Lane after lane, without gaps.
inline bool is_run(const LaneAddresses& at, u32 bytes) {
  u64 off = 0;
  for (u32 lane = 0; lane < lanes; ++lane) off |= at.at[lane] - at.at[0] - u64{lane} * bytes;
  return off == 0;
}

// Lines that 64 lanes touch, `bytes` each; idle lanes repeat another's address. Neighbours, and
// lanes 16 and 32 apart (rows of a matrix fragment), mostly share lines: few are left to compare.
inline u32 lines_touched(const LaneAddresses& at, u32 bytes) {
  const u64 begin = at.at[0];
  if (is_run(at, bytes))
    return static_cast<u32>((begin + lanes * bytes - 1) / line_bytes - begin / line_bytes) + 1;
  const u64 origin = begin / line_bytes - (1u << 30);  // lines as 32-bit numbers
  u32 first[lanes], last[lanes];
  u32 crossing = 0;
  for (int lane = 0; lane < lanes; ++lane) {
    first[lane] = static_cast<u32>(at.at[lane] / line_bytes - origin);
    last[lane] = static_cast<u32>((at.at[lane] + bytes - 1) / line_bytes - origin);
    crossing |= first[lane] ^ last[lane];
  }
  DistinctCounter lines;
  for (u64 left = ~likely_repeats(first); left != 0; left &= left - 1)
    lines.add(first[__builtin_ctzll(left)]);
  if (crossing != 0)
    for (int lane = 0; lane < lanes; ++lane) lines.add(last[lane]);
  return lines.count();
}

}  // namespace aiter_moe::emulator
