// SPDX-License-Identifier: MIT
// ds_read* and ds_write*. Any alignment is legal: HSA runs these devices in the unaligned access
// mode, which covers the LDS (LLVM: "unaligned-access-mode"); only atomics and transposing reads
// need their natural alignment. Not here: atomics (atomics.h), transposing reads (ds_transpose.h),
// lane permutations (ds_permute.h).
#pragma once

#include "emulator/memory/banks.h"
#include "emulator/memory/lane_addresses.h"
#include "emulator/memory/lds_visit.h"
#include "emulator/memory/widths.h"

namespace aiter_moe::emulator {

// The access of the LDS instruction about to be issued, with its addresses filled in.
inline LdsAccess& begin_lds(Wave& w, const Instruction& i, u32 offset, u32 second, u32 bytes,
                            LdsUse use) {
  land_lds(w, Requests::other_limit - 1);
  const u64 exec = w.exec();
  w.need(i, i.address, exec);
  auto& queue = w.requests.lds;
  LdsAccess& access = queue[queue.count].access;
  const Lanes& base = w.vector[i.address - operand::v0];
  for (int lane = 0; lane < lanes; ++lane) access.address[lane] = base.lane[lane] + offset;
  access.lanes = exec;
  access.second = second;
  access.bytes = static_cast<u8>(bytes);
  access.use = use;
  return access;
}

// Checks and counts it; `at` gets the host addresses of its first piece, `spare` where lanes fail.
inline void place_lds(Wave& w, const Instruction& i, LdsAccess& access, u64 spare,
                      LaneAddresses& at) {
  const u64 good = visit_lds(w, i, access);
  count_banks(w, access);
  const u64 base = reinterpret_cast<u64>(w.group->lds.bytes);
  for (int lane = 0; lane < lanes; ++lane) at.at[lane] = base + access.address[lane];
  redirect(at, good, spare);
}

// From the addresses of the first piece to those of the second.
inline void move_to_second(const LdsAccess& access, LaneAddresses& at) {
  const u64 distance = static_cast<u64>(static_cast<i64>(static_cast<i32>(access.second)));
  for (int lane = 0; lane < lanes; ++lane)
    at.at[lane] += access.lanes >> lane & 1 ? distance : 0;
}

inline u32 lds_bytes_of(const LdsAccess& access, u32 pieces) {
  return static_cast<u32>(__builtin_popcountll(access.lanes)) * access.bytes * pieces;
}

// The rest of a read or write whose access has been begun.
template <Width width>
inline void finish_read(Wave& w, const Instruction& i, LdsAccess& access) {
  const u64 exec = access.lanes;
  LaneAddresses at;
  place_lds(w, i, access, address_of_spare(spare_poison), at);
  w.counters.lds_read_bytes += lds_bytes_of(access, 1);
  issue_lds(w, i, i.dst, width.rows(), exec);
  load_registers<width>(w, at, i.dst, exec);
}

template <Width width>
inline void finish_write(Wave& w, const Instruction& i, LdsAccess& access) {
  LaneAddresses at;
  Spare dropped;
  place_lds(w, i, access, address_of_spare(dropped), at);
  w.counters.lds_write_bytes += lds_bytes_of(access, 1);
  issue_lds(w, i, 0, 0, 0);
  scatter_width<width>(at, &w.vector[i.data[0] - operand::v0]);
}

template <Width width>
inline void ds_read(Wave& w, const Instruction& i) {
  finish_read<width>(
      w, i, begin_lds(w, i, static_cast<u32>(i.offset), 0, width.bytes, LdsUse::read));
}

template <Width width>
inline void ds_write(Wave& w, const Instruction& i) {
  need_rows<width>(w, i, i.data[0], w.exec());
  finish_write<width>(
      w, i, begin_lds(w, i, static_cast<u32>(i.offset), 0, width.bytes, LdsUse::write));
}

// read2 and write2 take two offsets in units of the element; the st64 forms in 64 of them.
struct TwoOffsets {
  u32 first;
  u32 second;  // distance from the first
};

inline TwoOffsets two_offsets(const Instruction& i, u32 unit) {
  return {i.offsets[0] * unit, static_cast<u32>(i.offsets[1] - i.offsets[0]) * unit};
}

template <Width width, u32 spacing>
inline void ds_read2(Wave& w, const Instruction& i) {
  const TwoOffsets offsets = two_offsets(i, width.bytes * spacing);
  LdsAccess& access =
      begin_lds(w, i, offsets.first, offsets.second, width.bytes, LdsUse::read);
  const u64 exec = access.lanes;
  LaneAddresses at;
  place_lds(w, i, access, address_of_spare(spare_poison), at);
  w.counters.lds_read_bytes += lds_bytes_of(access, 2);
  issue_lds(w, i, i.dst, 2 * width.rows(), exec);
  load_registers<width>(w, at, i.dst, exec);
  move_to_second(access, at);
  load_registers<width>(w, at, static_cast<u16>(i.dst + width.rows()), exec);
}

template <Width width, u32 spacing>
inline void ds_write2(Wave& w, const Instruction& i) {
  for (const u16 data : i.data) need_rows<width>(w, i, data, w.exec());
  const TwoOffsets offsets = two_offsets(i, width.bytes * spacing);
  LdsAccess& access =
      begin_lds(w, i, offsets.first, offsets.second, width.bytes, LdsUse::write);
  LaneAddresses at;
  Spare dropped;
  place_lds(w, i, access, address_of_spare(dropped), at);
  w.counters.lds_write_bytes += lds_bytes_of(access, 2);
  issue_lds(w, i, 0, 0, 0);
  scatter_width<width>(at, &w.vector[i.data[0] - operand::v0]);
  move_to_second(access, at);
  scatter_width<width>(at, &w.vector[i.data[1] - operand::v0]);
}

}  // namespace aiter_moe::emulator
