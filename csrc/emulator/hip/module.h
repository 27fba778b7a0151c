// SPDX-License-Identifier: MIT
// Loaded code objects and the kernels taken from them; whether an image is one, and for which
// device.
#pragma once

#include "emulator/code_object.h"
#include "emulator/hip/device.h"
#include "emulator/machine/launch.h"

namespace aiter_moe::emulator {

struct Function {
  u64 handle;
  Program* program;
  KernelMetadata metadata;
  char name[256];
};

struct Module {
  u64 handle;
  const Device* device;
  u8* elf;
  u64 bytes;
  CodeObject* code_object;
  Array<InstructionHits> rows;  // every instruction, with no hits; made for the first kernel
  Array<Function*> functions;
};

namespace image {

constexpr u32 header_bytes = 64, section_bytes = 64, segment_bytes = 56;

inline bool is_elf(const u8* image) {
  const u8 magic[6] = {0x7F, 'E', 'L', 'F', 2, 1};  // 64 bits, little-endian
  constexpr u16 amdgpu = 224;
  return host_memcmp(image, magic, sizeof magic) == 0 && metadata::field<u16>(image + 18) == amdgpu;
}

// How long an ELF image is, which HIP's interface does not say: the end of what its headers name.
inline u64 size_of(const u8* image) {
  using metadata::field;
  constexpr u32 no_bits = 8;
  u64 end = header_bytes;
  const u64 segments = field<u64>(image + 32), sections = field<u64>(image + 40);
  const u32 segment_count = field<u16>(image + 56), section_count = field<u16>(image + 60);
  end = larger<u64>(end, segments + u64{segment_bytes} * segment_count);
  end = larger<u64>(end, sections + u64{section_bytes} * section_count);
  for (u32 i = 0; i < segment_count; ++i) {
    const u8* segment = image + segments + i * segment_bytes;
    end = larger<u64>(end, field<u64>(segment + 8) + field<u64>(segment + 32));
  }
  for (u32 i = 0; i < section_count; ++i) {
    const u8* section = image + sections + i * section_bytes;
    if (field<u32>(section + 4) == no_bits) continue;
    end = larger<u64>(end, field<u64>(section + 24) + field<u64>(section + 32));
  }
  return end;
}

// Whether a code object's target features agree with SRAMECC on and XNACK off.
inline bool runs_on(const u8* image, const Device& device) {
  const u32 flags = metadata::field<u32>(image + 48);
  constexpr u32 xnack = 0x300, xnack_on = 0x300, sramecc = 0xC00, sramecc_off = 0x800;
  return (flags & 0xFF) == device.machine && (flags & xnack) != xnack_on &&
         (flags & sramecc) != sramecc_off;
}

// The code object for a device in an uncompressed clang offload bundle; null without one.
inline const u8* in_bundle(const u8* bundle, const Device& device) {
  using metadata::field;
  constexpr u32 magic_bytes = 24, entry_bytes = 24;
  const u64 count = field<u64>(bundle + magic_bytes);
  const u8* entry = bundle + magic_bytes + 8;
  for (u64 i = 0; i < count; ++i) {
    const u8* code = bundle + field<u64>(entry);
    const u64 code_bytes = field<u64>(entry + 8), id_bytes = field<u64>(entry + 16);
    if (code_bytes >= header_bytes && is_elf(code) && runs_on(code, device)) return code;
    entry += entry_bytes + id_bytes;
  }
  return nullptr;
}

inline bool is_bundle(const u8* image) {
  return host_memcmp(image, "__CLANG_OFFLOAD_BUNDLE__", 24) == 0;
}

}  // namespace image

// Makes the rows of a code object's instructions where there are none yet; false where memory ran
// out.
inline bool fit_rows(const Code& code, Array<InstructionHits>& rows) {
  if (rows.size() != 0) return true;
  if (!rows.reserve(code.count)) return false;
  for (u32 n = 0; n < code.count; ++n) {
    const Instruction& i = code.code[n];
    InstructionHits row{};
    row.pc = i.pc;
    row.kind = static_cast<u32>(i.opcode == nullptr ? Class::other : i.opcode->kind);
    format_instruction(i, row.text, sizeof row.text);
    rows.append(row);
  }
  return true;
}

}  // namespace aiter_moe::emulator
