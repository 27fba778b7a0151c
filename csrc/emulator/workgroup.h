// SPDX-License-Identifier: MIT
// A workgroup under way, and what all workgroups of a launch share.
#pragma once

#include "emulator/memory/allocations.h"
#include "emulator/memory/lds.h"
#include "emulator/wave.h"

namespace aiter_moe::emulator {

struct Program;     // decoded kernel: code_object.h
class FaultLog;     // collects faults of a launch over all threads: machine/fault_log.h
class GroupFaults;  // those of one workgroup

struct LaunchState {
  const Program* program;
  const Allocations* memory;  // every registered range of global memory
  FaultLog* faults;
  u32 checks;                 // bit(FaultKind) of the checks that are on
  u32 arch;                   // 942 or 950
  u64 seed;
  u64 instruction_limit;      // per wave
  const u8* arguments;        // kernel argument segment
  u32 grid[3];                // workgroups
  u32 block[3];               // lanes
  u32 dynamic_lds;
};

struct Workgroup {
  LaunchState* launch;
  u32 id[3];
  Lds lds;        // bytes and their shadow
  u8* scratch;    // scratch_bytes for every lane of every wave
  u32 scratch_bytes;  // a lane
  Wave* waves;
  u32 wave_count;
  u64* hits;      // executions per instruction, of this thread
  GroupFaults* faults;
};

}  // namespace aiter_moe::emulator
