// SPDX-License-Identifier: MIT
// Decoded instructions as assembly text in LLVM's syntax, for reports. Branches show the byte
// offset in the text that they go to, where LLVM prints a label or a distance.
#pragma once

#include "emulator/isa/decode.h"
#include "emulator/isa/text_modifiers.h"

namespace aiter_moe::emulator {

namespace formatting {

// The encoding that VOP3 code numbers of short opcodes come from; unknown for VOP3's own.
inline Format short_format(u32 code) {
  if (code < 0x100) return Format::vopc;
  if (code < 0x140) return Format::vop2;
  return code < 0x1c0 ? Format::vop1 : Format::unknown;
}

inline u32 short_code(u32 code) {
  if (code < 0x100) return code;
  return code - (code < 0x140 ? 0x100 : 0x140);
}

// Opcodes with both a short and a long encoding say which one it is.
inline bool has_other_form(const Opcode& opcode) {
  const u8 arch = opcode.archs & gfx950_bit ? gfx950_bit : gfx942_bit;
  if (opcode.format == Format::vop3)
    return find_opcode(short_format(opcode.code), short_code(opcode.code), arch) != nullptr;
  const u32 first =
      opcode.format == Format::vopc ? 0 : opcode.format == Format::vop2 ? 0x100 : 0x140;
  return find_opcode(Format::vop3, first + opcode.code, arch) != nullptr;
}

inline void write_mnemonic(TextWriter& out, const Instruction& i) {
  out.text(i.opcode->name);
  const bool is_short =
      i.format == Format::vop1 || i.format == Format::vop2 || i.format == Format::vopc;
  if (is_short && i.variant == Variant::sdwa) {
    out.text("_sdwa");
  } else if (is_short && i.variant == Variant::dpp) {
    out.text("_dpp");
  } else if ((is_short || i.format == Format::vop3) && has_other_form(*i.opcode) &&
             i.opcode->operands[0] != 0) {  // v_nop and v_clrexcp never say it
    out.text(is_short ? "_e32" : "_e64");
  }
}

// Source n with its modifiers; those of packed operands are listed behind.
inline void write_modified(TextWriter& out, const Instruction& i, int n, u32 width) {
  const u32 code = i.src[n];
  const bool extended = i.variant == Variant::sdwa && n < 2 && i.sdwa.sign_extend[n];
  const bool absolute = i.absolute >> n & 1;
  const bool listed = i.format == Format::vop3p && (i.opcode->traits & trait::packed) != 0;
  const bool negative = !listed && (i.negate >> n & 1);
  const bool in_words = negative && !absolute && !is_register(code) && !is_status(code);
  if (extended) out.text("sext(");
  if (negative) out.text(in_words ? "neg(" : "-");
  if (absolute) out.character('|');
  write_source(out, code, width, i.literal);
  if (absolute) out.character('|');
  if (in_words) out.character(')');
  if (extended) out.character(')');
}

// Registers of A and B of the f8f6f4 instructions, by the format that cbsz or blgp names.
inline u32 matrix_width(u32 format) { return format < 2 ? 8 : format < 4 ? 6 : 4; }

inline u32 source_width(const Instruction& i, int n, u32 width) {
  if (n == 2 || !contains(i.opcode->name, "f8f6f4")) return width;
  return matrix_width(n == 0 ? i.cbsz : i.blgp);
}

inline void write_immediate(TextWriter& out, const Instruction& i) {
  const u32 value = static_cast<u32>(i.immediate);
  const char* const name = i.opcode->name;
  if (has_target(i)) {
    out.hexadecimal(static_cast<u64>(branch_target(i)));
  } else if (i.format == Format::sopk) {
    out.hexadecimal(value & 0xffff);
  } else if (i.opcode->kind == Class::wait) {
    write_waits(out, value);
  } else if (contains(name, "s_sendmsg")) {
    write_message(out, value);
  } else if (contains(name, "gpr_idx")) {
    write_index_mode(out, value);
  } else if (value <= 64) {
    out.decimal(value);
  } else {
    out.hexadecimal(value);
  }
}

// Address of a vector memory instruction.
inline void write_address(TextWriter& out, const Instruction& i, u32 width) {
  if (i.address == operand::none) {
    out.text("off");
    return;
  }
  const bool is_buffer = i.format == Format::mubuf || i.format == Format::mtbuf;
  if (is_buffer) width = i.offset_enabled + i.index_enabled;
  if (i.format == Format::global && i.base != operand::none) width = 1;
  write_register(out, i.address, width);
}

inline void write_signed_hexadecimal(TextWriter& out, i32 value) {
  if (value < 0) out.character('-');
  out.hexadecimal(value < 0 ? 0u - static_cast<u32>(value) : static_cast<u32>(value));
}

inline void write_offset(TextWriter& out, const Instruction& i) {
  if (i.format != Format::smem) return write_source(out, i.scalar_offset, 1, 0);
  if (i.scalar_offset == operand::none) return write_signed_hexadecimal(out, i.offset);
  write_register(out, i.scalar_offset, 1);
  if (!i.offset_enabled) return;
  out.text(" offset:");
  write_signed_hexadecimal(out, i.offset);
}

// Where VCC is implied, SDWA comparisons may still name another mask.
inline u32 implied_mask(const Instruction& i, bool is_read) {
  return is_read ? i.src[2] : i.second_dst;
}

// The one data field of buffer and scalar memory: stored, or else loaded to.
inline u16 memory_data(const Instruction& i) {
  return i.data[0] != operand::none ? i.data[0] : i.dst;
}

inline void write_operand(TextWriter& out, const Instruction& i, const OperandList& list, int n) {
  const OperandSlot slot = list.slot[n];
  const bool behind_constant = n == 3 && list.slot[2].letter == 'k';
  switch (slot.letter) {
    case 'd': case 'E': return write_register(out, i.dst, slot.width);
    case 's': case 'x': return write_register(out, memory_data(i), slot.width);
    case 'S': return write_register(out, i.second_dst, slot.width);
    case 'V':
      return write_register(out, implied_mask(i, n > 1 && list.slot[n - 1].letter == 'b'), 2);
    case 'a': case 'A': return write_modified(out, i, 0, source_width(i, 0, slot.width));
    case 'b':
      return write_modified(out, i, behind_constant ? 2 : 1, source_width(i, 1, slot.width));
    case 'c': return write_modified(out, i, 2, slot.width);
    case 'u': return write_source(out, i.scale_src[0], 1, 0);
    case 'w': return write_source(out, i.scale_src[1], 1, 0);
    case 'k':
      if (i.format != Format::sopk) { out.hexadecimal(i.literal); return; }
      if (inline_code(i.literal) == operand::literal) return write_literal(out, i.literal);
      return write_source(out, inline_code(i.literal), 1, 0);
    case 'h': return write_hardware_register(out, static_cast<u32>(i.immediate));
    case 'i': return write_immediate(out, i);
    case 'p': return write_address(out, i, slot.width);
    case 'y': return write_register(out, i.data[1], slot.width);
    case 'r':
      if (i.base == operand::none) { out.text("off"); return; }
      return write_register(out, i.base, i.format == Format::scratch ? 1 : slot.width);
    default: return write_offset(out, i);
  }
}

inline void write_operands(TextWriter& out, const Instruction& i, const OperandList& list) {
  const char* comma = " ";
  const bool is_flat = i.format == Format::flat || i.format == Format::global;
  if (is_flat && i.opcode->kind == Class::vmem_atomic && i.returns) {
    const bool swaps = contains(i.opcode->name, "cmpswap");
    write_register(out.text(comma), i.dst, list.width('x') / (swaps ? 2 : 1));
    comma = ", ";
  }
  for (int n = 0; n < list.count; ++n) {
    if (i.to_lds && list.slot[n].letter == 'x') continue;
    write_operand(out.text(comma), i, list, n);
    comma = ", ";
  }
  // The number of s_endpgm is left out where it is zero.
  if (i.format == Format::sopp && list.count == 0 && i.immediate != 0)
    out.text(comma).decimal(i.immediate);
}

}  // namespace formatting

// Writes at most `capacity` characters, the zero at the end included.
inline void format_instruction(const Instruction& i, char* out, int capacity) {
  TextWriter writer(out, capacity);
  if (i.opcode == nullptr) {
    writer.text("unknown instruction ").hexadecimal(i.literal);
    return;
  }
  const OperandList list = operand_list(*i.opcode);
  formatting::write_mnemonic(writer, i);
  formatting::write_operands(writer, i, list);
  formatting::write_modifiers(writer, i, list);
}

}  // namespace aiter_moe::emulator
