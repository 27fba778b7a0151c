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

struct BankCycles {
  u32 taken;
  u32 ideal;  // without conflicts
};

// A bit for every slot.
template <u32 slots>
struct SlotSet {
  using type = u32;
};
template <>
struct SlotSet<64> {
  using type = u64;
};

// Bit n of `crowded`: phase n has lanes of `kept` that share a slot.
template <u32 phase_lanes>
inline u32 crowded_phases(const u32* place, u64 kept) {
  using Slots = typename SlotSet<phase_lanes>::type;
  alignas(64) Slots slot[lanes];
  for (int lane = 0; lane < lanes; ++lane)
    slot[lane] = Slots{kept >> lane & 1 ? 1u : 0u} << (place[lane] & (phase_lanes - 1));
  u32 crowded = 0;
  for (u32 phase = 0; phase < lanes / phase_lanes; ++phase) {
    Slots used = 0;
    for (u32 n = 0; n < phase_lanes; ++n) used |= slot[phase * phase_lanes + n];
    const u64 own = kept >> phase * phase_lanes & (all_lanes >> (lanes - phase_lanes));
    crowded |= static_cast<u32>(__builtin_popcountll(used) != __builtin_popcountll(own)) << phase;
  }
  return crowded;
}

// Idle lanes repeat another's place, which costs nothing.
template <u32 phase_lanes>
inline BankCycles count_phases(const u32* place, u64 active) {
  const u32 crowded =
      crowded_phases<phase_lanes>(place, ~likely_repeats(place, static_cast<int>(phase_lanes)));
  BankCycles cycles{0, 0};
  for (u32 phase = 0; phase < lanes / phase_lanes; ++phase) {
    const u32 begin = phase * phase_lanes;
    if ((active >> begin & (all_lanes >> (lanes - phase_lanes))) == 0) continue;
    ++cycles.ideal;
    cycles.taken +=
        crowded >> phase & 1 ? busiest_slot(place + begin, phase_lanes, phase_lanes) : 1;
  }
  return cycles;
}

// One piece of an access. A place is an address in units of the access, of at least a dword: a
// phase has as many lanes as there are places for. (b96 counts as b128.)
inline BankCycles bank_cycles(const LdsAccess& access, u32 displacement, u32 banks) {
  const u32 shift = access.bytes <= 4 ? 2 : access.bytes <= 8 ? 3 : 4;
  const u32 phase_lanes = banks >> (shift - 2);
  if (access.run && access.bytes >= 4) return {lanes / phase_lanes, lanes / phase_lanes};
  u32 place[lanes];
  for (int lane = 0; lane < lanes; ++lane)
    place[lane] = (access.address[lane] + displacement) >> shift;
  switch (phase_lanes) {
    case 64: return count_phases<64>(place, access.lanes);
    case 32: return count_phases<32>(place, access.lanes);
    case 16: return count_phases<16>(place, access.lanes);
    default: return count_phases<8>(place, access.lanes);
  }
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
