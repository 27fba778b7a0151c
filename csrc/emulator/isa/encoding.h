// SPDX-License-Identifier: MIT
// What the decoders of all encodings share: the words of an instruction, its opcode's row, and
// which operand codes may stand where. A decoder returns false for whatever it does not know.
#pragma once

#include "emulator/isa/opcode.h"

namespace aiter_moe::emulator {

// Bits `high` to `low` of a word.
constexpr u32 bits(u32 word, int high, int low) {
  return word >> low & ((1u << (high - low + 1)) - 1);
}

constexpr bool flag(u32 word, int at) { return word >> at & 1; }

constexpr i32 sign_extended(u32 value, int width) {
  return static_cast<i32>(value << (32 - width)) >> (32 - width);
}

// An instruction under way: its words, and the fields found so far.
struct Encoding {
  u32 word[4];    // zero behind the end of the text
  u32 available;  // bytes to the end of the text, or to the next function
  u8 arch_bit;
  Instruction& i;
  OperandList operands;

  // Finds the row of an opcode, and takes note of its operands.
  bool found(Format format, u32 code) {
    i.format = format;
    i.opcode = find_opcode(format, code, arch_bit);
    if (i.opcode == nullptr) return false;
    operands = operand_list(*i.opcode);
    return true;
  }
  bool takes(u32 traits) const { return (i.opcode->traits & traits) != 0; }
  u8 width(char letter) const { return operands.width(letter); }
  bool has(char letter) const { return operands.has(letter); }
};

// Registers of scalar operands: s0 to s101, FLAT_SCRATCH, XNACK_MASK, VCC, trap temporaries, M0
// and EXEC. Pairs begin at even numbers, wider ones at multiples of four.
constexpr bool is_scalar_register(u32 code, u32 width) {
  const u32 alignment = width == 1 ? 1 : width == 2 ? 2 : 4;
  if (code % alignment != 0) return false;
  const u32 last = code + width - 1;
  if (code < operand::flat_scratch) return last < operand::flat_scratch;
  if (code < operand::ttmp0) return width <= 2;
  if (code < operand::m0) return last < operand::m0;
  return width == 1 ? code == operand::m0 || (code >= operand::exec && code < operand::scalars)
                    : width == 2 && code == operand::exec;
}

// Constants and status bits among the eight-bit source codes.
constexpr bool is_scalar_constant(u32 code) {
  return (code >= operand::zero && code <= 208) ||
         (code >= operand::shared_base && code <= operand::private_limit) ||
         (code >= operand::half && code <= operand::inverse_two_pi) ||
         (code >= operand::vccz && code <= operand::scc);
}

constexpr bool is_scalar_source(u32 code, u32 width) {
  return is_scalar_register(code, width) || is_scalar_constant(code);
}

// A vector register number: tuples begin at even numbers and end in the file.
constexpr bool is_vector_number(u32 number, u32 width) {
  return number + width <= 256 && (width == 1 || number % 2 == 0);
}

// Whether a nine-bit source code is a vector register or a scalar source.
constexpr bool is_source(u32 code, u32 width) {
  return code >= operand::v0 ? is_vector_number(code - operand::v0, width)
                             : is_scalar_source(code, width);
}

// The vector register of a number, or the accumulation one.
constexpr u16 vector_register(u32 number, bool accumulation) {
  return static_cast<u16>(number + (accumulation ? operand::a0 : operand::v0));
}

constexpr bool ends_with(const char* text, const char* tail) {
  const unsigned long text_length = __builtin_strlen(text), length = __builtin_strlen(tail);
  return text_length >= length &&
         __builtin_memcmp(text + text_length - length, tail, length) == 0;
}

inline bool contains(const char* text, const char* part) {
  const unsigned long length = __builtin_strlen(part);
  for (; *text != 0; ++text)
    if (__builtin_strncmp(text, part, length) == 0) return true;
  return false;
}

// Takes the literal behind the instruction's own words.
inline bool take_literal(Encoding& e) {
  const u32 bytes = e.i.bytes + 4u;
  if (bytes > e.available) return false;
  e.i.literal = e.word[e.i.bytes / 4];
  e.i.bytes = static_cast<u8>(bytes);
  return true;
}

}  // namespace aiter_moe::emulator
