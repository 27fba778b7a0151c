// SPDX-License-Identifier: MIT
// The registered ranges of global memory: what kernels may touch. Not here: who allocates them.
// Ranges may not change while a kernel runs, so lookups take no lock.
#pragma once

#include "common/host.h"
#include "emulator/isa/instruction.h"

namespace aiter_moe::emulator {

enum class Access : u8 { read = 1, write = 2, read_write = 3 };

struct Range {
  u64 begin;
  u64 end;           // first byte behind
  const char* name;  // for reports; may be null
  Access access;

  bool holds(u64 from, u64 to) const { return begin <= from && to <= end; }
  bool allows(Access use) const {
    return (static_cast<u8>(access) & static_cast<u8>(use)) == static_cast<u8>(use);
  }
};

// All zero is a valid, empty registry.
struct Allocations {
  Range* ranges;  // by address; they do not overlap
  u32 count;
  u32 capacity;

  // False where the range is empty, wraps, overlaps a registered one, or memory has run out.
  bool add(u64 base, u64 bytes, Access access = Access::read_write, const char* name = nullptr) {
    const u64 end = base + bytes;
    if (end <= base) return false;
    const u32 at = first_behind(base);
    if (at < count && ranges[at].begin < end) return false;
    if (count == capacity && !grow()) return false;
    for (u32 n = count; n > at; --n) ranges[n] = ranges[n - 1];
    ranges[at] = {base, end, name, access};
    ++count;
    return true;
  }

  // False where no range begins at `base`.
  bool remove(u64 base) {
    const u32 at = first_behind(base);
    if (at == count || ranges[at].begin != base) return false;
    --count;
    for (u32 n = at; n < count; ++n) ranges[n] = ranges[n + 1];
    return true;
  }

  // False where no range begins at `base`.
  bool set_access(u64 base, Access access) {
    const u32 at = first_behind(base);
    if (at == count || ranges[at].begin != base) return false;
    ranges[at].access = access;
    return true;
  }

  void free() {
    host_free(ranges);
    *this = {};
  }

  // The range that holds all of [from, to), or null. `hint` is where the caller found one before.
  const Range* find(u64 from, u64 to, u16& hint) const {
    if (hint < count && ranges[hint].holds(from, to)) return &ranges[hint];
    const u32 at = first_behind(from);
    if (at == count || !ranges[at].holds(from, to)) return nullptr;
    hint = static_cast<u16>(at);
    return &ranges[at];
  }

 private:
  // Index of the first range that ends behind `address`.
  u32 first_behind(u64 address) const {
    u32 low = 0, high = count;
    while (low < high) {
      const u32 middle = (low + high) / 2;
      if (ranges[middle].end <= address)
        low = middle + 1;
      else
        high = middle;
    }
    return low;
  }

  bool grow() {
    const u32 larger_capacity = capacity == 0 ? 64 : 2 * capacity;
    Range* larger_ranges = static_cast<Range*>(host_malloc(larger_capacity * sizeof(Range)));
    if (larger_ranges == nullptr) return false;
    for (u32 n = 0; n < count; ++n) larger_ranges[n] = ranges[n];
    host_free(ranges);
    ranges = larger_ranges;
    capacity = larger_capacity;
    return true;
  }
};

}  // namespace aiter_moe::emulator
