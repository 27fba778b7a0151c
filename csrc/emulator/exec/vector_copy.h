// SPDX-License-Identifier: MIT
// Copies of registers: moves, accumulation registers, and lanes to and from scalars. What was never
// written is copied as such, and reported where it is used: compilers save registers of a caller
// that holds nothing in them, and move values they know to be undefined. A load still in flight is
// a fault here too.
#pragma once

#include "emulator/exec/vector_integer.h"
#include "emulator/exec/vector_operands.h"
#include "emulator/memory/waits.h"

namespace aiter_moe::emulator::vector {

// The lanes of `which` that cannot be read; for a scalar register all or none.
inline u64 unreadable_lanes(const Wave& w, u16 code, u64 which) {
  if (is_vector(code)) return which & ~w.vector_ready[code - operand::v0];
  if (code >= operand::scalars) return 0;
  return w.scalar_ready[code >> 6] >> (code & 63) & 1 ? 0 : which;
}

// Reports those of `missing` that a load is still to write.
inline void report_in_flight(Wave& w, const Instruction& i, u16 code, u64 missing) {
  const u64 late = lanes_in_flight(w.requests, code);
  if (is_vector(code) ? late & missing : late) w.register_fault(i, code, late & missing);
}

// What is in a register, whether written or not.
inline u32 raw_scalar(Wave& w, const Instruction& i, u16 code) {
  return code < operand::scalars ? w.scalar[code] : w.read_scalar(i, code);
}
inline void raw_row(Wave& w, const Instruction& i, u16 code, Lanes& out) {
  if (is_vector(code))
    out = w.vector[code - operand::v0];
  else
    fill(out, raw_scalar(w, i, code));
}

template <int rows>
[[gnu::noinline]] void copy_undefined(Wave& w, const Instruction& i, const u64* missing) {
  const u64 exec = w.exec();
  Lanes row[rows];
  for (int n = 0; n < rows; ++n) {
    const u16 code = static_cast<u16>(i.src[0] + n);
    if (missing[n]) report_in_flight(w, i, code, missing[n]);
    raw_row(w, i, code, row[n]);
  }
  for (int n = 0; n < rows; ++n) {
    const u16 code = static_cast<u16>(i.dst + n);
    w.write(i, code, row[n], exec);
    w.vector_ready[code - operand::v0] &= ~missing[n];
  }
}

// Moves of one register or two.
template <class T>
void copy_registers(Wave& w, const Instruction& i) {
  constexpr int rows = sizeof(T) / 4;
  u64 missing[rows] = {}, any = 0;
  if (i.variant == Variant::plain && i.src[0] + rows <= operand::end)
    for (int n = 0; n < rows; ++n) {
      const bool is_pair = i.src[0] < operand::scalars || is_vector(i.src[0]);
      if (n > 0 && !is_pair) break;
      missing[n] = unreadable_lanes(w, static_cast<u16>(i.src[0] + n), w.exec());
      any |= missing[n];
    }
  if (__builtin_expect(any == 0, 1))
    run<same<T>>(w, i);
  else
    copy_undefined<rows>(w, i, missing);
}

inline void read_one_lane(Wave& w, const Instruction& i, u32 lane) {
  const u16 code = i.src[0];
  if (!is_vector(code)) return w.write_scalar(i, i.dst, w.read_scalar(i, code));
  const u64 missing = unreadable_lanes(w, code, 1ull << lane);
  if (missing) report_in_flight(w, i, code, missing);
  w.write_scalar(i, i.dst, w.vector[code - operand::v0].lane[lane]);
  if (missing && i.dst < operand::scalars)
    w.scalar_ready[i.dst >> 6] &= ~(1ull << (i.dst & 63));
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
  const u64 lane = w.read_scalar(i, i.src[1]) & 63, which = 1ull << lane;
  const u64 missing = unreadable_lanes(w, i.src[0], which);
  if (missing) report_in_flight(w, i, i.src[0], missing);
  const u32 value = raw_scalar(w, i, i.src[0]);
  Lanes* out = destination(w, i, i.dst, 1, which);
  if (!out) return;
  out->lane[lane] = value;
  w.vector_ready[i.dst - operand::v0] &= ~missing;
}

}  // namespace aiter_moe::emulator::vector
