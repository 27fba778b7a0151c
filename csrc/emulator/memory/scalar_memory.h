// SPDX-License-Identifier: MIT
// Scalar loads, the clocks and the caches of the scalar unit. They count in lgkmcnt and come in any
// order, so their results are ready after lgkmcnt(0) alone.
#pragma once

#include "emulator/memory/buffers.h"

namespace aiter_moe::emulator {

// Instruction offset plus scalar offset, either of which may be missing.
inline u64 scalar_load_offset(Wave& w, const Instruction& i) {
  u64 offset = static_cast<u64>(static_cast<i64>(i.offset));
  if (i.scalar_offset != operand::none) offset += w.read_scalar(i, i.scalar_offset);
  return offset;
}

// Copies `dwords` from `address` to the scalar registers from i.dst on; what lies outside, poison.
inline void load_scalars(Wave& w, const Instruction& i, u64 address, u32 dwords, bool readable) {
  u32 loaded[16];
  for (u32 n = 0; n < dwords; ++n) loaded[n] = poison;
  if (readable) __builtin_memcpy(loaded, reinterpret_cast<const void*>(address), 4 * dwords);
  w.counters.smem_bytes += 4 * dwords;
  issue_scalar(w, i, i.dst, dwords);
  for (u32 n = 0; n < dwords; ++n) w.scalar[i.dst + n] = loaded[n];
}

inline bool scalar_readable(Wave& w, const Instruction& i, u64 address, u32 bytes) {
  u16& hint = w.requests.range_hint[w.pc % 16];
  if (w.group->launch->memory->find(address, address + bytes, hint) != nullptr) return true;
  w.fault(FaultKind::global_out_of_range, i, address, 0,
          FaultText().add("scalar load of ").number(bytes).add(" bytes").text());
  return false;
}

// Hardware drops the two low bits of an address; a kernel that has any set means something else.
inline u64 dword_address(Wave& w, const Instruction& i, u64 address) {
  if ((address & 3) != 0)
    w.fault(FaultKind::misaligned, i, address, 0, "scalar load from no dword address");
  return address & ~u64{3};
}

template <u32 dwords>
inline void s_load(Wave& w, const Instruction& i) {
  const u64 address = dword_address(w, i, w.read_scalar64(i, i.base) + scalar_load_offset(w, i));
  load_scalars(w, i, address, dwords, scalar_readable(w, i, address, 4 * dwords));
}

// Dwords beyond the descriptor's range read as zero.
template <u32 dwords>
inline void s_buffer_load(Wave& w, const Instruction& i) {
  const Descriptor descriptor = read_descriptor(w, i);
  const u64 offset = scalar_load_offset(w, i) & ~u64{3};
  const u64 rows = descriptor.stride == 0 ? 1 : descriptor.stride;
  const u64 size = rows * descriptor.records;
  u32 inside = 0;
  while (inside < dwords && offset + 4 * (inside + 1) <= size) ++inside;
  const u64 address = dword_address(w, i, descriptor.base + offset);
  const bool readable = inside == 0 || scalar_readable(w, i, address, 4 * inside);
  load_scalars(w, i, address, inside, readable);
  if (inside < dwords) {
    issue_scalar(w, i, static_cast<u16>(i.dst + inside), dwords - inside);
    for (u32 n = inside; n < dwords; ++n) w.scalar[i.dst + n] = 0;
  }
}

// Clocks that go on with every reading: they are for differences, which have no meaning here.
inline void s_memtime(Wave& w, const Instruction& i) {
  constexpr u64 step = 64;
  w.requests.clock += step;
  issue_scalar(w, i, i.dst, 2);
  w.set_pair(i.dst, w.requests.clock);
}

// Caches are coherent here; the request still counts.
inline void s_dcache(Wave& w, const Instruction& i) { issue_scalar(w, i, 0, 0); }

}  // namespace aiter_moe::emulator
