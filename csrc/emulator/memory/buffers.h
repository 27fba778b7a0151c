// SPDX-License-Identifier: MIT
// buffer_* loads and stores through a descriptor of four scalar registers, with its range check.
// Any alignment is legal, as for global memory. Not here: atomics (atomics.h), the lds flag
// (lds_dma.h); swizzled buffers and typed formats are refused.
//
// Range check (CDNA3 ISA, buffer addressing): a raw access is out of range from the byte on where
// vector offset + instruction offset + scalar offset reach num_records, by the dword for wide
// accesses; one with an index, where the index reaches num_records and there is a stride. LLVM's
// documentation leaves the scalar offset out of the check. An access whose fate depends on that is
// reported, since a kernel must not rely on either.
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

// Byte offsets from the descriptor's base, without the scalar offset, and what the check compares.
struct BufferOffsets {
  u64 from_base[lanes];
  u64 checked[lanes];
  u64 scalar;
  bool by_index;
};

inline void form_offsets(Wave& w, const Instruction& i, const Descriptor& descriptor, u64 which,
                         BufferOffsets& offsets) {
  Lanes zero;
  fill(zero, 0);
  const Lanes* index = &zero;
  const Lanes* offset = &zero;
  u16 next = i.address;
  if (i.index_enabled) {
    w.need(i, next, which);
    index = &w.vector[next++ - operand::v0];
  }
  if (i.offset_enabled) {
    w.need(i, next, which);
    offset = &w.vector[next - operand::v0];
  }
  offsets.scalar = w.read_scalar(i, i.scalar_offset);
  offsets.by_index = i.index_enabled && descriptor.stride != 0;
  const u64 stride = descriptor.stride, fixed = static_cast<u32>(i.offset);
  const u32 per_lane = descriptor.adds_lane();
  for (u32 lane = 0; lane < lanes; ++lane) {
    const u64 row = static_cast<u64>(index->lane[lane]) + lane * per_lane;
    offsets.from_base[lane] = fixed + offset->lane[lane] + stride * row;
    offsets.checked[lane] = offsets.by_index ? row : offsets.from_base[lane];
  }
}

// Lanes whose fate depends on whether the scalar offset is part of the check.
inline u64 lanes_in_doubt(const BufferOffsets& offsets, u64 records, u64 which, u32 bytes) {
  if (offsets.by_index || offsets.scalar == 0) return 0;
  u64 doubt = 0;
  for (int lane = 0; lane < lanes; ++lane) {
    const u64 end = offsets.checked[lane] + bytes;
    const bool may_pass = offsets.checked[lane] < records;
    doubt |= static_cast<u64>(may_pass && end + offsets.scalar > records) << lane;
  }
  return doubt & which;
}

inline void check_range(Wave& w, const Instruction& i, const Descriptor& descriptor,
                        const BufferOffsets& offsets, u64 which, u32 bytes, BufferLanes& sorted) {
  const u64 records = descriptor.has_format() ? descriptor.records : 0;
  const u64 added = offsets.by_index ? 0 : offsets.scalar;
  const u64 size = offsets.by_index ? 1 : bytes;
  u64 inside = 0, touching = 0;
  for (int lane = 0; lane < lanes; ++lane) {
    const u64 begin = offsets.checked[lane] + added;
    inside |= static_cast<u64>(begin + size <= records) << lane;
    touching |= static_cast<u64>(begin < records) << lane;
    sorted.at.at[lane] = descriptor.base + offsets.from_base[lane] + offsets.scalar;
  }
  sorted.inside = inside & which;
  sorted.partly = touching & ~inside & which;
  const u64 masked = which & ~touching;
  w.counters.buffer_lanes_masked += __builtin_popcountll(masked);
  const u64 doubt = lanes_in_doubt(offsets, records, which, bytes);
  if (__builtin_expect((sorted.partly | doubt) == 0, 1)) return;
  const u64 bad = sorted.partly != 0 ? sorted.partly : doubt;
  const int first = __builtin_ctzll(bad);
  w.fault(FaultKind::buffer_out_of_range, i, sorted.at.at[first], bad,
          sorted.partly != 0 ? "partly out of the descriptor's range"
                             : "in or out of range by whether the scalar offset is checked");
  for (u64 left = sorted.partly; left != 0; left &= left - 1) {
    const int lane = __builtin_ctzll(left);
    const u64 left_over = records - offsets.checked[lane] - added;
    sorted.part[lane] = {sorted.at.at[lane], static_cast<u32>(left_over) & ~3u};
  }
}

// Sorts the active lanes and looks up their memory: `inside` loses those that no allocation holds,
// which are returned.
inline u64 locate_buffer(Wave& w, const Instruction& i, u64 which, u32 bytes, Access use,
                         BufferLanes& sorted) {
  const Descriptor descriptor = read_descriptor(w, i);
  BufferOffsets offsets;
  form_offsets(w, i, descriptor, which, offsets);
  check_range(w, i, descriptor, offsets, which, bytes, sorted);
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
