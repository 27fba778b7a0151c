// SPDX-License-Identifier: MIT
// ds_permute_b32, ds_bpermute_b32 and ds_swizzle_b32: values travel between lanes through the LDS
// hardware without touching its memory. They count in lgkmcnt as LDS instructions. A lane that
// nobody active sends to, or that asks an idle lane, gets 0.
#pragma once

#include "emulator/memory/waits.h"

namespace aiter_moe::emulator {

// Adds a request that touches no LDS memory.
inline void issue_lane_exchange(Wave& w, const Instruction& i, u64 which) {
  land_lds(w, Requests::other_limit - 1);
  auto& queue = w.requests.lds;
  queue[queue.count].access.lanes = 0;
  issue_lds(w, i, i.dst, 1, which);
}

inline u32 lane_asked_for(const Wave& w, const Instruction& i, int lane) {
  const u32 bytes = w.vector[i.address - operand::v0].lane[lane] + static_cast<u32>(i.offset);
  return bytes / 4 % lanes;
}

inline void deliver(Wave& w, const Instruction& i, const Lanes& result, u64 which) {
  issue_lane_exchange(w, i, which);
  merge(w.vector[i.dst - operand::v0], result, which);
}

// Where several lanes send to one, the highest wins.
inline void ds_permute_b32(Wave& w, const Instruction& i) {
  const u64 exec = w.exec();
  w.need(i, i.address, exec);
  w.need(i, i.data[0], exec);
  const Lanes& data = w.vector[i.data[0] - operand::v0];
  Lanes result;
  fill(result, 0);
  for (u64 left = exec; left != 0; left &= left - 1) {
    const int lane = __builtin_ctzll(left);
    result.lane[lane_asked_for(w, i, lane)] = data.lane[lane];
  }
  deliver(w, i, result, exec);
}

// result[lane] = data[from[lane]] where that lane is active.
inline void fetch_lanes(Wave& w, const Instruction& i, const u8 (&from)[lanes], u16 source) {
  const u64 exec = w.exec();
  const Lanes& data = w.vector[source - operand::v0];
  Lanes result;
  u64 read = 0;
  for (int lane = 0; lane < lanes; ++lane) {
    const bool there = exec >> from[lane] & 1;
    result.lane[lane] = there ? data.lane[from[lane]] : 0;
    if (exec >> lane & 1) read |= static_cast<u64>(there) << from[lane];
  }
  w.need(i, source, read);
  deliver(w, i, result, exec);
}

inline void ds_bpermute_b32(Wave& w, const Instruction& i) {
  w.need(i, i.address, w.exec());
  u8 from[lanes];
  for (int lane = 0; lane < lanes; ++lane) from[lane] = static_cast<u8>(lane_asked_for(w, i, lane));
  fetch_lanes(w, i, from, i.data[0]);
}

// Which lane `lane` reads by the offset field of ds_swizzle_b32: quads in any order; lanes of 32
// rotated; or lanes of 32 by and, or, xor of their number. (The fourth mode is not supported.)
inline u32 swizzled_lane(u32 field, u32 lane) {
  constexpr u32 rotate = 0xc000, quads = 0x8000;
  const u32 half = lane & 32;
  if (field >= rotate) {
    const u32 distance = field >> 5 & 31, keep = field & 31;
    const u32 moved = field >> 10 & 1 ? lane - distance : lane + distance;
    return half | (lane & keep) | (moved & ~keep & 31);
  }
  if (field >= quads) return (lane & ~3u) | (field >> 2 * (lane & 3) & 3);
  return half | ((((lane & 31) & field) | field >> 5) ^ field >> 10) % 32;
}

inline void ds_swizzle_b32(Wave& w, const Instruction& i) {
  constexpr u32 fourier_modes = 0xe000;
  const u32 field = static_cast<u32>(i.offset);
  if (field >= fourier_modes)
    return w.fault(FaultKind::bad_instruction, i, 0, 0, "this swizzle mode is not supported");
  u8 from[lanes];
  for (u32 lane = 0; lane < lanes; ++lane) from[lane] = static_cast<u8>(swizzled_lane(field, lane));
  fetch_lanes(w, i, from, i.address);
}

}  // namespace aiter_moe::emulator
