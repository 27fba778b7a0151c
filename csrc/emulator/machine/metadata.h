// SPDX-License-Identifier: MIT
// What a code object's metadata note says of a kernel's arguments: where each lies in the kernel
// argument segment and who fills it. The note is MessagePack; files that lie about their sizes
// are read as far as they make sense, never beyond their end. The kernel descriptor, which says
// the rest, is code_object.h.
#pragma once

#include "emulator/machine/array.h"
#include "emulator/machine/text.h"

namespace aiter_moe::emulator {

enum class ArgumentKind : u8 {
  given,  // by the caller
  block_count_x, block_count_y, block_count_z,
  group_size_x, group_size_y, group_size_z,
  remainder_x, remainder_y, remainder_z,
  grid_dims,
  dynamic_lds_size,
  private_base, shared_base,
  queue_ptr,
  hidden_zero  // offsets, buffers of printf and malloc, ...: nothing stands behind them here
};

struct Argument {
  u32 offset;
  u32 bytes;
  ArgumentKind kind;
};

struct KernelMetadata {
  bool present;
  u32 segment_bytes;
  u32 max_workgroup;  // lanes; 0 where the note does not say
  Array<Argument> arguments;
};

namespace metadata {

// A span of MessagePack being read from the front. After an error all that follows is empty.
class Reader {
 public:
  Reader(const u8* at, const u8* end) : at_(at), end_(end) {}

  const u8* at() const { return at_; }

  // Number of entries of the map or array that begins here; 0 where there is none.
  u64 map() { return container(0x80, 0xDE); }
  u64 array() { return container(0x90, 0xDC); }

  u64 integer() {
    const u8 tag = byte();
    if (tag < 0x80) return tag;
    if (tag >= 0xCC && tag <= 0xCF) return big_endian(1u << (tag - 0xCC));
    if (tag >= 0xD0 && tag <= 0xD3) return big_endian(1u << (tag - 0xD0));
    return fail();
  }

  // Whether a string that says `text` begins here; moves past the value, whatever it is.
  bool is(const char* text) {
    const u8* begin = nullptr;
    u64 length = 0;
    const bool found = string(begin, length);
    return found && length == text_length(text) && host_memcmp(begin, text, length) == 0;
  }

  bool string(const u8*& begin, u64& length) {
    const u8* start = at_;
    const u8 tag = byte();
    if (tag >= 0xA0 && tag < 0xC0) {
      length = tag & 0x1F;
    } else if (tag >= 0xD9 && tag <= 0xDB) {
      length = big_endian(1u << (tag - 0xD9));
    } else {
      at_ = start;
      skip();
      return false;
    }
    begin = at_;
    return take(length);
  }

  // Moves past one value. Nested containers are counted, not recursed into.
  void skip() {
    for (u64 left = 1; left != 0 && at_ != end_; --left) left += skip_one();
  }

 private:
  u64 fail() {
    at_ = end_;
    return 0;
  }
  u64 left() const { return static_cast<u64>(end_ - at_); }
  bool take(u64 bytes) {
    if (bytes > left()) return fail() != 0;
    at_ += bytes;
    return true;
  }
  u8 byte() { return at_ == end_ ? 0xC1 : *at_++; }  // C1 begins nothing
  u64 big_endian(u32 bytes) {
    u64 value = 0;
    for (u32 i = 0; i < bytes; ++i) value = value << 8 | byte();
    return value;
  }

  u64 container(u8 small, u8 large) {
    const u8 tag = byte();
    u64 count = 0;
    if ((tag & 0xF0) == small) count = tag & 0x0F;
    else if (tag == large) count = big_endian(2);
    else if (tag == large + 1) count = big_endian(4);
    else return fail();
    return count <= left() ? count : fail();
  }

  // Moves past a scalar or the head of a container; returns how many values that one holds.
  u64 skip_one() {
    const u8 tag = byte();
    if (tag < 0x80 || tag >= 0xE0 || tag == 0xC0 || tag == 0xC2 || tag == 0xC3) return 0;
    if (tag < 0x90) return 2 * (tag & 0x0Fu);
    if (tag < 0xA0) return tag & 0x0Fu;
    if (tag < 0xC0) return take(tag & 0x1Fu), 0;
    switch (tag) {
      case 0xC4: case 0xD9: return take(big_endian(1)), 0;
      case 0xC5: case 0xDA: return take(big_endian(2)), 0;
      case 0xC6: case 0xDB: return take(big_endian(4)), 0;
      case 0xCA: case 0xCE: case 0xD2: return take(4), 0;
      case 0xCB: case 0xCF: case 0xD3: return take(8), 0;
      case 0xCC: case 0xD0: return take(1), 0;
      case 0xCD: case 0xD1: return take(2), 0;
      case 0xDC: return big_endian(2);
      case 0xDD: return big_endian(4);
      case 0xDE: return 2 * big_endian(2);
      case 0xDF: return 2 * big_endian(4);
      default: return fail();  // extension types have no place in the note
    }
  }

