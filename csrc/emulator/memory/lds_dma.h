// SPDX-License-Identifier: MIT
// Loads from global memory straight to the LDS: buffer_load_* with the lds flag, global_load_lds_*.
// Lane n's bytes go to M0 + instruction offset + n * size, where size is at least a dword (narrower
// loads are widened). The instruction offset is part of both addresses. The bytes arrive when
// vmcnt says so; until then the shadow reports every other use of them.
#pragma once

#include "emulator/memory/buffers.h"
#include "emulator/memory/global_memory.h"

namespace aiter_moe::emulator {

// Where a DMA load goes.
struct DmaTarget {
  u32 address;  // of lane 0
  u32 each;     // bytes a lane
  u64 which;    // lanes that store inside the LDS
};

inline u64 dma_lanes_inside(Wave& w, const Instruction& i, u32 address, u32 each, u64 which) {
  const u32 size = w.group->lds.size;
  if (static_cast<u64>(address) + lanes * each <= size) return which;
  u64 inside = 0;
  for (u32 lane = 0; lane < lanes; ++lane)
    inside |= static_cast<u64>(static_cast<u64>(address) + (lane + 1) * each <= size) << lane;
  const u64 outside = which & ~inside;
  if (outside != 0)
    w.fault(FaultKind::lds_out_of_range, i, address + __builtin_ctzll(outside) * each, outside,
            FaultText().add("beyond ").number(size).add(" bytes; lanes ").hex(outside).text());
  return which & inside;
}

inline bool overlaps(u32 address, u32 bytes, const DmaTarget& target) {
  return address < u64{target.address} + lanes * target.each &&
         target.address < u64{address} + bytes;
}

// The wave's own LDS instructions that are still in flight are not ordered with its DMA loads.
inline bool meets_own_request(const Wave& w, const DmaTarget& target) {
  const auto& pending = w.requests.lds;
  for (u32 n = 0; n < pending.count; ++n) {
    const LdsAccess& access = pending[n].access;
    for (u64 left = access.lanes; left != 0; left &= left - 1) {
      const u32 address = access.address[__builtin_ctzll(left)];
      if (overlaps(address, access.bytes, target) ||
          overlaps(address + access.second, access.bytes, target))
        return true;
    }
  }
  return false;
}

inline void visit_dma_lanes(Wave& w, const Instruction& i, const DmaTarget& target) {
  LdsFindings findings{};
  LdsAccess access;
  access.use = LdsUse::write;
  for (u32 lane = 0; lane < lanes; ++lane) {
    access.address[lane] = target.address + lane * target.each;
    if (target.which >> lane & 1)
      w.group->lds.shadow.dma_issued(access.address[lane] / 4, target.each / 4, w.number,
                                     1ull << lane, findings);
  }
  if ((findings.in_flight | findings.race) != 0) report_findings(w, i, access, findings);
}

inline void visit_dma(Wave& w, const Instruction& i, const DmaTarget& target) {
  LdsShadow& shadow = w.group->lds.shadow;
  const u32 dword = target.address / 4, each = target.each / 4;
  const bool idle = target.which == all_lanes &&
                    shadow.dma_issued_to_idle(dword, lanes * each, w.number);
  if (__builtin_expect(!idle, 0)) visit_dma_lanes(w, i, target);
  if (__builtin_expect(w.requests.lds.count != 0, 0) && meets_own_request(w, target))
    w.fault(FaultKind::in_flight_lds, i, target.address, target.which,
            "a DMA load writes what an LDS instruction of this wave, not waited for, uses");
}

template <Width width>
inline void copy_to_lds(const LaneAddresses& from, u64 to, const DmaTarget& target) {
  for (u64 left = target.which; left != 0; left &= left - 1) {
    const u32 lane = __builtin_ctzll(left);
    const u64 place = to + lane * target.each;
    if constexpr (width.narrow())
      store_unaligned(place, narrow_load<width>(from.at[lane]));
    else
      __builtin_memcpy(reinterpret_cast<void*>(place), reinterpret_cast<const void*>(from.at[lane]),
                       width.bytes);
  }
}

// The LDS half of a load whose sources are known.
template <Width width>
inline void deliver_to_lds(Wave& w, const Instruction& i, const LaneAddresses& from, u64 which,
                           u32 loaded) {
  w.need_scalar(i, operand::m0);
  DmaTarget target{w.scalar[operand::m0] + static_cast<u32>(i.offset), larger<u32>(width.bytes, 4),
                   which};
  if ((target.address & 3) != 0) {
    w.fault(FaultKind::misaligned, i, target.address, which, "LDS address of a DMA load");
    target.address &= ~3u;
  }
  target.which = dma_lanes_inside(w, i, target.address, target.each, which);
  visit_dma(w, i, target);
  w.counters.vmem_load_bytes += loaded;
  w.counters.lds_dma_bytes += loaded;
  VectorRequest& request = issue_vector(w, i, 0, 0, 0, loaded);
  request.lds_address = target.address;
  request.lds_bytes = target.each;
  request.lds_lanes = target.which;
  copy_to_lds<width>(from, lds_host_address(w, target.address), target);
}

template <Width width>
inline void buffer_load_to_lds(Wave& w, const Instruction& i) {
  const u64 exec = w.exec();
  BufferLanes sorted;
  BufferStandIns stand_ins;
  const u32 loaded = point_loads(w, i, exec, width.bytes, sorted, stand_ins);
  deliver_to_lds<width>(w, i, sorted.at, exec, loaded);
}

template <Width width>
inline void global_load_lds(Wave& w, const Instruction& i) {
  const u64 exec = w.exec();
  Placement place;
  locate(w, i, exec, width.bytes, Access::read, LdsUse::read, place);
  redirect(place.at, place.good, address_of_spare(spare_poison));
  deliver_to_lds<width>(w, i, place.at, exec, __builtin_popcountll(place.good) * width.bytes);
}

template <Width width>
inline void buffer_load(Wave& w, const Instruction& i) {
  if (i.to_lds) return buffer_load_to_lds<width>(w, i);
  buffer_load_registers<width>(w, i);
}

}  // namespace aiter_moe::emulator
