// SPDX-License-Identifier: MIT
// LDS bank conflicts, by a model: 64 banks of 4 bytes on gfx950, 32 on gfx942. An access is served
// in phases of as many consecutive lanes as can fill all banks (b32 on 64 banks: all 64 lanes;
// b128: four phases of 16). A phase takes a cycle, or as many as the busiest bank has distinct
// places to serve; lanes that want the same place share it. The lanes that really form the phases
// of wide accesses are not documented.
#pragma once

#include "emulator/memory/lane_mask.h"
#include "emulator/workgroup.h"

namespace aiter_moe::emulator {

// Most distinct values among `places` that are equal modulo `slots`.
inline u32 busiest_slot(const u32* places, u32 count, u32 slots) {
  u32 distinct[lanes];         // values met, those of one slot chained by `next`
  u8 next[lanes], first[lanes], depth[lanes] = {};
  u32 met = 0, most = 0;
  for (u32 n = 0; n < count; ++n) {
    const u32 slot = places[n] & (slots - 1);
    u32 left = depth[slot], at = first[slot];
    while (left != 0 && distinct[at] != places[n]) at = --left == 0 ? at : next[at];
    if (left != 0) continue;
    distinct[met] = places[n];
    next[met] = first[slot];
    first[slot] = static_cast<u8>(met++);
    most = larger<u32>(most, ++depth[slot]);
  }
  return most;
}

// The places of the lanes in `kept` fall in different slots of their phase.
inline bool all_slots_differ(const u32* places, u32 count, u32 slots, u64 kept) {
  u64 used = 0;
  for (u32 n = 0; n < count; ++n) used |= (kept >> n & 1) << (places[n] & (slots - 1));
  return __builtin_popcountll(used) == __builtin_popcountll(kept);
}

struct BankCycles {
  u32 taken;
  u32 ideal;  // without conflicts
};

// One piece of an access. A place is an address in units of the access, of at least a dword: a
// phase has as many lanes as there are places for. (b96 counts as b128.)
inline BankCycles bank_cycles(const LdsAccess& access, u32 displacement, u32 banks) {
  const u32 shift = access.bytes <= 4 ? 2 : access.bytes <= 8 ? 3 : 4;
  const u32 phase_lanes = banks >> (shift - 2);
  BankCycles cycles{0, 0};
  if (access.run && access.bytes >= 4) {
    cycles.taken = cycles.ideal = lanes / phase_lanes;
    return cycles;
  }
  u32 place[lanes];
  for (int lane = 0; lane < lanes; ++lane)
    place[lane] = (access.address[lane] + displacement) >> shift;
  const u64 kept = ~likely_repeats(place, static_cast<int>(phase_lanes));
  for (u32 begin = 0; begin < lanes; begin += phase_lanes) {
    const u64 phase = (phase_lanes == lanes ? all_lanes : (1ull << phase_lanes) - 1) << begin;
    if ((access.lanes & phase) == 0) continue;
    ++cycles.ideal;
    // Idle lanes repeat another's place, which costs nothing.
    if (all_slots_differ(place + begin, phase_lanes, phase_lanes, (kept & phase) >> begin))
      ++cycles.taken;
    else
      cycles.taken += busiest_slot(place + begin, phase_lanes, phase_lanes);
  }
  return cycles;
}

inline void count_banks(Wave& w, const LdsAccess& access) {
  if (access.lanes == 0) return;
  const u32 banks = w.group->launch->arch == 942 ? 32 : 64;
  BankCycles all = bank_cycles(access, 0, banks);
  if (access.second != 0) {
    const BankCycles more = bank_cycles(access, access.second, banks);
    all.taken += more.taken;
    all.ideal += more.ideal;
  }
  w.counters.lds_cycles += all.taken;
  w.counters.lds_conflict_cycles += all.taken - all.ideal;
}

}  // namespace aiter_moe::emulator
