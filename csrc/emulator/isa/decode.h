// SPDX-License-Identifier: MIT
// From the words of a text section to decoded instructions. Strict: what is not exactly a known
// encoding (an unknown number, a reserved bit, an operand no register has) becomes an unknown
// instruction of four bytes, for which the machine says what to run.
#pragma once

#include "emulator/isa/decode_memory.h"
#include "emulator/isa/decode_scalar.h"
#include "emulator/isa/decode_vector.h"

namespace aiter_moe::emulator {

using FindHandler = Instruction::Handler (*)(const Opcode&);

// What decoding needs to know besides the words.
struct DecodeOptions {
  u32 arch;                      // 942 or 950
  FindHandler find;              // handler of a known opcode
  Instruction::Handler unknown;  // handler of words that match no row
};

namespace decoding {

inline bool any_encoding(Encoding& e) {
  const u32 word = e.word[0];
  if (word >> 31 == 0) {
    if (word >> 25 == 0x3f) return vop1(e);
    return word >> 25 == 0x3e ? vopc(e) : vop2(e);
  }
  if (word >> 30 == 2) {
    if (word >> 23 == 0x17d) return sop1(e);
    if (word >> 23 == 0x17e) return sopc(e);
    if (word >> 23 == 0x17f) return sopp(e);
    return word >> 28 == 0xb ? sopk(e) : sop2(e);
  }
  if (e.available < 8) return false;
  switch (word >> 26) {
    case 0x30: return smem(e);
    case 0x34: return bits(word, 25, 23) == 7 ? vop3p(e) : vop3(e);
    case 0x36: return ds(e);
    case 0x37: return flat(e);
    case 0x38: return mubuf(e);
    case 0x3a: return mtbuf(e);
    default: return false;
  }
}

inline Instruction blank(u32 pc) {
  Instruction i{};
  i.pc = pc;
  i.bytes = 4;
  i.format = Format::unknown;
  i.dst = i.second_dst = operand::none;
  i.address = i.base = i.scalar_offset = operand::none;
  for (u16& source : i.src) source = operand::none;
  for (u16& source : i.scale_src) source = operand::none;
  for (u16& register_code : i.data) register_code = operand::none;
  return i;
}

}  // namespace decoding

// Decodes the instruction at `text`; `available` bytes (at least 4) may belong to it. The target
// of a branch is left to whoever knows where instructions begin.
inline Instruction decode(const u8* text, u32 available, u32 pc, const DecodeOptions& options) {
  Instruction i = decoding::blank(pc);
  const u8 arch_bit = options.arch == 942 ? gfx942_bit : gfx950_bit;
  Encoding e{{}, available, arch_bit, i, {}};
  __builtin_memcpy(e.word, text, available < 16 ? available : 16);
  if (!decoding::any_encoding(e) || i.bytes > available) {
    i = decoding::blank(pc);
    i.literal = e.word[0];  // for the text of the report
    i.run = options.unknown;
    return i;
  }
  i.run = options.find(*i.opcode);
  return i;
}

// Byte offset in the text section that a branch goes to.
inline i64 branch_target(const Instruction& i) {
  return i64{i.pc} + 4 + i64{i.immediate} * 4;
}

inline bool has_target(const Instruction& i) {
  return i.opcode != nullptr && i.opcode->kind == Class::branch &&
         (i.format == Format::sopp || i.format == Format::sopk);
}

}  // namespace aiter_moe::emulator