  const u8* at_;
  const u8* end_;
};

struct KindName {
  const char* name;
  ArgumentKind kind;
};

constexpr KindName hidden_kinds[] = {
    {"hidden_block_count_x", ArgumentKind::block_count_x},
    {"hidden_block_count_y", ArgumentKind::block_count_y},
    {"hidden_block_count_z", ArgumentKind::block_count_z},
    {"hidden_group_size_x", ArgumentKind::group_size_x},
    {"hidden_group_size_y", ArgumentKind::group_size_y},
    {"hidden_group_size_z", ArgumentKind::group_size_z},
    {"hidden_remainder_x", ArgumentKind::remainder_x},
    {"hidden_remainder_y", ArgumentKind::remainder_y},
    {"hidden_remainder_z", ArgumentKind::remainder_z},
    {"hidden_grid_dims", ArgumentKind::grid_dims},
    {"hidden_dynamic_lds_size", ArgumentKind::dynamic_lds_size},
    {"hidden_private_base", ArgumentKind::private_base},
    {"hidden_shared_base", ArgumentKind::shared_base},
    {"hidden_queue_ptr", ArgumentKind::queue_ptr},
};

inline ArgumentKind argument_kind(const u8* text, u64 length) {
  constexpr char prefix[] = "hidden_";
  constexpr u64 prefix_length = sizeof prefix - 1;
  if (length < prefix_length || host_memcmp(text, prefix, prefix_length) != 0) {
    return ArgumentKind::given;
  }
  for (const KindName& known : hidden_kinds) {
    if (length == text_length(known.name) && host_memcmp(text, known.name, length) == 0) {
      return known.kind;
    }
  }
  return ArgumentKind::hidden_zero;
}

inline Argument read_argument(Reader& reader) {
  Argument argument{0, 0, ArgumentKind::given};
  for (u64 left = reader.map(); left != 0; --left) {
    const u8* key = nullptr;
    u64 length = 0;
    if (!reader.string(key, length)) break;
    const auto is = [&](const char* text) {
      return length == text_length(text) && host_memcmp(key, text, length) == 0;
    };
    if (is(".offset")) {
      argument.offset = static_cast<u32>(reader.integer());
    } else if (is(".size")) {
      argument.bytes = static_cast<u32>(reader.integer());
    } else if (is(".value_kind")) {
      const u8* kind = nullptr;
      u64 kind_length = 0;
      if (reader.string(kind, kind_length)) argument.kind = argument_kind(kind, kind_length);
    } else {
      reader.skip();
    }
  }
  return argument;
}

// The reader at the value of `key` in the map that begins at `map`; at its end without it.
inline Reader value_of(Reader map, const u8* end, const char* key) {
  for (u64 left = map.map(); left != 0; --left) {
    if (map.is(key)) return map;
    map.skip();
  }
  return Reader(end, end);
}

inline void read_kernel(Reader entry, const u8* end, KernelMetadata& out) {
  out.present = true;
  out.segment_bytes =
      static_cast<u32>(value_of(entry, end, ".kernarg_segment_size").integer());
  out.max_workgroup =
      static_cast<u32>(value_of(entry, end, ".max_flat_workgroup_size").integer());
  Reader list = value_of(entry, end, ".args");
  for (u64 left = list.array(); left != 0; --left) out.arguments.append(read_argument(list));
}

// Looks for the kernel in one note; false where it is not there.
inline bool read_note(const u8* begin, const u8* end, const char* kernel, KernelMetadata& out) {
  Reader kernels = value_of(Reader(begin, end), end, "amdhsa.kernels");
  for (u64 left = kernels.array(); left != 0; --left) {
    const Reader entry = kernels;
    if (value_of(entry, end, ".name").is(kernel)) {
      read_kernel(entry, end, out);
      return true;
    }
    kernels.skip();
  }
  return false;
}

template <typename T>
T field(const u8* at) {
  T value;
  __builtin_memcpy(&value, at, sizeof value);
  return value;
}

// The notes of one section, each of a name, a type and a description padded to words.
inline bool read_notes(const u8* at, const u8* end, const char* kernel, KernelMetadata& out) {
  constexpr u32 metadata_type = 32;
  while (end - at >= 12) {
    const u64 name_bytes = field<u32>(at), bytes = field<u32>(at + 4);
    const u32 type = field<u32>(at + 8);
    const u64 name_end = 12 + ((name_bytes + 3) & ~3ull);
    const u64 next = name_end + ((bytes + 3) & ~3ull);
    if (next > static_cast<u64>(end - at)) return false;
    if (type == metadata_type && name_bytes == 7 && host_memcmp(at + 12, "AMDGPU", 7) == 0) {
      if (read_note(at + name_end, at + name_end + bytes, kernel, out)) return true;
    }
    at += next;
  }
  return false;
}

}  // namespace metadata

// Fills `out` for a kernel of a code object; `present` is false where no note tells of it.
inline void read_metadata(const u8* elf, u64 bytes, const char* kernel, KernelMetadata& out) {
  constexpr u32 note_section = 7;
  constexpr u64 header_bytes = 64, section_bytes = 64;
  out.present = false;
  out.segment_bytes = out.max_workgroup = 0;
  out.arguments.shorten(0);
  if (bytes < header_bytes) return;
  const u64 table = metadata::field<u64>(elf + 40);
  const u64 count = metadata::field<u16>(elf + 60);
  if (table > bytes || count > (bytes - table) / section_bytes) return;
  for (u64 i = 0; i < count; ++i) {
    const u8* section = elf + table + i * section_bytes;
    const u64 offset = metadata::field<u64>(section + 24);
    const u64 size = metadata::field<u64>(section + 32);
    if (metadata::field<u32>(section + 4) != note_section) continue;
    if (offset > bytes || size > bytes - offset) continue;
    if (metadata::read_notes(elf + offset, elf + offset + size, kernel, out)) return;
  }
}

}  // namespace aiter_moe::emulator
