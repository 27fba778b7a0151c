// SPDX-License-Identifier: MIT
// Index mode: between s_set_gpr_idx_on and s_set_gpr_idx_off the registers of vector instructions
// are counted from M0, which is how compilers index arrays in registers. The opening instruction
// runs all up to the closing one, so that no other instruction need know of the mode. Compilers
// put moves there; anything else is refused.
#pragma once

#include "emulator/code_object.h"
#include "emulator/exec/scalar_flow.h"
#include "emulator/workgroup.h"

namespace aiter_moe::emulator::scalar {

// M0: the index, and which operands it is added to.
constexpr u32 index_bits = 0xff, index_mode_shift = 12, index_mode_bits = 0xf;
constexpr u32 index_source = 1, index_destination = 8;

inline void set_index(Wave& w, const Instruction& i, u32 bits, u32 value) {
  const u32 old = w.scalar[operand::m0];
  w.write_scalar(i, operand::m0, (old & ~bits) | (value & bits));
}
inline void index_index(Wave& w, const Instruction& i) {
  set_index(w, i, index_bits, w.read_scalar(i, i.src[0]));
}
inline void index_mode(Wave& w, const Instruction& i) {
  set_index(w, i, index_mode_bits << index_mode_shift,
            static_cast<u32>(i.immediate) << index_mode_shift);
}
inline void index_off(Wave&, const Instruction&) {}

// Adds the index to a register's code; false where there is no such register.
inline bool add_index(Wave& w, u16& code) {
  if (!is_vector(code)) return true;
  code = static_cast<u16>(code + (w.scalar[operand::m0] & index_bits));
  return code < operand::a0;
}

inline void indexed_move(Wave& w, const Instruction& i) {
  Instruction moved = i;
  const u32 mode = w.scalar[operand::m0] >> index_mode_shift;
  if ((mode & index_source && !add_index(w, moved.src[0])) ||
      (mode & index_destination && !add_index(w, moved.dst)))
    return w.fault(FaultKind::bad_instruction, i, 0, 0, "M0 points past the vector registers");
  i.run(w, moved);
}

constexpr bool is_move(const Instruction& i) {
  return i.opcode != nullptr && __builtin_strcmp(i.opcode->name, "v_mov_b32") == 0;
}
constexpr bool keeps_index_mode(const Instruction& i) {
  return i.run == index_index || i.run == index_mode || i.run == timing_only;
}

inline void index_on(Wave& w, const Instruction& i) {
  index_index(w, i);
  index_mode(w, i);
  const Program& program = *w.group->launch->program;
  while (w.state == State::running && w.pc < program.count) {
    const Instruction& next = program.code[w.pc];
    if (next.run == index_off) return;
    if (!is_move(next) && !keeps_index_mode(next))
      return w.fault(FaultKind::bad_instruction, next, 0, 0, "not emulated in index mode");
    ++w.group->hits[w.pc++];
    ++w.counters.instructions;
    if (is_move(next))
      indexed_move(w, next);
    else
      next.run(w, next);
  }
}

}  // namespace aiter_moe::emulator::scalar
