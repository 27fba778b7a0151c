// SPDX-License-Identifier: MIT
// The checks of an LDS access, common to DS and flat instructions: range, then the shadow.
#pragma once

#include "emulator/memory/lane_mask.h"
#include "emulator/memory/waits.h"

namespace aiter_moe::emulator {

// Lanes of which [address + displacement, + bytes) does not lie in the LDS.
inline u64 lanes_outside(const LdsAccess& access, u32 displacement, u32 size) {
  const u32 last = size - access.bytes;  // address of an access
  u32 any = size < access.bytes;
  for (int lane = 0; lane < lanes; ++lane) any |= access.address[lane] + displacement > last;
  if (__builtin_expect(any == 0, 1)) return 0;
  LaneFlags outside;
  for (int lane = 0; lane < lanes; ++lane)
    outside.lane[lane] =
        u64{access.address[lane] + displacement} + access.bytes > size;
  return mask_of(outside) & access.lanes;
}

// Idle lanes repeat the first active one.
inline void repeat_in_idle_lanes(LdsAccess& access) {
  const u64 which = access.lanes;
  if (which != all_lanes && which != 0)
    replace_outside(access.address, which, access.address[__builtin_ctzll(which)]);
}

inline bool is_run(const LdsAccess& access) {
  u32 off = 0;
  for (u32 lane = 0; lane < lanes; ++lane)
    off |= (access.address[lane] - access.address[0]) ^ (lane * access.bytes);
  return off == 0;
}

inline void report_findings(Wave& w, const Instruction& i, const LdsAccess& access,
                            const LdsFindings& findings) {
  const auto report = [&](FaultKind kind, u64 bad, const char* what) {
    if (bad == 0) return;
    FaultText detail;
    detail.add(what);
    if (kind == FaultKind::lds_race && findings.other < tag::several)
      detail.number(findings.other);
    else if (kind == FaultKind::lds_race)
      detail.add("several");
    detail.add("; lanes ").hex(bad);
    w.fault(kind, i, access.address[__builtin_ctzll(bad)], bad, detail.text());
  };
  const bool reads = access.use == LdsUse::read;
  report(FaultKind::undefined_lds, findings.undefined, "bytes never written");
  report(FaultKind::in_flight_lds, findings.in_flight,
         reads ? "read before the wait for the load to it"
               : "written before the wait for the load to it");
  report(FaultKind::lds_race, findings.race,
         reads ? "read while also written, without a barrier between, by wave "
               : "written while also used, without a barrier between, by wave ");
}

// Checks and records an access whose addresses are filled in; takes from its lanes those that are
// out of range. Returns the lanes that may go on.
inline u64 visit_lds(Wave& w, const Instruction& i, LdsAccess& access) {
  const u32 size = w.group->lds.size;
  repeat_in_idle_lanes(access);
  u64 outside = lanes_outside(access, 0, size);
  if (access.second != 0) outside |= lanes_outside(access, access.second, size);
  if (__builtin_expect(outside != 0, 0)) {
    w.fault(FaultKind::lds_out_of_range, i, access.address[__builtin_ctzll(outside)], outside,
            FaultText().add("beyond ").number(size).add(" bytes; lanes ").hex(outside).text());
    access.lanes &= ~outside;
    repeat_in_idle_lanes(access);
  }
  access.run = is_run(access);
  LdsFindings findings{};
  w.group->lds.shadow.visit(access, w.number, findings);
  if (__builtin_expect((findings.undefined | findings.in_flight | findings.race) != 0, 0))
    report_findings(w, i, access, findings);
  return access.lanes;
}

inline u64 lds_host_address(const Wave& w, u32 address) {
  return reinterpret_cast<u64>(w.group->lds.bytes) + address;
}

}  // namespace aiter_moe::emulator
