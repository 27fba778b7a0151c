// SPDX-License-Identifier: MIT
// ds_read_addtid_b32 and ds_write_addtid_b32: lane n uses the dword at M0 + offset + 4 * n.
#pragma once

#include "emulator/memory/ds.h"

namespace aiter_moe::emulator {

inline LdsAccess& begin_addtid(Wave& w, const Instruction& i, LdsUse use) {
  land_lds(w, Requests::other_limit - 1);
  w.need_scalar(i, operand::m0);
  auto& queue = w.requests.lds;
  LdsAccess& access = queue[queue.count].access;
  const u32 base = w.scalar[operand::m0] + static_cast<u32>(i.offset);
  for (u32 lane = 0; lane < lanes; ++lane) access.address[lane] = base + 4 * lane;
  access.lanes = w.exec();
  access.second = 0;
  access.bytes = 4;
  access.use = use;
  return access;
}

inline void ds_read_addtid(Wave& w, const Instruction& i) {
  LdsAccess& access = begin_addtid(w, i, LdsUse::read);
  finish_read<widths::b32>(w, i, access);
}

inline void ds_write_addtid(Wave& w, const Instruction& i) {
  w.need(i, i.data[0], w.exec());
  LdsAccess& access = begin_addtid(w, i, LdsUse::write);
  finish_write<widths::b32>(w, i, access);
}

}  // namespace aiter_moe::emulator
