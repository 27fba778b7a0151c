// SPDX-License-Identifier: MIT
// The opcode table: which number means which instruction in which encoding, what its operands are
// and which modifiers it takes. The rows are opcodes.inc; here is how to read and find them.
#pragma once

#include "emulator/isa/instruction.h"

namespace aiter_moe::emulator {

// An opcode's operands are listed in the order of assembly text, each as a letter and its width in
// 32-bit registers:
//   d, E    vector destination; E: an accumulation register whatever the encoding says
//   s       scalar destination (SMEM: data)
//   S       second, scalar destination of VOP3B
//   a b c   sources 0, 1, 2; A: source 0 is an accumulation register
//   u w     scales of a scaled MFMA
//   V       VCC, implied
//   i h k   immediate, hardware register, 32-bit constant
//   p x y r o  address, data0 or vdata, data1, base, scalar offset of memory instructions
namespace trait {
constexpr u32 negate = 7, absolute = 7 << 3;  // a bit per source; VOP3P: of the low, high half
constexpr u32 clamp = 1 << 6, omod = 1 << 7;
constexpr u32 op_sel = 1 << 8, op_sel_hi = 1 << 9;
constexpr u32 packed = 1 << 10;  // op_sel_hi is all ones unless told otherwise
constexpr u32 sdwa = 1 << 11, dpp = 1 << 12;
constexpr u32 tied = 1 << 13;    // the destination is the third source
constexpr u32 matrix = 1 << 14;  // cbsz, abid, blgp
constexpr u32 bitop3 = 1 << 15;  // a truth table in the bits of the source modifiers
constexpr u32 bound = 1 << 16;   // bound_ctrl and fi in the bits of op_sel
constexpr u32 long_op_sel = 1 << 17;  // two sources, but all four bits of op_sel have a meaning
constexpr u32 lds = 1 << 18;          // a buffer load that can write to the LDS
}  // namespace trait

constexpr u8 gfx942_bit = 1, gfx950_bit = 2;
constexpr u16 scaled_code = 0x80;      // added to the code of an MFMA that scales precede
constexpr u16 load_scale_code = 0x2c;  // VOP3P opcode of those first two words

namespace opcode_rows {
#define AITER_MOE_OPCODE(format, code, name, archs, kind, operands, traits) \
  {Format::format, code, name, archs, Class::kind, operands, traits},
constexpr Opcode all[] = {
#include "emulator/isa/opcodes.inc"
};
#undef AITER_MOE_OPCODE
constexpr u32 count = sizeof(all) / sizeof(all[0]);
constexpr u32 formats = static_cast<u32>(Format::unknown), codes = 1024;

// First row + 1 of every code; rows of one code are neighbours, for different GPUs.
struct Index {
  u16 first[formats][codes];
};

constexpr Index make_index() {
  Index index{};
  for (u32 row = count; row-- > 0;)
    index.first[static_cast<u32>(all[row].format)][all[row].code] = static_cast<u16>(row + 1);
  return index;
}

constexpr Index index = make_index();
}  // namespace opcode_rows

// The row of a code for a GPU, or null.
inline const Opcode* find_opcode(Format format, u32 code, u8 arch_bit) {
  if (format == Format::unknown || code >= opcode_rows::codes) return nullptr;
  const u16 first = opcode_rows::index.first[static_cast<u32>(format)][code];
  if (first == 0) return nullptr;
  for (const Opcode* row = &opcode_rows::all[first - 1];
       row < opcode_rows::all + opcode_rows::count && row->format == format && row->code == code;
       ++row)
    if (row->archs & arch_bit) return row;
  return nullptr;
}

// One entry of an opcode's operand list.
struct OperandSlot {
  char letter;
  u8 width;  // 0: takes no register
};

// An opcode's operand list, parsed.
struct OperandList {
  static constexpr int capacity = 8;

  OperandSlot slot[capacity] = {};
  int count = 0;

  // Width of the operand with a letter; 0 where there is none.
  constexpr u8 width(char letter) const {
    for (int n = 0; n < count; ++n)
      if (slot[n].letter == letter) return slot[n].width;
    return 0;
  }
  constexpr bool has(char letter) const {
    for (int n = 0; n < count; ++n)
      if (slot[n].letter == letter) return true;
    return false;
  }
};

constexpr int source_count(const OperandList& list) {
  int count = 0;
  for (int n = 0; n < list.count; ++n) {
    const char letter = list.slot[n].letter;
    count += letter == 'a' || letter == 'b' || letter == 'c' || letter == 'A';
  }
  return count;
}

constexpr OperandList operand_list(const Opcode& opcode) {
  OperandList list;
  for (const char* text = opcode.operands; *text != 0 && list.count < OperandList::capacity;) {
    OperandSlot& slot = list.slot[list.count++];
    slot.letter = *text++;
    for (; *text >= '0' && *text <= '9'; ++text) slot.width = slot.width * 10 + (*text - '0');
    while (*text == ' ') ++text;
  }
  return list;
}

}  // namespace aiter_moe::emulator
