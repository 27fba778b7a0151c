// SPDX-License-Identifier: MIT
// Decoders of the scalar encodings: SOP1, SOP2, SOPK, SOPC, SOPP and SMEM.
#pragma once

#include "emulator/isa/encoding.h"

namespace aiter_moe::emulator::decoding {

// A source of SOP1, SOP2, SOPC; one literal serves both.
inline bool scalar_source(Encoding& e, int n, u32 code) {
  const u8 width = e.width("ab"[n]);
  if (width == 0) return code == 0;
  e.i.src[n] = static_cast<u16>(code);
  if (code != operand::literal) return is_scalar_source(code, width);
  return e.i.bytes == 8 || take_literal(e);
}

inline bool scalar_destination(Encoding& e, u32 code) {
  const u8 width = e.width('s');
  if (width == 0) return code == 0;
  e.i.dst = static_cast<u16>(code);
  return is_scalar_register(code, width);
}

inline bool sop1(Encoding& e) {
  const u32 word = e.word[0];
  return e.found(Format::sop1, bits(word, 15, 8)) && scalar_destination(e, bits(word, 22, 16)) &&
         scalar_source(e, 0, bits(word, 7, 0));
}

inline bool sop2(Encoding& e) {
  const u32 word = e.word[0];
  return e.found(Format::sop2, bits(word, 29, 23)) && scalar_destination(e, bits(word, 22, 16)) &&
         scalar_source(e, 0, bits(word, 7, 0)) && scalar_source(e, 1, bits(word, 15, 8));
}

// Operands that s_set_gpr_idx_mode and s_set_gpr_idx_on index: four bits.
constexpr u32 index_modes = 16;

inline bool sopc(Encoding& e) {
  const u32 word = e.word[0];
  if (!e.found(Format::sopc, bits(word, 22, 16)) || !scalar_source(e, 0, bits(word, 7, 0)))
    return false;
  if (!e.has('i')) return scalar_source(e, 1, bits(word, 15, 8));
  e.i.immediate = static_cast<i32>(bits(word, 15, 8));
  return bits(word, 15, 8) < index_modes;
}

// The register is source and destination of s_addk_i32 and the like.
inline bool sopk(Encoding& e) {
  const u32 word = e.word[0];
  if (!e.found(Format::sopk, bits(word, 27, 23)) || !scalar_destination(e, bits(word, 22, 16)))
    return false;
  e.i.src[0] = e.i.dst;
  const bool is_unsigned = e.has('h') || ends_with(e.i.opcode->name, "_u32");
  const u32 value = bits(word, 15, 0);
  e.i.immediate = is_unsigned ? static_cast<i32>(value) : sign_extended(value, 16);
  return !e.has('k') || take_literal(e);
}

constexpr u16 end_of_program_code = 1;  // s_endpgm, whose number may be left out

inline bool sopp(Encoding& e) {
  if (!e.found(Format::sopp, bits(e.word[0], 22, 16))) return false;
  const u32 value = bits(e.word[0], 15, 0);
  if (!e.has('i') && value != 0 && e.i.opcode->code != end_of_program_code) return false;
  if (contains(e.i.opcode->name, "gpr_idx") && value >= index_modes) return false;
  e.i.immediate =
      e.i.opcode->kind == Class::branch ? sign_extended(value, 16) : static_cast<i32>(value);
  return true;
}

// The offset is a constant, a register, or the sum of both.
inline bool scalar_offset(Encoding& e) {
  const bool constant = flag(e.word[0], 17), both = flag(e.word[0], 14);
  if (constant) e.i.offset = sign_extended(bits(e.word[1], 20, 0), 21);
  if (!constant && !both) {
    e.i.scalar_offset = static_cast<u16>(bits(e.word[1], 7, 0));
    return bits(e.word[1], 31, 8) == 0 && is_scalar_register(e.i.scalar_offset, 1);
  }
  e.i.offset_enabled = constant;
  if (both) e.i.scalar_offset = static_cast<u16>(bits(e.word[1], 31, 25));
  return both ? constant && bits(e.word[1], 24, 21) == 0 && is_scalar_register(e.i.scalar_offset, 1)
              : bits(e.word[1], 31, 21) == 0;
}

inline bool smem_data(Encoding& e, u32 code) {
  if (e.has('i')) {
    e.i.immediate = static_cast<i32>(code);
    return true;
  }
  if (!e.has('s')) return code == 0;
  const char* const name = e.i.opcode->name;
  const bool atomic = contains(name, "atomic");
  const bool store = contains(name, "store");
  if (atomic || store) e.i.data[0] = static_cast<u16>(code);
  if (!store && (!atomic || e.i.returns)) e.i.dst = static_cast<u16>(code);
  return is_scalar_register(code, e.width('s'));
}

inline bool smem(Encoding& e) {
  const u32 word = e.word[0];
  e.i.bytes = 8;
  if (!e.found(Format::smem, bits(word, 25, 18)) || flag(word, 15)) return false;
  e.i.returns = flag(word, 16);
  if (!smem_data(e, bits(word, 12, 6))) return false;
  const u8 base_width = e.width('r');
  if (base_width == 0) return (word & 0x3e03f) == 0 && e.word[1] == 0;
  e.i.base = static_cast<u16>(bits(word, 5, 0) * 2);
  return !flag(word, 13) && is_scalar_register(e.i.base, base_width) && scalar_offset(e);
}

}  // namespace aiter_moe::emulator::decoding
