// SPDX-License-Identifier: MIT
// Instructions that move values between lanes, or between lanes and scalar registers. Those that
// name a lane ignore EXEC.
#pragma once

#include "emulator/exec/vector_operands.h"

namespace aiter_moe::emulator::vector {

inline void read_one_lane(Wave& w, const Instruction& i, u32 lane) {
  const u16 code = i.src[0];
  if (!is_vector(code)) return w.write_scalar(i, i.dst, w.read_scalar(i, code));
  w.need(i, code, 1ull << lane);
  w.write_scalar(i, i.dst, w.vector[code - operand::v0].lane[lane]);
}

// Lane 0 if none is active.
inline void read_first_lane(Wave& w, const Instruction& i) {
  const u64 exec = w.exec();
  read_one_lane(w, i, exec ? static_cast<u32>(__builtin_ctzll(exec)) : 0);
}

inline void read_lane(Wave& w, const Instruction& i) {
  read_one_lane(w, i, w.read_scalar(i, i.src[1]) & 63);
}

inline void write_lane(Wave& w, const Instruction& i) {
  const u32 value = w.read_scalar(i, i.src[0]), lane = w.read_scalar(i, i.src[1]) & 63;
  if (Lanes* out = destination(w, i, i.dst, 1, 1ull << lane)) out->lane[lane] = value;
}

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
