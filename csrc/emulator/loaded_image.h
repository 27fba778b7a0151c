// SPDX-License-Identifier: MIT
// A code object's segments in memory at their places relative to one another, relocated, so that
// code and data find each other. Not here: what the bytes mean (code_object.h).
#pragma once

#include "common/host.h"
#include "emulator/elf.h"

namespace aiter_moe::emulator {

struct LoadedImage {
  void* allocation;  // what to free
  u8* base;          // where address 0 of the file is; page-aligned
  u64 bytes;
  u64 text;          // address and size of the executable segment
  u64 text_bytes;

  bool holds(u64 address, u64 size) const { return address <= bytes && size <= bytes - address; }
};

namespace loading {

constexpr u64 page = 4096, granule = 16, largest_image = 1ull << 30;

// AMDGPU relocation types that a linked code object may ask the loader for.
constexpr u32 none = 0, absolute_low = 1, absolute_high = 2, absolute64 = 3, relative32 = 4,
              relative64 = 5, absolute32 = 6, base_relative64 = 13;
constexpr u64 tag_relocations = 7, tag_relocation_bytes = 8;

inline const char* measure(const elf::File& file, const elf::Header& header, LoadedImage& image) {
  elf::Segment segment;
  for (u32 n = 0; n < header.segment_count; ++n) {
    if (!file.segment(header, n, segment)) return "the program headers leave the file";
    if (segment.type != elf::segment_load) continue;
    if (!file.holds(segment.offset, segment.file_bytes) ||
        segment.file_bytes > segment.memory_bytes)
      return "a segment leaves the file";
    if (segment.address > largest_image || segment.memory_bytes > largest_image)
      return "the code object asks for more memory than an image may have";
    image.bytes = larger(image.bytes, segment.address + segment.memory_bytes);
    if ((segment.flags & elf::flag_executable) == 0) continue;
    if (image.text_bytes != 0) return "the code object has more than one executable segment";
    image.text = segment.address;
    image.text_bytes = segment.file_bytes;
  }
  if (image.text_bytes == 0) return "the code object has no executable segment";
  image.bytes = (image.bytes + granule - 1) / granule * granule;
  return image.text % 4 == 0 ? nullptr : "the code is not aligned";
}

inline const char* copy_segments(const elf::File& file, const elf::Header& header,
                                 LoadedImage& image) {
  image.allocation = host_malloc(image.bytes + page);
  if (image.allocation == nullptr) return "no memory for the code object";
  const uintptr_t start = reinterpret_cast<uintptr_t>(image.allocation);
  image.base = reinterpret_cast<u8*>((start + page - 1) & ~(page - 1));
  host_memset(image.base, 0, image.bytes);
  elf::Segment segment;
  for (u32 n = 0; file.segment(header, n, segment); ++n)
    if (segment.type == elf::segment_load)
      host_memcpy(image.base + segment.address, file.at(segment.offset), segment.file_bytes);
  return nullptr;
}

// Address in memory of a symbol of the dynamic table; false for one that is not defined here.
inline bool symbol_address(const elf::File& file, const elf::Header& header,
                           const LoadedImage& image, u32 number, u64& out) {
  if (number == 0) {
    out = 0;
    return true;
  }
  u32 seen = 0;
  return elf::find_symbol(
      file, header, elf::section_dynamic_symbols,
      [&](const elf::Symbol& symbol, const elf::Section&) {
        if (seen++ != number || symbol.section == 0) return false;
        out = reinterpret_cast<u64>(image.base) + symbol.value;
        return true;
      });
}

inline const char* relocate(const elf::File& file, const elf::Header& header, LoadedImage& image,
                            const elf::Relocation& relocation) {
  u64 symbol = 0;
  if (relocation.kind == none) return nullptr;
  if (!symbol_address(file, header, image, relocation.symbol, symbol))
    return "a relocation names a symbol that the code object does not define";
  const u64 base = reinterpret_cast<u64>(image.base);
  u64 value = symbol + static_cast<u64>(relocation.addend);
  u64 bytes = 4;
  switch (relocation.kind) {
    case absolute_low: case absolute32: break;
    case absolute_high: value >>= 32; break;
    case relative32: value -= base + relocation.offset; break;
    case absolute64: bytes = 8; break;
    case relative64: value -= base + relocation.offset; bytes = 8; break;
    case base_relative64: value = base + static_cast<u64>(relocation.addend); bytes = 8; break;
    default: return "the code object has a relocation of an unknown type";
  }
  if (!image.holds(relocation.offset, bytes)) return "a relocation lies outside the image";
  host_memcpy(image.base + relocation.offset, &value, bytes);
  return nullptr;
}

// The relocation table that the dynamic segment names; empty where there is none.
inline bool relocation_table(const elf::File& file, const elf::Header& header,
                             const LoadedImage& image, u64& address, u64& bytes) {
  address = bytes = 0;
  elf::Segment segment;
  for (u32 n = 0; file.segment(header, n, segment); ++n) {
    if (segment.type != elf::segment_dynamic) continue;
    elf::Dynamic entry;
    for (u64 at = 0; at + sizeof entry <= segment.file_bytes; at += sizeof entry) {
      if (!file.holds(segment.offset, at) || !file.read(segment.offset + at, entry)) return false;
      if (entry.tag == 0) break;
      if (entry.tag == tag_relocations) address = entry.value;
      if (entry.tag == tag_relocation_bytes) bytes = entry.value;
    }
  }
  return bytes == 0 || image.holds(address, bytes);
}

inline const char* relocate_all(const elf::File& file, const elf::Header& header,
                                LoadedImage& image) {
  u64 address = 0, bytes = 0;
  if (!relocation_table(file, header, image, address, bytes))
    return "the relocation table lies outside the image";
  for (u64 at = 0; at + sizeof(elf::Relocation) <= bytes; at += sizeof(elf::Relocation)) {
    elf::Relocation relocation;
    host_memcpy(&relocation, image.base + address + at, sizeof relocation);
    if (const char* wrong = relocate(file, header, image, relocation)) return wrong;
  }
  return nullptr;
}

}  // namespace loading

// Loads the segments of a file; null, or what is wrong with it. Free `allocation` in any case.
inline const char* load_image(const elf::File& file, const elf::Header& header,
                              LoadedImage& image) {
  image = {};
  const char* wrong = loading::measure(file, header, image);
  if (wrong == nullptr) wrong = loading::copy_segments(file, header, image);
  if (wrong == nullptr) wrong = loading::relocate_all(file, header, image);
  return wrong;
}

}  // namespace aiter_moe::emulator
