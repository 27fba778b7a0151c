// SPDX-License-Identifier: MIT
// Where the lanes of a vector memory instruction point to in global memory, whether they may, and
// what is counted about it. Not here: how an address is formed (global_memory.h, buffers.h).
#pragma once

#include "emulator/memory/coalescing.h"
#include "emulator/memory/waits.h"

namespace aiter_moe::emulator {

// Bytes that lanes without a place of their own are pointed to.
struct alignas(16) Spare {
  u32 words[4];
};
inline constexpr Spare spare_zeros = {{0, 0, 0, 0}};
inline constexpr Spare spare_poison = {{poison, poison, poison, poison}};

inline u64 address_of_spare(const Spare& spare) { return reinterpret_cast<u64>(&spare); }

// Points the lanes outside `which` to `place`.
inline void redirect(LaneAddresses& at, u64 which, u64 place) {
  if (which != all_lanes) replace_outside(at.at, which, place);
}

inline bool in_one_range(Wave& w, const LaneAddresses& at, u32 bytes, Access use) {
  u64 low = at.at[0], high = at.at[0];
  for (int lane = 0; lane < lanes; ++lane) {
    low = smaller(low, at.at[lane]);
    high = larger(high, at.at[lane]);
  }
  u16& hint = w.requests.range_hint[w.pc % 16];
  const Range* range = w.group->launch->memory->find(low, high + bytes, hint);
  return range != nullptr && range->allows(use);
}

// The lanes of `which` that may not access `bytes` at their address. Reports the first.
inline u64 lanes_astray(Wave& w, const Instruction& i, const LaneAddresses& at, u64 which,
                        u32 bytes, Access use, FaultKind kind) {
  u64 astray = 0;
  const Range* closed = nullptr;
  for (u64 left = which; left != 0; left &= left - 1) {
    const int lane = __builtin_ctzll(left);
    u16& hint = w.requests.range_hint[w.pc % 16];
    const u64 from = at.at[lane];
    const Range* range = w.group->launch->memory->find(from, from + bytes, hint);
    if (range != nullptr && range->allows(use)) continue;
    if (astray == 0) closed = range;
    astray |= 1ull << lane;
  }
  if (astray == 0) return 0;
  FaultText detail;
  detail.number(bytes).add(use == Access::read ? " bytes read" : " bytes written or changed");
  detail.add(closed == nullptr ? ", in no allocation" : ", not allowed in ");
  if (closed != nullptr) detail.add(closed->name == nullptr ? "this allocation" : closed->name);
  detail.add("; lanes ").hex(astray);
  w.fault(kind, i, at.at[__builtin_ctzll(astray)], astray, detail.text());
  return astray;
}

// The lanes of `which` that may access `bytes` at their address. The others' addresses are of no
// use afterwards.
inline u64 allowed_lanes(Wave& w, const Instruction& i, LaneAddresses& at, u64 which, u32 bytes,
                         Access use, FaultKind kind) {
  if (which == 0) return 0;
  redirect(at, which, at.at[__builtin_ctzll(which)]);
  if (__builtin_expect(in_one_range(w, at, bytes, use), 1)) return which;
  return which & ~lanes_astray(w, i, at, which, bytes, use, kind);
}

inline void count_lines(Wave& w, LaneAddresses& at, u64 which, u32 bytes) {
  if (which == 0) return;
  redirect(at, which, at.at[__builtin_ctzll(which)]);
  const u32 total = __builtin_popcountll(which) * bytes;
  w.counters.vmem_lines += lines_touched(at, bytes);
  w.counters.vmem_ideal_lines += (total + line_bytes - 1) / line_bytes;
}

}  // namespace aiter_moe::emulator
