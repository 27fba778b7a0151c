// SPDX-License-Identifier: MIT
// From a code object to a kernel ready to run: its image in memory, all of its text decoded once
// (kernels call functions of the same text; data between them decodes to unknown instructions and
// is harmless), and what the kernel's descriptor asks of the launch.
#pragma once

#include "emulator/isa/decode.h"
#include "emulator/loaded_image.h"

namespace aiter_moe::emulator {

constexpr u32 no_instruction = ~0u;  // target of a branch to where none begins

// pc values count from the start of the text, which is the executable segment.
struct Program {
  char* name;
  u32 arch;  // 942 or 950
  Instruction* code;
  u32 count;
  u8* image;  // of the whole code object; a registered range of memory while kernels run
  u64 image_bytes;
  u8* text;
  u32 text_bytes;
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

  void* allocation;  // of the image
};

namespace code_object {

struct Descriptor {
  u32 lds_bytes, scratch_bytes, kernarg_bytes, reserved0;
  i64 entry;  // from the descriptor to the code
  u8 reserved1[20];
  u32 rsrc3, rsrc1, rsrc2;
  u16 properties, preload;
  u32 reserved2;
};
static_assert(sizeof(Descriptor) == 64);

constexpr const char* out_of_memory = "no memory for the code";
constexpr u32 mach_gfx942 = 0x4c, mach_gfx950 = 0x4f;

inline u32 arch_of(const elf::Header& header) {
  const u32 mach = header.flags & 0xff;
  return mach == mach_gfx942 ? 942 : mach == mach_gfx950 ? 950 : 0;
}

// Finds the descriptor of a kernel, the symbol `<kernel>.kd`.
inline bool find_descriptor(const elf::File& file, const elf::Header& header, const char* kernel,
                            u64& address) {
  const auto visit = [&](const elf::Symbol& symbol, const elf::Section& strings) {
    if (symbol.section == 0 || !file.is_text(strings, symbol.name, kernel, ".kd")) return false;
    address = symbol.value;
    return true;
  };
  return elf::find_symbol(file, header, elf::section_dynamic_symbols, visit) ||
         elf::find_symbol(file, header, elf::section_symbols, visit);
}

inline void read_descriptor(const Descriptor& descriptor, Program& program) {
  program.lds_bytes = descriptor.lds_bytes;
  program.scratch_bytes = descriptor.scratch_bytes;
  program.kernarg_bytes = descriptor.kernarg_bytes;
  program.rsrc1 = descriptor.rsrc1;
  program.rsrc2 = descriptor.rsrc2;
  program.rsrc3 = descriptor.rsrc3;
  program.kernel_code_properties = descriptor.properties;
  program.preload_length = bits(descriptor.preload, 6, 0);
  program.preload_offset = bits(descriptor.preload, 15, 7);
  program.vgprs = (bits(descriptor.rsrc1, 5, 0) + 1) * 8;
  program.sgprs = (bits(descriptor.rsrc1, 9, 6) / 2 + 1) * 16;
  program.accum_offset = (bits(descriptor.rsrc3, 5, 0) + 1) * 4;
  program.user_sgprs = bits(descriptor.rsrc2, 5, 1);
}

// Words of the text at which functions begin: decoding starts anew there.
class Starts {
 public:
  explicit Starts(u32 words) : words_(words) {
    bits_ = static_cast<u8*>(host_malloc(words / 8 + 1));
    if (bits_ != nullptr) host_memset(bits_, 0, words / 8 + 1);
  }
  ~Starts() { host_free(bits_); }
  Starts(const Starts&) = delete;
  Starts& operator=(const Starts&) = delete;

  bool usable() const { return bits_ != nullptr; }
  void add(u64 offset) {
    if (offset % 4 == 0 && offset / 4 < words_) bits_[offset / 32] |= 1 << (offset / 4 % 8);
  }
  // Bytes from a word to the next start or the end, at most 16.
  u32 available(u32 word) const {
    u32 end = word + 1;
    while (end < words_ && end < word + 4 && !(bits_[end / 8] >> (end % 8) & 1)) ++end;
    return (end - word) * 4;
  }

