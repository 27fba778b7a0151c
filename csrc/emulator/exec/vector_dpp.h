// SPDX-License-Identifier: MIT
// Data parallel primitives: which lane a lane reads its first source from, and which lanes of the
// destination an instruction with DPP writes.
#pragma once

#include "emulator/wave.h"

namespace aiter_moe::emulator::vector {

namespace dpp_control {
constexpr u32 row_shl = 0x100, row_shr = 0x110, row_ror = 0x120;  // plus 1 to 15
constexpr u32 wave_shl = 0x130, wave_rol = 0x134, wave_shr = 0x138, wave_ror = 0x13c;
constexpr u32 row_mirror = 0x140, row_half_mirror = 0x141, row_bcast15 = 0x142,
              row_bcast31 = 0x143, row_newbcast = 0x150;
constexpr u32 row_lanes = 16;
}  // namespace dpp_control

constexpr int no_lane = -1;  // outside the row or the wave

constexpr int in_row(int lane, int column) {
  return column >= 0 && column < 16 ? (lane & ~15) + column : no_lane;
}

constexpr int in_wave(int lane) { return lane >= 0 && lane < lanes ? lane : no_lane; }

// The lane that `lane` reads from.
constexpr int dpp_source(u32 control, int lane) {
  using namespace dpp_control;
  const int column = lane & 15;
  const int amount = control & 15;
  if (control < row_shl) return (lane & ~3) + (control >> 2 * (lane & 3) & 3);
  switch (control) {
    case wave_shl: return in_wave(lane + 1);
    case wave_rol: return (lane + 1) & 63;
    case wave_shr: return in_wave(lane - 1);
    case wave_ror: return (lane - 1) & 63;
    case row_mirror: return in_row(lane, 15 - column);
    case row_half_mirror: return (lane & ~7) + 7 - (lane & 7);
    case row_bcast15: return lane < 16 ? no_lane : (lane & ~15) - 1;
    case row_bcast31: return lane < 32 ? no_lane : 31;
    default: break;
  }
  switch (control & ~15u) {
    case row_shl: return in_row(lane, column + amount);
    case row_shr: return in_row(lane, column - amount);
    case row_ror: return in_row(lane, (column - amount) & 15);
    case row_newbcast: return in_row(lane, amount);
    default: return no_lane;  // reserved: the decoder lets none of these pass
  }
}

// All controls, as the lanes they read.
struct DppPattern {
  i8 from[lanes];  // or no_lane
  u64 inside;      // lanes that read some lane
};

constexpr u32 dpp_controls = dpp_control::row_newbcast + dpp_control::row_lanes;

struct DppPatterns {
  DppPattern control[dpp_controls];
};

constexpr DppPatterns make_dpp_patterns() {
  DppPatterns all = {};
  for (u32 control = 0; control < dpp_controls; ++control)
    for (int lane = 0; lane < lanes; ++lane) {
      const int from = dpp_source(control, lane);
      all.control[control].from[lane] = static_cast<i8>(from);
      if (from >= 0) all.control[control].inside |= 1ull << lane;
    }
  return all;
}

constexpr DppPatterns dpp_patterns = make_dpp_patterns();

// The lanes of the rows and of the banks (four lanes in each row) that the masks let pass.
constexpr u64 dpp_masked(const Dpp& dpp) {
  u64 rows = 0, banks = 0;
  for (int n = 0; n < 4; ++n) {
    if (dpp.row_mask >> n & 1) rows |= 0xffffull << 16 * n;
    if (dpp.bank_mask >> n & 1) banks |= 0x000f000f000f000full << 4 * n;
  }
  return rows & banks;
}

// Where the lanes of an instruction read, and what becomes of them.
struct DppLanes {
  const DppPattern* pattern;
  u64 there;    // lanes whose source is in the row or wave, and active; others read zero
  u64 written;  // lanes that take part
};

// Bit n: the bit of `mask` at the lane that lane n reads.
inline u64 dpp_gathered(const DppPattern& pattern, u64 mask) {
  u64 bits = 0;
  for (int lane = 0; lane < lanes; ++lane)
    bits |= (mask >> (pattern.from[lane] & 63) & 1) << lane;
  return bits & pattern.inside;
}

// A lane takes part if the row and bank masks let it, and if the lane it reads is there and
// active; where that one is not, bound_ctrl makes it read zero instead.
inline DppLanes dpp_lanes(const Dpp& dpp, u64 exec) {
  const DppPattern& pattern = dpp_patterns.control[dpp.control];
  const u64 there = exec == all_lanes ? pattern.inside : dpp_gathered(pattern, exec);
  return {&pattern, there, dpp_masked(dpp) & exec & (dpp.bound_control ? all_lanes : there)};
}

// The lanes that are read by some lane that takes part.
inline u64 dpp_read(const DppLanes& dpp) {
  u64 read = 0;
  for (int lane = 0; lane < lanes; ++lane)
    if (dpp.there & dpp.written & 1ull << lane) read |= 1ull << dpp.pattern->from[lane];
  return read;
}

inline void permute(const Lanes& source, const DppLanes& dpp, Lanes& out) {
  alignas(64) Lanes read;
  for (int lane = 0; lane < lanes; ++lane)
    read.lane[lane] = source.lane[dpp.pattern->from[lane] & 63];
  fill(out, 0);
  merge(out, read, dpp.there);
}

}  // namespace aiter_moe::emulator::vector
