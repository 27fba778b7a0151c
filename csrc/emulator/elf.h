// SPDX-License-Identifier: MIT
// A 64-bit little-endian ELF shared object in memory, seen through bounds checks: whatever the
// file says of itself, nothing outside it is read. Only what loading a code object takes.
#pragma once

#include "emulator/isa/instruction.h"

namespace aiter_moe::emulator::elf {

constexpr u16 machine_amdgpu = 224, type_shared = 3;
constexpr u32 segment_load = 1, segment_dynamic = 2;
constexpr u32 section_symbols = 2, section_dynamic_symbols = 11;
constexpr u32 flag_executable = 1, flag_writable = 2;  // of segments
constexpr u8 symbol_object = 1, symbol_function = 2;

struct Header {
  u8 identity[16];
  u16 type, machine;
  u32 version;
  u64 entry, segments, sections;
  u32 flags;
  u16 bytes, segment_bytes, segment_count, section_bytes, section_count, names;
};

struct Segment {
  u32 type, flags;
  u64 offset, address, physical, file_bytes, memory_bytes, alignment;
};

struct Section {
  u32 name, type;
  u64 flags, address, offset, bytes;
  u32 link, info;
  u64 alignment, entry_bytes;
};

struct Symbol {
  u32 name;
  u8 info, other;
  u16 section;  // 0: undefined
  u64 value, bytes;

  u8 kind() const { return info & 15; }
};

struct Dynamic {
  u64 tag, value;
};

struct Relocation {
  u64 offset;
  u32 kind, symbol;
  i64 addend;
};

static_assert(sizeof(Header) == 64 && sizeof(Segment) == 56 && sizeof(Section) == 64);
static_assert(sizeof(Symbol) == 24 && sizeof(Dynamic) == 16 && sizeof(Relocation) == 24);

class File {
 public:
  File(const u8* data, u64 bytes) : data_(data), bytes_(bytes) {}

  // Whether a range lies in the file.
  bool holds(u64 offset, u64 bytes) const { return offset <= bytes_ && bytes <= bytes_ - offset; }
  const u8* at(u64 offset) const { return data_ + offset; }

  // Copies the record at an offset; false where it would leave the file.
  template <typename T>
  bool read(u64 offset, T& out) const {
    if (!holds(offset, sizeof(T))) return false;
    __builtin_memcpy(&out, data_ + offset, sizeof(T));
    return true;
  }

  bool segment(const Header& header, u32 n, Segment& out) const {
    return n < header.segment_count && header.segments <= bytes_ &&
           read(header.segments + u64{n} * sizeof(Segment), out);
  }
  bool section(const Header& header, u32 n, Section& out) const {
    return n < header.section_count && header.sections <= bytes_ &&
           read(header.sections + u64{n} * sizeof(Section), out);
  }

  // Whether the zero-terminated text at `offset` of a string section is `name` and then `tail`.
  bool is_text(const Section& strings, u64 offset, const char* name, const char* tail) const {
    if (!holds(strings.offset, strings.bytes)) return false;
    u64 at = offset;
    const char* const parts[] = {name, tail};
    for (const char* part : parts)
      for (; *part != 0; ++part, ++at)
        if (at >= strings.bytes || data_[strings.offset + at] != static_cast<u8>(*part))
          return false;
    return at < strings.bytes && data_[strings.offset + at] == 0;
  }

  // Whether the zero-terminated text at `offset` of a string section ends so.
  bool ends_with(const Section& strings, u64 offset, const char* tail) const {
    if (!holds(strings.offset, strings.bytes)) return false;
    u64 end = offset;
    while (end < strings.bytes && data_[strings.offset + end] != 0) ++end;
    const u64 length = __builtin_strlen(tail);
    return end >= offset + length && is_text(strings, end - length, tail, "");
  }

 private:
  const u8* data_;
  u64 bytes_;
};

// Calls visit(symbol, strings) for the symbols of all tables of a type until one returns true.
template <typename Visit>
bool find_symbol(const File& file, const Header& header, u32 table_type, Visit visit) {
  Section table, strings;
  for (u32 n = 0; file.section(header, n, table); ++n) {
    if (table.type != table_type || !file.section(header, table.link, strings)) continue;
    Symbol symbol;
    for (u64 at = 0; at + sizeof(Symbol) <= table.bytes; at += sizeof(Symbol)) {
      if (!file.holds(table.offset, at + sizeof(Symbol))) break;
      if (file.read(table.offset + at, symbol) && visit(symbol, strings)) return true;
    }
  }
  return false;
}

// Reads and checks the header; null, or what is wrong with the file.
inline const char* open(const File& file, Header& header) {
  constexpr u8 magic[6] = {0x7f, 'E', 'L', 'F', 2, 1};
  if (!file.read(0, header)) return "the file is too short for an ELF header";
  if (__builtin_memcmp(header.identity, magic, sizeof magic) != 0)
    return "not a 64-bit little-endian ELF file";
  if (header.machine != machine_amdgpu) return "the ELF file is not for an AMD GPU";
  if (header.type != type_shared) return "the code object is not linked (no shared object)";
  if (header.segment_count != 0 && header.segment_bytes != sizeof(Segment))
    return "the ELF file has segment headers of an unknown size";
  if (header.section_count != 0 && header.section_bytes != sizeof(Section))
    return "the ELF file has section headers of an unknown size";
  return nullptr;
}

}  // namespace aiter_moe::emulator::elf
