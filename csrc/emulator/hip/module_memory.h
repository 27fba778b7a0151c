// SPDX-License-Identifier: MIT
// The memory of a loaded code object as kernels may touch it: each segment by its own permissions.
#pragma once

#include "emulator/code_object.h"
#include "emulator/memory/allocations.h"

namespace aiter_moe::emulator {

// Calls visit(address, bytes, segment) for the segments in memory until one returns false; returns
// whether none has.
template <typename Visit>
bool visit_segments(const CodeObject& object, Visit visit) {
  const elf::File file = code_object::file_of(object);
  elf::Header header;
  elf::Segment segment;
  if (elf::open(file, header) != nullptr) return false;
  for (u32 n = 0; file.segment(header, n, segment); ++n) {
    if (segment.type != elf::segment_load || segment.memory_bytes == 0) continue;
    const u64 address = reinterpret_cast<u64>(object.image.base) + segment.address;
    if (!visit(address, segment.memory_bytes, segment)) return false;
  }
  return true;
}

inline void remove_segments(const CodeObject& object, Allocations& memory) {
  visit_segments(object, [&](u64 address, u64, const elf::Segment&) {
    memory.remove(address);
    return true;
  });
}

// Compilers widen scalar loads of constants to what their alignment allows, so that what can only
// be read ends with a whole granule.
inline bool add_segment(u64 address, u64 bytes, u32 flags, Allocations& memory) {
  constexpr u64 granule = loading::granule;
  if (flags & elf::flag_writable)
    return memory.add(address, bytes, Access::read_write, "the code object's variables");
  const u64 whole = (address + bytes + granule - 1) / granule * granule - address;
  const bool code = flags & elf::flag_executable;
  return memory.add(address, whole, Access::read,
                    code ? "the code object's code" : "the code object's constants");
}

// False, with nothing added, where segments overlap or memory ran out.
inline bool add_segments(const CodeObject& object, Allocations& memory) {
  u32 added = 0;
  const bool all = visit_segments(object, [&](u64 address, u64 bytes, const elf::Segment& segment) {
    const bool usable = add_segment(address, bytes, segment.flags, memory);
    added += usable;
    return usable;
  });
  if (all) return true;
  visit_segments(object, [&](u64 address, u64, const elf::Segment&) {
    return added-- != 0 && memory.remove(address);
  });
  return false;
}

}  // namespace aiter_moe::emulator
