// SPDX-License-Identifier: MIT
// The checks of an LDS access, common to DS and flat instructions: range, then the shadow.
#pragma once

#include "emulator/memory/waits.h"

namespace aiter_moe::emulator {

// Lanes outside `which` repeat the first of it, which the shadow relies on.
inline void repeat_in_idle_lanes(u32 (&address)[lanes], u64 which) {
  if (which == all_lanes || which == 0) return;
  const u32 value = address[__builtin_ctzll(which)];
  for (int lane = 0; lane < lanes; ++lane)
    address[lane] = which >> lane & 1 ? address[lane] : value;
}

// Lanes of which [address + displacement, + bytes) does not lie in the LDS.
inline u64 lanes_outside(const u32 (&address)[lanes], u32 displacement, u32 bytes, u32 size,
                         u64 which) {
  u32 any = 0;
  for (int lane = 0; lane < lanes; ++lane)
    any |= static_cast<u64>(address[lane] + displacement) + bytes > size;
  if (any == 0) return 0;
  u64 outside = 0;
  for (int lane = 0; lane < lanes; ++lane)
    outside |=
        static_cast<u64>(static_cast<u64>(address[lane] + displacement) + bytes > size) << lane;
  return outside & which;
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
  const u64 which = access.lanes;
  const u32 size = w.group->lds.size;
  repeat_in_idle_lanes(access.address, which);
  u64 outside = lanes_outside(access.address, 0, access.bytes, size, which);
  if (access.second != 0)
    outside |= lanes_outside(access.address, access.second, access.bytes, size, which);
  if (__builtin_expect(outside != 0, 0)) {
    w.fault(FaultKind::lds_out_of_range, i, access.address[__builtin_ctzll(outside)], outside,
            FaultText().add("beyond ").number(size).add(" bytes; lanes ").hex(outside).text());
    access.lanes = which & ~outside;
    repeat_in_idle_lanes(access.address, access.lanes);
  }
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
