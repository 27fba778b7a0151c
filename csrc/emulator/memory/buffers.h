// SPDX-License-Identifier: MIT
// buffer_* loads and stores through a descriptor of four scalar registers, with its range check.
// Any alignment is legal, as for global memory. Not here: atomics (atomics.h), the lds flag
// (lds_dma.h); swizzled buffers and typed formats are refused.
//
// Range check: a raw access is out of range from the byte on where vector, instruction and scalar
// offset together reach num_records, by the dword for wide accesses; one with an index (a register
// or, in such descriptors, the lane's number) and a stride, where the index reaches num_records.
// The CDNA ISA documents compare the offset with num_records - scalar offset and say the scalar
// offset is no part of the offset, which LLVM's documentation takes for "not checked". An access
// whose fate depends on that is reported, since a kernel must not rely on either.
#pragma once

#include "emulator/memory/lane_addresses.h"
#include "emulator/memory/widths.h"

namespace aiter_moe::emulator {

struct Descriptor {
  u64 base;
  u32 stride;
  u32 records;
  u32 flags;  // last word

  bool adds_lane() const { return flags >> 23 & 1; }
  bool has_format() const { return (flags >> 15 & 15) != 0; }
};

inline Descriptor read_descriptor(Wave& w, const Instruction& i) {
  const u64 low = w.read_scalar64(i, i.base);
  const u64 high = w.read_scalar64(i, static_cast<u16>(i.base + 2));
  const Descriptor descriptor{low & 0xffffffffffff, static_cast<u32>(low >> 48 & 0x3fff),
                              static_cast<u32>(high), static_cast<u32>(high >> 32)};
  if (low >> 63 != 0)
    w.fault(FaultKind::bad_instruction, i, 0, 0, "swizzled buffers are not supported");
  else if (!descriptor.has_format())
    w.fault(FaultKind::buffer_out_of_range, i, 0, 0,
            "the descriptor has no data format, which puts everything out of range");
  return descriptor;
}

// How the range check sorts the active lanes.
struct BufferLanes {
  LaneAddresses at;
  u64 inside;  // wholly in range
  u64 partly;  // only the first dwords in range: see below
  struct {
    u64 at;
    u32 bytes;
  } part[lanes];
};

// What the range check compares for each lane with how many records there are.
struct Checked {
  u64 begin[lanes];
  u64 scalar;  // the scalar offset, where it is part of `begin`
  u32 size;    // in the unit of `begin`
};

// Forms the addresses of an instruction without index: `begin` counts bytes from the base.
inline void form_by_offset(Wave& w, const Instruction& i, const Descriptor& descriptor, u64 which,
                           LaneAddresses& at, Checked& checked) {
  const u64 fixed = checked.scalar + static_cast<u32>(i.offset);
  if (i.offset_enabled) {
    w.need(i, i.address, which);
    const Lanes& offset = w.vector[i.address - operand::v0];
    for (int lane = 0; lane < lanes; ++lane) checked.begin[lane] = fixed + offset.lane[lane];
  } else {
    for (int lane = 0; lane < lanes; ++lane) checked.begin[lane] = fixed;
  }
  for (int lane = 0; lane < lanes; ++lane) at.at[lane] = descriptor.base + checked.begin[lane];
}

// A register of 64 lanes, or zeros where the instruction has none.
inline void read_optional(Wave& w, const Instruction& i, u16 code, bool present, u64 which,
                          Lanes& out) {
  if (present) {
    w.need(i, code, which);
    out = w.vector[code - operand::v0];
  } else {
    fill(out, 0);
  }
}

// The same with an index, in units of the stride; then that is what is checked.
inline void form_by_index(Wave& w, const Instruction& i, const Descriptor& descriptor, u64 which,
                          LaneAddresses& at, Checked& checked) {
  Lanes index, offset;
  read_optional(w, i, i.address, i.index_enabled, which, index);
  read_optional(w, i, static_cast<u16>(i.address + i.index_enabled), i.offset_enabled, which,
                offset);
  const u64 fixed = checked.scalar + static_cast<u32>(i.offset);
  const u32 per_lane = descriptor.adds_lane();
  const bool by_row = descriptor.stride != 0;
  for (u32 lane = 0; lane < lanes; ++lane) {
    const u64 row = u64{index.lane[lane]} + lane * per_lane;
    const u64 bytes = fixed + offset.lane[lane] + descriptor.stride * row;
    checked.begin[lane] = by_row ? row : bytes;
    at.at[lane] = descriptor.base + bytes;
  }
  if (!by_row) return;
  checked.size = 1;
  checked.scalar = 0;
}

inline u64 highest(const u64 (&values)[lanes]) {
  u64 most = 0;
  for (int lane = 0; lane < lanes; ++lane) most = larger(most, values[lane]);
  return most;
}

// Lanes whose fate depends on whether the scalar offset is part of the check.
inline u64 lanes_in_doubt(const Checked& checked, u64 records, u64 which) {
  LaneFlags doubt;
  for (int lane = 0; lane < lanes; ++lane) {
    const bool may_pass = checked.begin[lane] - checked.scalar < records;
    doubt.lane[lane] = may_pass && checked.begin[lane] + checked.size > records;
  }
  return checked.scalar == 0 ? 0 : mask_of(doubt) & which;
}

// Sorts lanes of which some are out of range.
inline void sort_by_range(Wave& w, const Instruction& i, const Checked& checked, u64 records,
                          u64 which, BufferLanes& sorted) {
  LaneFlags inside, touching;
  for (int lane = 0; lane < lanes; ++lane) {
    inside.lane[lane] = checked.begin[lane] + checked.size <= records;
    touching.lane[lane] = checked.begin[lane] < records;
  }
  sorted.inside = mask_of(inside) & which;
  sorted.partly = mask_of(touching) & which & ~sorted.inside;
  w.counters.buffer_lanes_masked +=
      __builtin_popcountll(which & ~sorted.inside & ~sorted.partly);
  for (u64 left = sorted.partly; left != 0; left &= left - 1) {
    const int lane = __builtin_ctzll(left);
    const u32 bytes = static_cast<u32>(records - checked.begin[lane]) & ~3u;
    sorted.part[lane] = {sorted.at.at[lane], bytes};
  }
  const u64 doubt = lanes_in_doubt(checked, records, which);
  const u64 bad = sorted.partly != 0 ? sorted.partly : doubt;
  if (bad == 0) return;
  w.fault(FaultKind::buffer_out_of_range, i, sorted.at.at[__builtin_ctzll(bad)], bad,
          sorted.partly != 0 ? "partly out of the descriptor's range"
                             : "in or out of range by whether the scalar offset is checked");
}

inline void check_range(Wave& w, const Instruction& i, const Descriptor& descriptor, u64 which,
                        u32 bytes, BufferLanes& sorted) {
  Checked checked;
  checked.scalar = w.read_scalar(i, i.scalar_offset);
  checked.size = bytes;
  if (i.index_enabled || descriptor.adds_lane())
    form_by_index(w, i, descriptor, which, sorted.at, checked);
  else
    form_by_offset(w, i, descriptor, which, sorted.at, checked);
  const u64 records = descriptor.has_format() ? descriptor.records : 0;
  if (which != all_lanes) replace_outside(checked.begin, which, 0);
  sorted.inside = which;
  sorted.partly = 0;
  if (__builtin_expect(highest(checked.begin) + checked.size > records, 0))
    sort_by_range(w, i, checked, records, which, sorted);
}

// Sorts the active lanes and looks up their memory: `inside` loses those that no allocation holds,
// which are returned.
inline u64 locate_buffer(Wave& w, const Instruction& i, u64 which, u32 bytes, Access use,
                         BufferLanes& sorted) {
  const Descriptor descriptor = read_descriptor(w, i);
  check_range(w, i, descriptor, which, bytes, sorted);
  const u64 wanted = sorted.inside;
  sorted.inside =
      allowed_lanes(w, i, sorted.at, wanted, bytes, use, FaultKind::buffer_out_of_range);
  count_lines(w, sorted.at, sorted.inside, bytes);
  return wanted & ~sorted.inside;
}

// Calls f(lane, address, bytes) for lanes that are partly in range and in an allocation.
template <class F>
inline void for_parts(Wave& w, const BufferLanes& sorted, F f) {
  for (u64 left = sorted.partly; left != 0; left &= left - 1) {
    const int lane = __builtin_ctzll(left);
    const auto& part = sorted.part[lane];
    u16 hint = 0;
    if (part.bytes != 0 && w.group->launch->memory->find(part.at, part.at + part.bytes, hint))
      f(lane, part.at, part.bytes);
  }
}

// Memory that lanes of a load are pointed to instead of the buffer.
struct BufferStandIns {
  Spare part[lanes];
};

// Points every lane of a load to what it shall read: zeros where masked, what is in range of a
// part, poison where there is no memory. Returns the bytes that come from the buffer.
inline u32 point_loads(Wave& w, const Instruction& i, u64 which, u32 bytes, BufferLanes& sorted,
                       BufferStandIns& stand_ins) {
  const u64 astray = locate_buffer(w, i, which, bytes, Access::read, sorted);
  const u32 loaded = __builtin_popcountll(sorted.inside) * bytes;
  if (__builtin_expect(sorted.inside == which, 1)) return loaded;
  redirect(sorted.at, sorted.inside, address_of_spare(spare_zeros));
  redirect(sorted.at, ~astray, address_of_spare(spare_poison));
  for_parts(w, sorted, [&](int lane, u64 from, u32 in_range) {
    stand_ins.part[lane] = spare_zeros;
    __builtin_memcpy(&stand_ins.part[lane], reinterpret_cast<const void*>(from), in_range);
    sorted.at.at[lane] = address_of_spare(stand_ins.part[lane]);
  });
  return loaded;
}

template <Width width>
inline void buffer_load_registers(Wave& w, const Instruction& i) {
  const u64 exec = w.exec();
  BufferLanes sorted;
  BufferStandIns stand_ins;
  const u32 loaded = point_loads(w, i, exec, width.bytes, sorted, stand_ins);
  redirect(sorted.at, exec, address_of_spare(spare_zeros));
  w.counters.vmem_load_bytes += loaded;
  issue_vector(w, i, i.dst, width.rows(), exec, loaded);
  load_registers<width>(w, sorted.at, i.dst, exec);
}

template <Width width>
inline void buffer_store(Wave& w, const Instruction& i) {
  const u64 exec = w.exec();
  need_rows<width>(w, i, i.data[0], exec);
  const Lanes* rows = &w.vector[i.data[0] - operand::v0];
  BufferLanes sorted;
  locate_buffer(w, i, exec, width.bytes, Access::write, sorted);
  Spare dropped;
  redirect(sorted.at, sorted.inside, address_of_spare(dropped));
  w.counters.vmem_store_bytes += __builtin_popcountll(sorted.inside) * width.bytes;
  issue_vector(w, i, 0, 0, 0, 0);
  scatter_width<width>(sorted.at, rows);
  for_parts(w, sorted, [&](int lane, u64 to, u32 in_range) {
    for (u32 n = 0; 4 * n < in_range; ++n) store_unaligned(to + 4 * n, rows[n].lane[lane]);
  });
}

}  // namespace aiter_moe::emulator
