// SPDX-License-Identifier: MIT
// global_*, flat_* and scratch_* loads and stores. Any alignment is legal: HSA runs these devices
// in the unaligned access mode. Not here: atomics (atomics.h), loads to the LDS (lds_dma.h).
#pragma once

#include "emulator/memory/flat_apertures.h"
#include "emulator/memory/lane_addresses.h"
#include "emulator/memory/lds_visit.h"
#include "emulator/memory/widths.h"

namespace aiter_moe::emulator {

inline bool has_base(const Instruction& i) { return i.base != operand::none; }

// 64-bit vector addresses, or 32-bit vector offsets from a scalar base.
inline void form_global(Wave& w, const Instruction& i, u64 which, LaneAddresses& at) {
  w.need(i, i.address, which);
  const Lanes& low = w.vector[i.address - operand::v0];
  const u64 offset = static_cast<u64>(static_cast<i64>(i.offset));
  if (has_base(i)) {
    const u64 base = w.read_scalar64(i, i.base) + offset;
    for (int lane = 0; lane < lanes; ++lane) at.at[lane] = base + low.lane[lane];
    return;
  }
  w.need(i, static_cast<u16>(i.address + 1), which);
  const Lanes& high = w.vector[i.address - operand::v0 + 1];
  for (int lane = 0; lane < lanes; ++lane)
    at.at[lane] = (static_cast<u64>(high.lane[lane]) << 32 | low.lane[lane]) + offset;
}

// Points the lanes of `which` to their scratch memory; returns those that stay inside it.
inline u64 place_in_scratch(Wave& w, const Instruction& i, const Lanes& offsets, u64 which,
                            u32 bytes, LaneAddresses& at) {
  const Workgroup& group = *w.group;
  const u64 each = group.scratch_bytes;
  const u64 own = reinterpret_cast<u64>(group.scratch) + w.number * lanes * each;
  LaneFlags beyond;
  for (int lane = 0; lane < lanes; ++lane) {
    beyond.lane[lane] = u64{offsets.lane[lane]} + bytes > each;
    at.at[lane] = which >> lane & 1 ? own + lane * each + offsets.lane[lane] : at.at[lane];
  }
  const u64 outside = mask_of(beyond) & which;
  if (__builtin_expect(outside != 0, 0))
    w.fault(FaultKind::scratch_out_of_range, i, offsets.lane[__builtin_ctzll(outside)], outside,
            FaultText().add("beyond ").number(each).add(" bytes a lane").text());
  return which & ~outside;
}

inline u64 locate_scratch(Wave& w, const Instruction& i, u64 which, u32 bytes, LaneAddresses& at) {
  Lanes offsets;
  const u32 uniform = (has_base(i) ? w.read_scalar(i, i.base) : 0) + static_cast<u32>(i.offset);
  fill(offsets, uniform);
  if (i.address != operand::none) {
    w.need(i, i.address, which);
    const Lanes& own = w.vector[i.address - operand::v0];
    for (int lane = 0; lane < lanes; ++lane) offsets.lane[lane] += own.lane[lane];
  }
  redirect(at, 0, address_of_spare(spare_zeros));
  return place_in_scratch(w, i, offsets, which, bytes, at);
}

// Where the lanes of one instruction go. Lanes outside `good` point nowhere in particular.
struct Placement {
  LaneAddresses at;
  u64 good;          // active lanes that may access their address
  LdsAccess in_lds;  // of flat instructions: set lanes even where there are none
};

// The LDS lanes of a flat instruction.
inline u64 place_in_lds(Wave& w, const Instruction& i, const Lanes& offsets, u64 which, u32 bytes,
                        LdsUse use, Placement& place) {
  LdsAccess& access = place.in_lds;
  __builtin_memcpy(access.address, offsets.lane, sizeof access.address);
  access.lanes = which;
  access.second = 0;
  access.bytes = static_cast<u8>(bytes);
  access.use = use;
  const u64 good = visit_lds(w, i, access);
  for (u64 left = good; left != 0; left &= left - 1) {
    const int lane = __builtin_ctzll(left);
    place.at.at[lane] = lds_host_address(w, access.address[lane]);
  }
  return good;
}

inline void locate_flat(Wave& w, const Instruction& i, u64 which, u32 bytes, Access use,
                        LdsUse lds_use, Placement& place) {
  form_global(w, i, which, place.at);
  place.in_lds.lanes = 0;
  const ApertureLanes split = split_by_aperture(place.at, which);
  Lanes offsets;  // in the window
  for (int lane = 0; lane < lanes; ++lane) offsets.lane[lane] = static_cast<u32>(place.at.at[lane]);
  place.good = allowed_lanes(w, i, place.at, which & ~split.shared & ~split.scratch, bytes, use,
                             FaultKind::global_out_of_range);
  count_lines(w, place.at, place.good, bytes);
  if (split.scratch != 0) {
    const u64 inside = place_in_scratch(w, i, offsets, split.scratch, bytes, place.at);
    w.counters.scratch_bytes += __builtin_popcountll(inside) * bytes;
    place.good |= inside;
  }
  if (split.shared != 0)
    place.good |= place_in_lds(w, i, offsets, split.shared, bytes, lds_use, place);
}

inline void locate(Wave& w, const Instruction& i, u64 which, u32 bytes, Access use,
                   LdsUse lds_use, Placement& place) {
  if (i.format == Format::flat) return locate_flat(w, i, which, bytes, use, lds_use, place);
  if (i.format == Format::scratch) {
    place.good = locate_scratch(w, i, which, bytes, place.at);
    w.counters.scratch_bytes += __builtin_popcountll(place.good) * bytes;
    return;
  }
  form_global(w, i, which, place.at);
  place.good = allowed_lanes(w, i, place.at, which, bytes, use, FaultKind::global_out_of_range);
  count_lines(w, place.at, place.good, bytes);
}

// Adds the request of a load (rows from `first` on) or store (no rows) that has been located.
inline void issue_located(Wave& w, const Instruction& i, u16 first, u32 rows, u64 which, u32 bytes,
                          const Placement& place) {
  if (i.format != Format::flat) {
    issue_vector(w, i, first, rows, which, bytes);
    return;
  }
  issue_flat(w, i, first, rows, which, bytes).access = place.in_lds;
}

template <Width width>
inline void vector_load(Wave& w, const Instruction& i) {
  const u64 exec = w.exec();
  Placement place;
  locate(w, i, exec, width.bytes, Access::read, LdsUse::read, place);
  redirect(place.at, place.good, address_of_spare(spare_poison));
  const u32 bytes = __builtin_popcountll(place.good) * width.bytes;
  if (i.format != Format::scratch) w.counters.vmem_load_bytes += bytes;
  issue_located(w, i, i.dst, width.rows(), exec, bytes, place);
  load_registers<width>(w, place.at, i.dst, exec);
}

template <Width width>
inline void vector_store(Wave& w, const Instruction& i) {
  const u64 exec = w.exec();
  if (i.format == Format::scratch)
    need_landed_rows<width>(w, i, i.data[0], exec);
  else
    need_rows<width>(w, i, i.data[0], exec);
  Placement place;
  locate(w, i, exec, width.bytes, Access::write, LdsUse::write, place);
  Spare dropped;
  redirect(place.at, place.good, address_of_spare(dropped));
  if (i.format != Format::scratch)
    w.counters.vmem_store_bytes += __builtin_popcountll(place.good) * width.bytes;
  issue_located(w, i, 0, 0, 0, 0, place);
  scatter_width<width>(place.at, &w.vector[i.data[0] - operand::v0]);
}

}  // namespace aiter_moe::emulator
