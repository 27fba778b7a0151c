// SPDX-License-Identifier: MIT
// Decoders of the vector encodings: VOP1, VOP2 and VOPC with their SDWA and DPP forms, VOP3,
// VOP3P and the matrix instructions.
#pragma once

#include "emulator/isa/encoding.h"

namespace aiter_moe::emulator::decoding {

constexpr u32 sdwa_code = 249, dpp_code = 250;
constexpr char source_letters[] = "abc";

// Fills in what VOP1, VOP2 and VOPC leave unsaid: VCC and tied destinations.
inline void imply_operands(Encoding& e) {
  const OperandList& list = e.operands;
  for (int n = 0; n < list.count; ++n) {
    if (list.slot[n].letter != 'V') continue;
    // Behind the sources VCC is read, before them it is written.
    if (n > 1 && list.slot[n - 1].letter == 'b')
      e.i.src[2] = operand::vcc;
    else
      e.i.second_dst = operand::vcc;
  }
  if (e.i.format == Format::vopc) e.i.dst = e.i.second_dst;
  if (e.takes(trait::tied)) e.i.src[2] = e.i.dst;
}

inline bool vector_destination(Encoding& e, u32 number) {
  if (e.width('s') != 0) {
    e.i.dst = static_cast<u16>(number);
    return is_scalar_register(number, e.width('s'));
  }
  if (e.width('E') != 0) {
    e.i.dst = vector_register(number, true);
    return true;
  }
  if (e.width('d') == 0) return number == 0;
  e.i.dst = vector_register(number, false);
  return is_vector_number(number, e.width('d'));
}

// Source n of VOP1, VOP2, VOPC or VOP3 without literal.
inline bool vector_source(Encoding& e, int n, u32 code) {
  if (n == 0 && e.width('A') != 0) {
    e.i.src[0] = static_cast<u16>(code - operand::v0 + operand::a0);
    return code >= operand::v0;
  }
  const u8 width = e.width(source_letters[n]);
  if (width == 0) return code == 0;
  e.i.src[n] = static_cast<u16>(code);
  return is_source(code, width);
}

// Source 0 of a form without SDWA or DPP; a literal may follow.
inline bool first_source(Encoding& e, u32 code) {
  if (code != operand::literal || e.width('a') == 0) return vector_source(e, 0, code);
  e.i.src[0] = operand::literal;
  return e.i.bytes == 8 || take_literal(e);
}

// Operands of 64 bits can be broadcast along a row only.
inline bool is_dpp_control(u32 control, bool wide) {
  if (wide) return control >= 0x150 && control < 0x160;
  if (control < 0x100) return true;
  const u32 group = control & 0x1f0, amount = control & 15;
  if (group == 0x100 || group == 0x110 || group == 0x120) return amount != 0;
  if (group == 0x130) return amount % 4 == 0;
  return group == 0x150 || (group == 0x140 && amount < 4);
}

// Negation and absolute value of the first two sources, as far as the opcode has them.
inline bool short_modifiers(Encoding& e, u32 negate, u32 absolute) {
  e.i.negate = static_cast<u8>(negate);
  e.i.absolute = static_cast<u8>(absolute);
  return ((negate | absolute << 3) & ~e.i.opcode->traits) == 0;
}

inline bool dpp(Encoding& e) {
  if (!e.takes(trait::dpp) || !take_literal(e)) return false;
  const u32 word = e.i.literal;
  e.i.literal = 0;
  e.i.variant = Variant::dpp;
  e.i.dpp = {static_cast<u16>(bits(word, 16, 8)), static_cast<u8>(bits(word, 31, 28)),
             static_cast<u8>(bits(word, 27, 24)), flag(word, 19)};
  const bool wide = e.width('d') == 2 || e.width('a') == 2;
  return bits(word, 18, 17) == 0 && is_dpp_control(e.i.dpp.control, wide) &&
         short_modifiers(e, bits(word, 20, 20) | bits(word, 22, 22) << 1,
                         bits(word, 21, 21) | bits(word, 23, 23) << 1) &&
         vector_source(e, 0, bits(word, 7, 0) + operand::v0);
}

// One source of SDWA: its code, and the eight bits of the second word that belong to it.
inline bool sdwa_source(Encoding& e, int n, u32 number, u32 control) {
  if (e.width(source_letters[n]) == 0) return number == 0 && control == 0;
  e.i.sdwa.sel[n] = static_cast<u8>(bits(control, 2, 0));
  e.i.sdwa.sign_extend[n] = static_cast<u8>(flag(control, 3));
  return e.i.sdwa.sel[n] < 7 && !flag(control, 6) &&
         vector_source(e, n, flag(control, 7) ? number : number + operand::v0);
}

inline bool sdwa_destination(Encoding& e, u32 word) {
  if (e.i.format == Format::vopc) {
    if (flag(word, 15)) e.i.dst = e.i.second_dst = static_cast<u16>(bits(word, 14, 8));
    return flag(word, 15) ? is_scalar_register(e.i.dst, 2) : bits(word, 14, 8) == 0;
  }
  e.i.sdwa.dst_sel = static_cast<u8>(bits(word, 10, 8));
  e.i.sdwa.dst_unused = static_cast<u8>(bits(word, 12, 11));
  e.i.clamp = flag(word, 13);
  e.i.omod = static_cast<u8>(bits(word, 15, 14));
  return e.i.sdwa.dst_sel < 7 && e.i.sdwa.dst_unused < 3 && (!e.i.clamp || e.takes(trait::clamp)) &&
         (e.i.omod == 0 || e.takes(trait::omod));
}

// `second` is the register number of source 1.
inline bool sdwa(Encoding& e, u32 second) {
  if (!e.takes(trait::sdwa) || !take_literal(e)) return false;
  const u32 word = e.i.literal;
  e.i.literal = 0;
  e.i.variant = Variant::sdwa;
  const u32 negate = bits(word, 20, 20) | bits(word, 28, 28) << 1;
  const u32 absolute = bits(word, 21, 21) | bits(word, 29, 29) << 1;
  const u32 extended = bits(word, 19, 19) | bits(word, 27, 27) << 1;
  return (extended & e.i.opcode->traits) == 0 && sdwa_destination(e, word) &&
         short_modifiers(e, negate, absolute) &&
         sdwa_source(e, 0, bits(word, 7, 0), bits(word, 23, 16)) &&
         sdwa_source(e, 1, second, bits(word, 31, 24));
}

// Sources of VOP1 (second: zero), VOP2 and VOPC. The constant of v_madmk stands between.
inline bool short_sources(Encoding& e, u32 first, u32 second) {
  imply_operands(e);
  if (first == sdwa_code) return sdwa(e, second);
  const bool has_second = e.width('b') != 0;
  if (has_second ? !vector_source(e, 1, second + operand::v0) : second != 0) return false;
  if (first == dpp_code) return dpp(e);
  if (!e.has('k')) return first_source(e, first);
  if (!take_literal(e)) return false;
  const bool before = e.operands.slot[2].letter == 'k';
  e.i.src[2] = before ? e.i.src[1] : u16{operand::literal};
  if (before) e.i.src[1] = operand::literal;
  return first_source(e, first);
}

inline bool vop1(Encoding& e) {
  const u32 word = e.word[0];
  return e.found(Format::vop1, bits(word, 16, 9)) && vector_destination(e, bits(word, 24, 17)) &&
         short_sources(e, bits(word, 8, 0), 0);
}

inline bool vop2(Encoding& e) {
  const u32 word = e.word[0];
  return e.found(Format::vop2, bits(word, 30, 25)) && vector_destination(e, bits(word, 24, 17)) &&
         short_sources(e, bits(word, 8, 0), bits(word, 16, 9));
}

inline bool vopc(Encoding& e) {
  const u32 word = e.word[0];
  return e.found(Format::vopc, bits(word, 24, 17)) &&
         short_sources(e, bits(word, 8, 0), bits(word, 16, 9));
}

inline bool long_sources(Encoding& e) {
  const u32 high = e.word[1];
  return vector_source(e, 0, bits(high, 8, 0)) && vector_source(e, 1, bits(high, 17, 9)) &&
         vector_source(e, 2, bits(high, 26, 18));
}

// bitop3's truth table has its low bits in NEG, the middle ones in ABS, the high ones in OMOD.
inline void bitop3_table(Encoding& e) {
  e.i.immediate = e.i.negate | e.i.absolute << 3 | e.i.omod << 6;
  e.i.absolute = e.i.negate = e.i.omod = 0;
}

// A bit for every source.
inline u32 source_bits(const OperandList& list) { return (1u << source_count(list)) - 1; }

inline bool has_op_sel(const Encoding& e, u32 allowed) {
  return e.i.op_sel == 0 || (e.takes(trait::op_sel) && (e.i.op_sel & ~allowed) == 0);
}

// The modifiers of VOP3 that its opcode takes; others must be zero.
inline bool long_modifiers(Encoding& e) {
  const u32 low = e.word[0], high = e.word[1];
  e.i.negate = static_cast<u8>(bits(high, 31, 29));
  e.i.omod = static_cast<u8>(bits(high, 28, 27));
  e.i.clamp = flag(low, 15);
  if (e.i.clamp && !e.takes(trait::clamp)) return false;
  const bool carries = e.width('S') != 0;
  if (!carries) {
    e.i.absolute = static_cast<u8>(bits(low, 10, 8));
    e.i.op_sel = static_cast<u8>(bits(low, 14, 11));
  }
  if (e.takes(trait::bitop3)) {
    bitop3_table(e);
  } else {
    const u32 signs = e.i.negate | e.i.absolute << 3;
    if ((signs & ~e.i.opcode->traits) != 0 || (e.i.omod != 0 && !e.takes(trait::omod)))
      return false;
  }
  if (e.takes(trait::bound)) {
    e.i.dpp.bound_control = flag(low, 12);
    return (e.i.op_sel & ~3u) == 0;
  }
  return has_op_sel(e, e.takes(trait::long_op_sel) ? 15 : 8 | source_bits(e.operands));
}

inline bool vop3(Encoding& e) {
  const u32 low = e.word[0];
  e.i.bytes = 8;
  if (!e.found(Format::vop3, bits(low, 25, 16)) || !vector_destination(e, bits(low, 7, 0)) ||
      !long_sources(e) || !long_modifiers(e))
    return false;
  if (e.width('S') != 0) {
    e.i.second_dst = static_cast<u16>(bits(low, 14, 8));
    if (!is_scalar_register(e.i.second_dst, e.width('S'))) return false;
  }
  if (e.i.opcode->code < 0x100) e.i.second_dst = e.i.dst;  // comparisons: the mask, as in VOPC
  if (e.takes(trait::tied)) e.i.src[2] = e.i.dst;
  return true;
}

// A or B of a matrix instruction: a vector or accumulation register.
inline bool matrix_source(Encoding& e, int n, u32 code, bool accumulation) {
  if (code < operand::v0) return false;
  e.i.src[n] = vector_register(code - operand::v0, accumulation);
  return is_vector_number(code - operand::v0, e.width(source_letters[n]));
}

// C, or the indices of a sparse instruction, which are never accumulation registers.
inline bool matrix_addend(Encoding& e, u32 code, bool accumulation) {
  const u8 width = e.width('c');
  e.i.src[2] = static_cast<u16>(code);
  if (code < operand::v0) return width > 1 && is_scalar_constant(code);
  e.i.src[2] = vector_register(code - operand::v0, accumulation && width > 1);
  return is_vector_number(code - operand::v0, width);
}

inline bool matrix(Encoding& e, u32 low, u32 high) {
  const bool accumulation = flag(low, 15);
  e.i.cbsz = static_cast<u8>(bits(low, 10, 8));
  e.i.abid = static_cast<u8>(bits(low, 14, 11));
  e.i.blgp = static_cast<u8>(bits(high, 31, 29));
  e.i.dst = vector_register(bits(low, 7, 0), accumulation);
  return is_vector_number(bits(low, 7, 0), e.width('d')) &&
         matrix_source(e, 0, bits(high, 8, 0), flag(high, 27)) &&
         matrix_source(e, 1, bits(high, 17, 9), flag(high, 28)) &&
         matrix_addend(e, bits(high, 26, 18), accumulation);
}

// Sixteen bytes: the scales of A and B, then the matrix instruction they belong to.
inline bool scaled_matrix(Encoding& e) {
  const u32 low = e.word[0], high = e.word[1];
  e.i.bytes = 16;
  if (e.available < 16 || e.word[2] >> 23 != low >> 23 ||
      !e.found(Format::vop3p, bits(e.word[2], 22, 16) + scaled_code))
    return false;
  e.i.scaled = true;
  e.i.scale_src[0] = static_cast<u16>(bits(high, 8, 0));
  e.i.scale_src[1] = static_cast<u16>(bits(high, 17, 9));
  e.i.scale_op_sel = static_cast<u8>(bits(low, 12, 11));
  e.i.scale_op_sel_hi = static_cast<u8>(bits(high, 28, 27));
  const bool unused = bits(low, 10, 0) == 0 && bits(low, 15, 13) == 0 &&
                      bits(high, 26, 18) == 0 && bits(high, 31, 29) == 0;
  if (!unused || !is_source(e.i.scale_src[0], 1) || !is_source(e.i.scale_src[1], 1) ||
      !matrix(e, e.word[2], e.word[3]))
    return false;
  const bool marked = e.i.abid == 1;  // what an instruction with scales has there
  e.i.abid = 0;
  return marked;
}

inline bool packed_modifiers(Encoding& e) {
  const u32 low = e.word[0], high = e.word[1];
  const u32 negate_high = bits(low, 10, 8);
  e.i.negate = static_cast<u8>(bits(high, 31, 29));
  e.i.op_sel = static_cast<u8>(bits(low, 13, 11));
  e.i.op_sel_hi = static_cast<u8>(bits(high, 28, 27) | bits(low, 14, 14) << 2);
  e.i.clamp = flag(low, 15);
  // The mixed precision instructions have absolute values where others negate the high halves.
  (e.takes(trait::packed) ? e.i.negate_hi : e.i.absolute) = static_cast<u8>(negate_high);
  const u32 signs = e.i.negate | negate_high << 3;
  const u8 fixed = e.takes(trait::packed) ? 7 : 0;
  return (signs & ~e.i.opcode->traits) == 0 && (!e.i.clamp || e.takes(trait::clamp)) &&
         has_op_sel(e, source_bits(e.operands)) &&
         (e.i.op_sel_hi == fixed || e.takes(trait::op_sel_hi));
}

inline bool vop3p(Encoding& e) {
  const u32 low = e.word[0], code = bits(low, 22, 16);
  if (code == load_scale_code) return scaled_matrix(e);
  e.i.bytes = 8;
  if (!e.found(Format::vop3p, code)) return false;
  if (e.i.opcode->kind == Class::mfma) {
    if (!matrix(e, low, e.word[1])) return false;
    return e.i.abid == 0 || !contains(e.i.opcode->name, "f8f6f4");
  }
  return vector_destination(e, bits(low, 7, 0)) && long_sources(e) && packed_modifiers(e);
}

}  // namespace aiter_moe::emulator::decoding