 private:
  u8* bits_;
  u32 words_;
};

inline void add_functions(const elf::File& file, const elf::Header& header, u64 text,
                          Starts& starts) {
  const auto visit = [&](const elf::Symbol& symbol, const elf::Section&) {
    if (symbol.section != 0 && symbol.kind() == elf::symbol_function)
      starts.add(symbol.value - text);
    return false;
  };
  elf::find_symbol(file, header, elf::section_dynamic_symbols, visit);
  elf::find_symbol(file, header, elf::section_symbols, visit);
}

// Decodes the text and turns branch offsets into indices.
inline bool decode_text(Program& program, const Starts& starts, const DecodeOptions& options) {
  const u32 words = program.text_bytes / 4;
  program.code = static_cast<Instruction*>(host_malloc(u64{words} * sizeof(Instruction)));
  u32* const index = static_cast<u32*>(host_malloc(u64{words} * sizeof(u32)));
  if (program.code == nullptr || index == nullptr) {
    host_free(index);
    return false;
  }
  host_memset(index, 0xff, u64{words} * sizeof(u32));  // no_instruction
  for (u32 word = 0; word < words;) {
    const Instruction i =
        decode(program.text + u64{word} * 4, starts.available(word), word * 4, options);
    index[word] = program.count;
    program.code[program.count++] = i;
    word += i.bytes / 4;
  }
  for (u32 n = 0; n < program.count; ++n) {
    Instruction& i = program.code[n];
    if (!has_target(i)) continue;
    const i64 word = branch_target(i) / 4;
    i.target = word >= 0 && word < words ? index[word] : no_instruction;
  }
  host_free(index);
  return true;
}

// Index of the instruction at a byte offset in the text.
inline u32 index_at(const Program& program, u64 pc) {
  u32 low = 0, high = program.count;
  while (low < high) {
    const u32 middle = low + (high - low) / 2;
    if (program.code[middle].pc < pc)
      low = middle + 1;
    else
      high = middle;
  }
  return low < program.count && program.code[low].pc == pc ? low : no_instruction;
}

inline char* copied_name(const char* name) {
  const u64 bytes = __builtin_strlen(name) + 1;
  char* const copy = static_cast<char*>(host_malloc(bytes));
  if (copy != nullptr) host_memcpy(copy, name, bytes);
  return copy;
}

// Arguments in user SGPRs: firmware that knows of them starts behind the code that loads them.
inline u64 preload_skip(const Program& program) { return program.preload_length != 0 ? 256 : 0; }

// Reads a kernel's descriptor, and where in the text the kernel begins.
inline const char* find_kernel(const elf::File& file, const elf::Header& header,
                               const char* kernel, const LoadedImage& image, Program& program,
                               u64& entry) {
  u64 address = 0;
  if (!find_descriptor(file, header, kernel, address)) return "the code object has no such kernel";
  Descriptor descriptor;
  if (!image.holds(address, sizeof descriptor)) return "the kernel's descriptor lies outside";
  host_memcpy(&descriptor, image.base + address, sizeof descriptor);
  read_descriptor(descriptor, program);
  entry = address + static_cast<u64>(descriptor.entry) - image.text + preload_skip(program);
  return nullptr;
}

inline const char* load(const elf::File& file, const char* kernel, DecodeOptions& options,
                        Program& program) {
  elf::Header header;
  if (const char* wrong = elf::open(file, header)) return wrong;
  program.arch = arch_of(header);
  if (program.arch == 0) return "the code object is for neither gfx942 nor gfx950";
  if (options.arch != 0 && options.arch != program.arch)
    return "the code object is for another architecture";
  options.arch = program.arch;
  LoadedImage image;
  const char* const wrong = load_image(file, header, image);
  program.allocation = image.allocation;
  if (wrong != nullptr) return wrong;
  program.image = image.base;
  program.image_bytes = image.bytes;
  program.text = image.base + image.text;
  program.text_bytes = static_cast<u32>(image.text_bytes);

  u64 entry = 0;
  if (kernel != nullptr)
    if (const char* none = find_kernel(file, header, kernel, image, program, entry)) return none;
  Starts starts(program.text_bytes / 4);
  if (!starts.usable()) return out_of_memory;
  starts.add(entry);
  add_functions(file, header, image.text, starts);
  if (!decode_text(program, starts, options)) return out_of_memory;
  program.entry = index_at(program, entry);
  if (program.entry == no_instruction) return "the kernel's entry lies outside the code";
  program.name = copied_name(kernel == nullptr ? "" : kernel);
  return program.name == nullptr ? out_of_memory : nullptr;
}

}  // namespace code_object

inline void free_program(Program* program) {
  if (program == nullptr) return;
  host_free(program->code);
  host_free(program->name);
  host_free(program->allocation);
  host_free(program);
}

// Loads a kernel of a code object (null: its text alone, to be listed); null with *why set where
// that cannot be. `arch` is 942 or 950, or 0 for whatever the file is for. `find` gives the handler
// of an opcode, `unknown` is run for words that are no instruction.
inline Program* load_program(const u8* file, u64 bytes, const char* kernel, u32 arch,
                             FindHandler find, Instruction::Handler unknown, const char** why) {
  Program* const program = static_cast<Program*>(host_malloc(sizeof(Program)));
  *why = code_object::out_of_memory;
  if (program == nullptr) return nullptr;
  *program = {};
  DecodeOptions options{arch, find, unknown};
  *why = code_object::load(elf::File(file, bytes), kernel, options, *program);
  if (*why == nullptr) return program;
  free_program(program);
  return nullptr;
}

}  // namespace aiter_moe::emulator
