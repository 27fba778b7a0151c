// SPDX-License-Identifier: MIT
// LDS bank conflicts, by a model: 64 banks of 4 bytes on gfx950, 32 on gfx942. An access is served
// in phases of as many consecutive lanes as can fill all banks (b32 on 64 banks: all 64 lanes;
// b128: four phases of 16). A phase takes a cycle, or as many as the busiest bank has distinct
// places to serve; lanes that want the same place share it. The lanes that really form the phases
// of wide accesses are not documented.
#pragma once

#include "emulator/workgroup.h"

namespace aiter_moe::emulator {

// Most distinct values among `places` that are equal modulo `slots`.
inline u32 busiest_slot(const u32* places, u32 count, u32 slots) {
  u32 most = 1;
  for (u32 n = 0; n < count; ++n) {
    u32 distinct = 1;
    bool repeated = false;
    for (u32 k = 0; k < n; ++k) {
      if (places[k] % slots != places[n] % slots) continue;
      repeated |= places[k] == places[n];
      bool counted = false;
      for (u32 j = 0; j < k; ++j) counted |= places[j] == places[k];
      distinct += !counted;
    }
    if (!repeated) most = distinct > most ? distinct : most;
  }
  return most;
}

// No two of the `count` places fall in one slot.
inline bool all_slots_differ(const u32* places, u32 count, u32 slots) {
  u64 used = 0;
  for (u32 n = 0; n < count; ++n) used |= 1ull << (places[n] & (slots - 1));
  return static_cast<u32>(__builtin_popcountll(used)) == count;
}

struct BankCycles {
  u32 taken;
  u32 ideal;  // without conflicts
};

// One access of `bytes` a lane in the lanes of `which`. `place` is the address in units of the
// access, of at least a dword: units are as many as lanes of a phase. (b96 counts as b128.)
inline BankCycles bank_cycles(const u32 (&address)[lanes], u32 displacement, u32 bytes, u64 which,
                              u32 banks) {
  const u32 shift = bytes <= 4 ? 2 : bytes <= 8 ? 3 : 4;
  const u32 lanes_a_phase = banks >> (shift - 2);
  u32 place[lanes];
  for (int lane = 0; lane < lanes; ++lane) place[lane] = (address[lane] + displacement) >> shift;
  BankCycles cycles{0, 0};
  for (u32 begin = 0; begin < lanes; begin += lanes_a_phase) {
    const u64 phase = lanes_a_phase == lanes ? which
                                             : which >> begin & ((1ull << lanes_a_phase) - 1);
    if (phase == 0) continue;
    ++cycles.ideal;
    if (all_slots_differ(place + begin, lanes_a_phase, lanes_a_phase))
      ++cycles.taken;
    else  // idle lanes repeat another's place, which costs nothing
      cycles.taken += busiest_slot(place + begin, lanes_a_phase, lanes_a_phase);
  }
  return cycles;
}

inline void count_banks(Wave& w, const LdsAccess& access) {
  if (access.lanes == 0) return;
  const u32 banks = w.group->launch->arch == 942 ? 32 : 64;
  BankCycles all = bank_cycles(access.address, 0, access.bytes, access.lanes, banks);
  if (access.second != 0) {
    const BankCycles more =
        bank_cycles(access.address, access.second, access.bytes, access.lanes, banks);
    all.taken += more.taken;
    all.ideal += more.ideal;
  }
  w.counters.lds_cycles += all.taken;
  w.counters.lds_conflict_cycles += all.taken - all.ideal;
}

}  // namespace aiter_moe::emulator
