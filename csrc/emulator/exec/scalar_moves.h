// SPDX-License-Identifier: MIT
// Scalar instructions that look at more than their operands: SCC as an input, the old value of the
// destination, registers addressed by M0.
#pragma once

#include "emulator/exec/scalar_alu.h"

namespace aiter_moe::emulator::scalar {

inline void add_with_carry(Wave& w, const Instruction& i) {
  const u64 sum = u64{w.read_scalar(i, i.src[0])} + w.read_scalar(i, i.src[1]) + w.scc;
  w.scc = sum >> 32 != 0;
  w.write_scalar(i, i.dst, static_cast<u32>(sum));
}

inline void subtract_with_borrow(Wave& w, const Instruction& i) {
  const u64 a = w.read_scalar(i, i.src[0]);
  const u64 b = u64{w.read_scalar(i, i.src[1])} + w.scc;
  w.scc = b > a;
  w.write_scalar(i, i.dst, static_cast<u32>(a - b));
}

template <class T>
constexpr T same(T a) {
  return a;
}

// Whether a register was never written; one that a load is still to write does not count.
inline bool never_written(const Wave& w, u16 code) {
  if (code >= operand::scalars) return false;
  const u64 known = w.scalar_ready[code >> 6] | w.requests.scalar_in_flight[code >> 6];
  return (known >> (code & 63) & 1) == 0;
}

// A copy is no use of a value: it passes on that nothing was written, as functions do that save
// registers for their callers.
template <class T>
void copy(Wave& w, const Instruction& i) {
  bool unknown[sizeof(T) / 4];
  for (u16 row = 0; row < sizeof(T) / 4; ++row) {
    const u16 from = i.src[0] + row;
    unknown[row] = never_written(w, from);
    if (unknown[row]) w.scalar_ready[from >> 6] |= 1ull << (from & 63);
  }
  value<same<T>>(w, i);
  for (u16 row = 0; row < sizeof(T) / 4; ++row) {
    if (!unknown[row]) continue;
    const u16 from = i.src[0] + row, to = i.dst + row;
    w.scalar_ready[from >> 6] &= ~(1ull << (from & 63));
    if (to < operand::scalars) w.scalar_ready[to >> 6] &= ~(1ull << (to & 63));
  }
}

// Only the operand that is selected must be defined.
template <class T>
void select(Wave& w, const Instruction& i) {
  scalar_result(w, i, scalar_operand<T>(w, i, i.src[w.scc ? 0 : 1]));
}

template <class T>
void move_if(Wave& w, const Instruction& i) {
  if (w.scc) value<same<T>>(w, i);
}

inline u32 immediate_value(const Instruction& i) {
  return static_cast<u32>(i32{static_cast<i16>(i.immediate)});
}
inline void move_immediate(Wave& w, const Instruction& i) {
  w.write_scalar(i, i.dst, immediate_value(i));
}
inline void move_immediate_if(Wave& w, const Instruction& i) {
  if (w.scc) move_immediate(w, i);
}

template <class T, bool set>
void write_bit(Wave& w, const Instruction& i) {
  const T bit = shift_left(T{1}, w.read_scalar(i, i.src[0]));
  const T old = scalar_operand<T>(w, i, i.dst);
  scalar_result(w, i, set ? old | bit : old & ~bit);
}

// The register M0 places behind `code`.
inline u16 relative(Wave& w, const Instruction& i, u16 code) {
  const u32 row = code + w.read_scalar(i, operand::m0);
  if (code < operand::flat_scratch && row < operand::flat_scratch) return static_cast<u16>(row);
  w.fault(FaultKind::bad_instruction, i, 0, 0, "M0 points past the scalar registers");
  return code;
}

template <class T>
void move_relative_source(Wave& w, const Instruction& i) {
  scalar_result(w, i, scalar_operand<T>(w, i, relative(w, i, i.src[0])));
}

template <class T>
void move_relative_destination(Wave& w, const Instruction& i) {
  Instruction moved = i;
  moved.dst = relative(w, i, i.dst);
  value<same<T>>(w, moved);
}

}  // namespace aiter_moe::emulator::scalar
