// SPDX-License-Identifier: MIT
// A code object in memory, its text decoded, as all of its kernels share it; and its kernels, ready
// to run, with what their descriptors ask of the launch. Not here: who may touch the memory.
#pragma once

#include "emulator/decoded_text.h"
#include "emulator/kernel_descriptor.h"
#include "emulator/loaded_image.h"

namespace aiter_moe::emulator {

struct CodeObject : Code {
  const u8* file;  // the caller's, who keeps it as long as this
  u64 file_bytes;
  LoadedImage image;
};

// A kernel; shares the code of its code object, which outlives it.
struct Program : Code {
  char* name;
  u32 entry;  // index of the first instruction

  // From the kernel descriptor.
  u32 lds_bytes;
  u32 scratch_bytes;  // a lane
  u32 kernarg_bytes;
  u32 vgprs;          // vector and accumulation registers
  u32 accum_offset;   // first accumulation register among them
  u32 sgprs;
  u32 user_sgprs;
  u32 rsrc1, rsrc2, rsrc3;
  u16 kernel_code_properties;
  u32 preload_length, preload_offset;  // of kernel arguments in user SGPRs, in words
};

// A variable of a code object in memory; null where there is none.
struct Variable {
  u8* address;
  u64 bytes;
};

namespace code_object {

constexpr const char* out_of_memory = "no memory for the code";
constexpr u32 mach_gfx942 = 0x4c, mach_gfx950 = 0x4f;

inline u32 arch_of(const elf::Header& header) {
  const u32 mach = header.flags & 0xff;
  return mach == mach_gfx942 ? 942 : mach == mach_gfx950 ? 950 : 0;
}

inline elf::File file_of(const CodeObject& object) { return {object.file, object.file_bytes}; }

inline bool read_descriptor(const LoadedImage& image, u64 address, Descriptor& out) {
  if (!image.holds(address, sizeof out)) return false;
  host_memcpy(&out, image.base + address, sizeof out);
  return true;
}

inline void describe(const Descriptor& descriptor, Program& program) {
  program.lds_bytes = descriptor.lds_bytes;
  program.scratch_bytes = descriptor.scratch_bytes;
  program.kernarg_bytes = descriptor.kernarg_bytes;
  program.rsrc1 = descriptor.rsrc1;
  program.rsrc2 = descriptor.rsrc2;
  program.rsrc3 = descriptor.rsrc3;
  program.kernel_code_properties = descriptor.properties;
  program.preload_length = descriptor.preload_length();
  program.preload_offset = descriptor.preload_offset();
  program.vgprs = (bits(descriptor.rsrc1, 5, 0) + 1) * 8;
  program.sgprs = (bits(descriptor.rsrc1, 9, 6) / 2 + 1) * 16;
  program.accum_offset = (bits(descriptor.rsrc3, 5, 0) + 1) * 4;
  program.user_sgprs = bits(descriptor.rsrc2, 5, 1);
}

// Where functions and kernels begin.
inline void add_starts(const elf::File& file, const elf::Header& header, const LoadedImage& image,
                       Starts& starts) {
  find_defined(file, header, [&](const elf::Symbol& symbol, const elf::Section& strings) {
    Descriptor descriptor;
    if (symbol.kind() == elf::symbol_function)
      starts.add(symbol.value - image.text);
    else if (is_descriptor(file, symbol, strings) &&
             read_descriptor(image, symbol.value, descriptor))
      starts.add(descriptor.entry_address(symbol.value) - image.text);
    return false;
  });
}

inline const char* load(const elf::File& file, DecodeOptions& options, CodeObject& object) {
  elf::Header header;
  if (const char* wrong = elf::open(file, header)) return wrong;
  object.arch = arch_of(header);
  if (object.arch == 0) return "the code object is for neither gfx942 nor gfx950";
  if (options.arch != 0 && options.arch != object.arch)
    return "the code object is for another architecture";
  options.arch = object.arch;
  if (const char* wrong = load_image(file, header, object.image)) return wrong;
  object.text = object.image.base + object.image.text;
  object.text_bytes = static_cast<u32>(object.image.text_bytes);
  Starts starts(object.text_bytes / 4);
  if (!starts.usable()) return out_of_memory;
  add_starts(file, header, object.image, starts);
  return decode_text(object, starts, options) ? nullptr : out_of_memory;
}

inline char* copied_name(const char* name) {
  const u64 bytes = __builtin_strlen(name) + 1;
  char* const copy = static_cast<char*>(host_malloc(bytes));
  if (copy != nullptr) host_memcpy(copy, name, bytes);
  return copy;
}

inline const char* read_kernel(const CodeObject& object, const char* name, Program& program) {
  const elf::File file = file_of(object);
  elf::Header header;
  if (const char* wrong = elf::open(file, header)) return wrong;
  u64 address = 0;
  Descriptor descriptor;
  if (!find_descriptor(file, header, name, address)) return "the code object has no such kernel";
  if (!read_descriptor(object.image, address, descriptor))
    return "the kernel's descriptor lies outside";
  static_cast<Code&>(program) = object;
  describe(descriptor, program);
  program.entry = index_at(object, descriptor.entry_address(address) - object.image.text);
  if (program.entry == no_instruction) return "the kernel's entry lies outside the code";
  program.name = copied_name(name);
  return program.name == nullptr ? out_of_memory : nullptr;
}

}  // namespace code_object

inline void free_code_object(CodeObject* object) {
  if (object == nullptr) return;
  host_free(object->code);
  host_free(object->image.allocation);
  host_free(object);
}

// Loads a code object; null with *why set where that cannot be. `arch` is 942 or 950, or 0 for
// whatever the file is for. `find` gives the handler of an opcode, `unknown` is run for words that
// are no instruction. The file has to stay as long as the code object does.
inline CodeObject* load_code_object(const u8* file, u64 bytes, u32 arch, FindHandler find,
                                    Instruction::Handler unknown, const char** why) {
  CodeObject* const object = static_cast<CodeObject*>(host_malloc(sizeof(CodeObject)));
  *why = code_object::out_of_memory;
  if (object == nullptr) return nullptr;
  *object = {};
  object->file = file;
  object->file_bytes = bytes;
  DecodeOptions options{arch, find, unknown};
  *why = code_object::load(code_object::file_of(*object), options, *object);
  if (*why == nullptr) return object;
  free_code_object(object);
  return nullptr;
}

inline void free_program(Program* program) {
  if (program == nullptr) return;
  host_free(program->name);
  host_free(program);
}

// A kernel by its name; null with *why set where there is none. Free it before its code object.
inline Program* find_kernel(const CodeObject& object, const char* name, const char** why) {
  Program* const program = static_cast<Program*>(host_malloc(sizeof(Program)));
  *why = code_object::out_of_memory;
  if (program == nullptr) return nullptr;
  *program = {};
  *why = code_object::read_kernel(object, name, *program);
  if (*why == nullptr) return program;
  free_program(program);
  return nullptr;
}

inline Variable find_variable(const CodeObject& object, const char* name) {
  const elf::File file = code_object::file_of(object);
  const LoadedImage& image = object.image;
  elf::Header header;
  Variable found{};
  if (elf::open(file, header) != nullptr) return found;
  code_object::find_defined(
      file, header, [&](const elf::Symbol& symbol, const elf::Section& strings) {
        if (symbol.kind() != elf::symbol_object || !file.is_text(strings, symbol.name, name, "") ||
            code_object::is_descriptor(file, symbol, strings) ||
            !image.holds(symbol.value, symbol.bytes))
          return false;
        found = {image.base + symbol.value, symbol.bytes};
        return true;
      });
  return found;
}

}  // namespace aiter_moe::emulator
