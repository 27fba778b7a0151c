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

constexpr int no_lane = -1;       // outside the row or the wave
constexpr int no_control = -2;    // reserved encoding

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
    case row_shl: return amount ? in_row(lane, column + amount) : no_control;
    case row_shr: return amount ? in_row(lane, column - amount) : no_control;
    case row_ror: return amount ? in_row(lane, (column - amount) & 15) : no_control;
    case row_newbcast: return in_row(lane, amount);
    default: return no_control;
  }
}

// Where the lanes of an instruction read, and what becomes of them.
struct DppLanes {
  i8 from[lanes];  // lane read, or no_lane where zero is read
  u64 written;     // lanes that take part
  u64 read;        // lanes some lane of `written` reads
  bool valid;
};

// A lane takes part if the row and bank masks let it, and if the lane it reads is there and
// active; where that one is not, bound_ctrl makes it read zero instead.
inline DppLanes dpp_lanes(const Dpp& dpp, u64 exec) {
  DppLanes out = {{}, 0, 0, true};
  for (int lane = 0; lane < lanes; ++lane) {
    const int from = dpp_source(dpp.control, lane);
    if (from == no_control) out.valid = false;
    const bool there = from >= 0 && (exec >> from & 1);
    const bool masked = (dpp.row_mask >> (lane >> 4) & 1) && (dpp.bank_mask >> (lane >> 2 & 3) & 1);
    out.from[lane] = static_cast<i8>(there ? from : no_lane);
    if (!masked || !(exec >> lane & 1) || !(there || dpp.bound_control)) continue;
    out.written |= 1ull << lane;
    if (there) out.read |= 1ull << from;
  }
  return out;
}

inline void permute(const Lanes& source, const DppLanes& dpp, Lanes& out) {
  for (int lane = 0; lane < lanes; ++lane)
    out.lane[lane] = dpp.from[lane] < 0 ? 0 : source.lane[static_cast<int>(dpp.from[lane])];
}

}  // namespace aiter_moe::emulator::vector
