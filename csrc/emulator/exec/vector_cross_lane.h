// SPDX-License-Identifier: MIT
// Instructions that exchange registers, or halves of them between lanes.
#pragma once

#include "emulator/exec/vector_operands.h"

namespace aiter_moe::emulator::vector {

// Exchanges two registers in the active lanes.
inline void swap_registers(Wave& w, const Instruction& i) {
  const u64 exec = w.exec();
  const u16 other = i.src[0];
  if (!is_vector(other)) return w.fault(FaultKind::bad_instruction, i);
  const Lanes a = *register_rows(w, i, i.dst, 1, exec), b = *register_rows(w, i, other, 1, exec);
  w.write(i, i.dst, b, exec);
  w.write(i, other, a, exec);
}

// Exchanges the upper half of each group of 2 * size lanes of the destination with the lower half
// of the source's.
template <int size>
void swap_halves(Wave& w, const Instruction& i) {
  const u16 other = i.src[0];
  if (!is_vector(other)) return w.fault(FaultKind::bad_instruction, i);
  Lanes a = *register_rows(w, i, i.dst, 1, all_lanes);
  Lanes b = *register_rows(w, i, other, 1, all_lanes);
  for (int lane = 0; lane < lanes; ++lane) {
    if (lane & size) continue;
    const u32 value = b.lane[lane];
    b.lane[lane] = a.lane[lane + size];
    a.lane[lane + size] = value;
  }
  w.write(i, i.dst, a, all_lanes);
  w.write(i, other, b, all_lanes);
}

inline void do_nothing(Wave&, const Instruction&) {}

}  // namespace aiter_moe::emulator::vector
