// SPDX-License-Identifier: MIT
// Decoders of the memory encodings of the vector unit: DS, MUBUF, MTBUF, FLAT, GLOBAL, SCRATCH.
#pragma once

#include "emulator/isa/encoding.h"

namespace aiter_moe::emulator::decoding {

// A vector register field that belongs to operand `letter`; zero where there is none.
inline bool memory_register(Encoding& e, char letter, u32 number, bool accumulation, u16& out) {
  const u8 width = e.width(letter);
  if (width == 0) return number == 0;
  out = vector_register(number, accumulation);
  return is_vector_number(number, width);
}

inline bool ds(Encoding& e) {
  const u32 low = e.word[0], high = e.word[1];
  e.i.bytes = 8;
  if (!e.found(Format::ds, bits(low, 24, 17)) || flag(low, 16)) return false;
  const bool accumulation = flag(low, 25);
  e.i.offset = static_cast<i32>(bits(low, 15, 0));
  e.i.offsets[0] = static_cast<u8>(bits(low, 7, 0));
  e.i.offsets[1] = static_cast<u8>(bits(low, 15, 8));
  return memory_register(e, 'p', bits(high, 7, 0), false, e.i.address) &&
         memory_register(e, 'x', bits(high, 15, 8), accumulation, e.i.data[0]) &&
         memory_register(e, 'y', bits(high, 23, 16), accumulation, e.i.data[1]) &&
         memory_register(e, 'd', bits(high, 31, 24), accumulation, e.i.dst);
}

// The one data register of a buffer instruction is what it loads to, stores or both.
inline bool buffer_data(Encoding& e, u32 number, bool accumulation) {
  if (e.i.to_lds) return number == 0 && !accumulation && e.takes(trait::lds);
  u16 data = operand::none;
  if (!memory_register(e, 'x', number, accumulation, data)) return false;
  const bool load = contains(e.i.opcode->name, "_load_");
  const bool atomic = e.i.opcode->kind == Class::vmem_atomic;
  if (!load) e.i.data[0] = data;
  if (load || (atomic && e.i.returns)) e.i.dst = data;
  return true;
}

// Address, resource and offset, which MUBUF and MTBUF have at the same places.
inline bool buffer_operands(Encoding& e) {
  const u32 low = e.word[0], high = e.word[1];
  e.i.offset = static_cast<i32>(bits(low, 11, 0));
  e.i.offset_enabled = flag(low, 12);
  e.i.index_enabled = flag(low, 13);
  e.i.returns = flag(low, 14);
  const u32 registers = e.i.offset_enabled + e.i.index_enabled;
  if (registers != 0) e.i.address = vector_register(bits(high, 7, 0), false);
  e.i.base = static_cast<u16>(bits(high, 20, 16) * 4);
  e.i.scalar_offset = static_cast<u16>(bits(high, 31, 24));
  return bits(high, 22, 21) == 0 && is_scalar_register(e.i.base, 4) &&
         is_scalar_source(e.i.scalar_offset, 1) &&
         (registers == 0 ? bits(high, 7, 0) == 0 : is_vector_number(bits(high, 7, 0), registers));
}

inline bool mubuf(Encoding& e) {
  const u32 low = e.word[0], high = e.word[1];
  e.i.bytes = 8;
  if (!e.found(Format::mubuf, bits(low, 24, 18)) || flag(low, 25)) return false;
  e.i.system_scope = flag(low, 15);
  e.i.to_lds = flag(low, 16);
  e.i.non_temporal = flag(low, 17);
  if (e.operands.count == 0) {  // cache control: no operands, only its scope
    e.i.returns = flag(low, 14);
    return bits(low, 13, 0) == 0 && !e.i.to_lds && high == 0;
  }
  return buffer_operands(e) && buffer_data(e, bits(high, 15, 8), flag(high, 23));
}

inline bool mtbuf(Encoding& e) {
  const u32 low = e.word[0], high = e.word[1];
  e.i.bytes = 8;
  if (!e.found(Format::mtbuf, bits(low, 18, 15))) return false;
  e.i.immediate = static_cast<i32>(bits(low, 25, 19));
  e.i.system_scope = flag(high, 21);
  e.i.non_temporal = flag(high, 22);
  e.word[1] &= ~(3u << 21);
  return buffer_operands(e) && buffer_data(e, bits(high, 15, 8), flag(high, 23));
}

constexpr u32 no_base = 0x7f;

// Address registers of FLAT, GLOBAL and SCRATCH: with a scalar base one offset, else a pair.
inline bool flat_address(Encoding& e) {
  const u32 number = bits(e.word[1], 7, 0), base = bits(e.word[1], 22, 16);
  const bool has_base = base != no_base;
  if (e.i.format == Format::flat) {
    e.i.address = vector_register(number, false);
    return base == 0 && is_vector_number(number, 2);
  }
  const bool scratch = e.i.format == Format::scratch;
  if (has_base) e.i.base = static_cast<u16>(base);
  if (!scratch || flag(e.word[0], 13)) e.i.address = vector_register(number, false);
  if (e.i.address == operand::none && number != 0) return false;
  return (!has_base || is_scalar_register(base, scratch ? 1 : 2)) &&
         is_vector_number(number, has_base || scratch ? 1 : 2);
}

inline bool flat_offset(Encoding& e) {
  const u32 word = e.word[0];
  if (e.i.format == Format::flat) {
    e.i.offset = static_cast<i32>(bits(word, 11, 0));
    return bits(word, 13, 12) == 0;
  }
  e.i.offset = sign_extended(bits(word, 12, 0), 13);
  return e.i.format == Format::scratch || !flag(word, 13);
}

inline bool flat(Encoding& e) {
  constexpr Format segments[] = {Format::flat, Format::scratch, Format::global, Format::unknown};
  const u32 low = e.word[0], high = e.word[1];
  e.i.bytes = 8;
  if (!e.found(segments[bits(low, 15, 14)], bits(low, 24, 18))) return false;
  const bool accumulation = flag(high, 23);
  if (accumulation && !e.has('d') && !e.has('x')) return false;
  e.i.returns = flag(low, 16);
  e.i.non_temporal = flag(low, 17);
  e.i.system_scope = flag(low, 25);
  if (!flat_offset(e) || !flat_address(e) ||
      !memory_register(e, 'x', bits(high, 15, 8), accumulation, e.i.data[0]))
    return false;
  const u32 number = bits(high, 31, 24);
  if (e.i.opcode->kind != Class::vmem_atomic)
    return memory_register(e, 'd', number, accumulation, e.i.dst);
  if (e.i.returns) e.i.dst = vector_register(number, accumulation);
  return e.i.returns || number == 0;
}

}  // namespace aiter_moe::emulator::decoding
