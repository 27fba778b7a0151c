// SPDX-License-Identifier: MIT
// What a launch did wrong. Handlers report through Wave::fault; a launch keeps the first
// occurrences of distinct (kind, instruction) pairs, and goes on unless the kind is fatal.
// Mirrored by aiter_moe/targets/emulator_report.py.
#pragma once

#include "emulator/isa/instruction.h"

namespace aiter_moe::emulator {

enum class FaultKind : u32 {
  unknown_instruction,   // fatal
  bad_instruction,       // fatal: operands or modifiers this instruction cannot have
  global_out_of_range,   // no registered allocation holds the access
  buffer_out_of_range,   // in the descriptor's range, but no allocation; or partly out of range
  lds_out_of_range,
  scratch_out_of_range,
  misaligned,            // an address the hardware would refuse
  undefined_register,    // read before it was written
  undefined_lds,
  in_flight_register,    // used before the waitcnt of the load that writes it
  in_flight_lds,         // read or overwritten before the waitcnt of a DMA load
  lds_race,              // two waves, one writes, no barrier between
  barrier_divergence,    // waves wait at a barrier for one that hangs; one that has ended holds no
                         // barrier shut, as on hardware
  hang,                  // fatal: more instructions than the limit
  count
};

constexpr u32 bit(FaultKind kind) { return 1u << static_cast<u32>(kind); }

// One distinct fault. All text is zero-terminated.
struct Fault {
  u32 kind;
  u32 pc;            // byte offset in the text section
  u64 occurrences;
  u64 address;       // of memory faults
  u32 group[3];      // workgroup of the first occurrence
  u32 wave;          // in the workgroup
  u32 lane;          // first offending lane
  u32 unused;
  char kernel[256];
  char instruction[128];  // disassembled
  char detail[256];       // what was found, e.g. "v12 lanes 0x00ff"
};

}  // namespace aiter_moe::emulator
