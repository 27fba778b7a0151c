// SPDX-License-Identifier: MIT
// Code objects and bare words as lines of assembly text, for people and tests.
#pragma once

#include "emulator/code_object.h"
#include "emulator/isa/text.h"

namespace aiter_moe::emulator {

namespace listing {

// Text of any length: what does not fit is counted, not kept.
class Output {
 public:
  Output(char* out, long capacity) : out_(out), capacity_(capacity) {}

  void add(const char* text) {
    for (; *text != 0; ++text, ++length_)
      if (length_ < capacity_) out_[length_] = *text;
  }
  long length() const { return length_; }

 private:
  char* out_;
  long capacity_;
  long length_ = 0;
};

// One line: the byte offset in hexadecimal, a blank, the instruction.
inline void add_line(Output& out, const Instruction& i) {
  char text[192];
  TextWriter(text, sizeof text).hexadecimal(i.pc).character(' ');
  out.add(text);
  format_instruction(i, text, sizeof text);
  out.add(text);
  out.add("\n");
}

inline Instruction::Handler no_handler(const Opcode&) { return nullptr; }

}  // namespace listing

// Lists a code object, or, with `arch` 942 or 950, bare words. Returns the length of the text, of
// which `out` has the first `capacity` characters; -1 with the reason in `out` where there is none.
inline long disassemble(const u8* data, u64 bytes, u32 arch, char* out, long capacity) {
  listing::Output output(out, capacity);
  if (arch != 0) {
    const DecodeOptions options{arch, listing::no_handler, nullptr};
    for (u64 at = 0; at + 4 <= bytes;) {
      const Instruction i = decode(data + at, static_cast<u32>(smaller<u64>(bytes - at, 16)),
                                   static_cast<u32>(at), options);
      listing::add_line(output, i);
      at += i.bytes;
    }
    return output.length();
  }
  const char* why = nullptr;
  CodeObject* const object =
      load_code_object(data, bytes, 0, listing::no_handler, nullptr, &why);
  if (object == nullptr) {
    output.add(why);
    if (output.length() < capacity) out[output.length()] = 0;
    return -1;
  }
  for (u32 n = 0; n < object->count; ++n) listing::add_line(output, object->code[n]);
  free_code_object(object);
  return output.length();
}

}  // namespace aiter_moe::emulator
