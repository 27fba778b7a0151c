// SPDX-License-Identifier: MIT
// The state of one wave of 64 lanes, and how handlers read and write registers.
//
// Every register knows whether it can be read: a vector register by one bit a lane, a scalar one
// by one bit. The bit is clear before the first write and while a load to the register is in
// flight. Loads write their registers when they are issued, but clear the bits until their wait
// (memory/requests.h): code that reads early is reported, whatever the value.
#pragma once

#include "emulator/counters.h"
#include "emulator/fault.h"
#include "emulator/isa/instruction.h"
#include "emulator/memory/requests.h"

namespace aiter_moe::emulator {

constexpr int lanes = 64;
constexpr u64 all_lanes = ~0ull;

// One 32-bit value a lane. Handlers loop over `lane` and are written to be vectorised.
struct alignas(64) Lanes {
  u32 lane[lanes];
};

enum class State : u8 { running, at_barrier, ended };

struct Workgroup;

struct Wave {
  static constexpr int vector_registers = operand::end - operand::v0;
  static constexpr int scalar_registers = operand::scalars;

  Lanes vector[vector_registers];         // 256 vector, then 256 accumulation registers
  u64 vector_ready[vector_registers];     // bit a lane
  alignas(8) u32 scalar[scalar_registers];  // rows are operand codes: VCC, M0 and EXEC lie inside
  u64 scalar_ready[2];                    // bit a row
  u32 pc;                                 // index of the next instruction
  bool scc;
  State state;
  u32 number;                             // in the workgroup
  u32 mode;                               // MODE register: rounding and denormals of the descriptor
  Workgroup* group;
  Requests requests;                      // what is in flight
  Counters counters;                      // of this wave; summed when it ends

  u64 pair(int row) const {
    u64 value;
    __builtin_memcpy(&value, &scalar[row], 8);
    return value;
  }
  void set_pair(int row, u64 value) { __builtin_memcpy(&scalar[row], &value, 8); }
  u64 exec() const { return pair(operand::exec); }
  u64 vcc() const { return pair(operand::vcc); }

  // Reports what `i` did wrong; see fault.h. `reg` is an operand code, for register faults.
  void fault(FaultKind kind, const Instruction& i, u64 address = 0, u64 bad_lanes = 0,
             const char* detail = nullptr);
  void register_fault(const Instruction& i, u16 code, u64 bad_lanes);

  // Checks that the lanes of `which` of a vector register can be read.
  void need(const Instruction& i, u16 code, u64 which) {
    const u64 missing = which & ~vector_ready[code - operand::v0];
    if (__builtin_expect(missing != 0, 0)) register_fault(i, code, missing);
  }
  [[gnu::always_inline]] void need_scalar(const Instruction& i, u16 code) {
    if (__builtin_expect(!(scalar_ready[code >> 6] >> (code & 63) & 1), 0))
      register_fault(i, code, 0);
  }

  // A vector register about to be written: no load to it may be in flight. What a load is still to
  // write is not ready, so ready registers need no look at the requests.
  void overwrite(const Instruction& i, u16 code, u64 which) {
    u64& ready = vector_ready[code - operand::v0];
    if (__builtin_expect((which & ~ready) != 0, 0)) check_overwrite(i, code, which);
    ready |= which;
  }
  void check_overwrite(const Instruction& i, u16 code, u64 which);

  // Scalar operands of 32 and 64 bits: registers, inline integers and (as f32, f64 bits) floats,
  // literals, SCC/VCCZ/EXECZ. A 64-bit literal is the zero-extended word; f64 handlers shift it.
  u32 read_scalar(const Instruction& i, u16 code);
  u64 read_scalar64(const Instruction& i, u16 code);
  void write_scalar(const Instruction& i, u16 code, u32 value);
  void write_scalar64(const Instruction& i, u16 code, u64 value);

  // Source n of a vector instruction as 64 lanes, without modifiers: the register itself, or
  // `room` filled with the scalar. Checks the lanes of `which` (default: EXEC).
  const Lanes& source(const Instruction& i, u16 code, Lanes& room, u64 which);
  const Lanes& source(const Instruction& i, u16 code, Lanes& room) {
    return source(i, code, room, exec());
  }

  // Writes the lanes of `which` of a vector register (destination code >= v0).
  void write(const Instruction& i, u16 code, const Lanes& value, u64 which);
  void write(const Instruction& i, u16 code, const Lanes& value) {
    write(i, code, value, exec());
  }
};

}  // namespace aiter_moe::emulator

#include "emulator/wave_inline.h"
