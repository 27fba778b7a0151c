// SPDX-License-Identifier: MIT
// Scalar instructions that update EXEC: the saveexec family returns the old mask, wrexec the new.
#pragma once

#include "emulator/exec/scalar_alu.h"

namespace aiter_moe::emulator::scalar {

// ~a & b and ~a | b: the "n1" forms negate the source, the "n2" forms EXEC.
constexpr u64 not_and(u64 a, u64 b) { return ~a & b; }
constexpr u64 not_or(u64 a, u64 b) { return ~a | b; }

template <u64 (*f)(u64, u64)>
u64 update_exec(Wave& w, const Instruction& i) {
  const u64 mask = f(w.read_scalar64(i, i.src[0]), w.exec());
  w.scc = mask != 0;
  return mask;
}

template <u64 (*f)(u64, u64)>
void save_exec(Wave& w, const Instruction& i) {
  const u64 old = w.exec();
  const u64 mask = update_exec<f>(w, i);
  w.write_scalar64(i, i.dst, old);
  w.set_pair(operand::exec, mask);
}

template <u64 (*f)(u64, u64)>
void write_exec(Wave& w, const Instruction& i) {
  const u64 mask = update_exec<f>(w, i);
  w.write_scalar64(i, i.dst, mask);
  w.set_pair(operand::exec, mask);
}

}  // namespace aiter_moe::emulator::scalar
