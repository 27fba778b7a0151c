// SPDX-License-Identifier: MIT
// What a launch did, in numbers. Instruction counts by mnemonic come from the per-instruction
// hits of the launch (api.h); these are the figures that depend on data and time.
// Mirrored by aiter_moe/targets/emulator_report.py.
#pragma once

#include "emulator/isa/instruction.h"

namespace aiter_moe::emulator {

struct Counters {
  u64 workgroups;
  u64 waves;
  u64 instructions;
  u64 barriers;               // per wave
  u64 vmem_load_bytes;        // asked for by active lanes, after the buffer range check
  u64 vmem_store_bytes;
  u64 vmem_atomic_bytes;
  u64 vmem_lines;             // distinct 128-byte lines, summed over instructions
  u64 vmem_ideal_lines;       // lines the same bytes would take if they were contiguous
  u64 lds_dma_bytes;          // part of vmem_load_bytes that goes to the LDS
  u64 buffer_lanes_masked;    // active lanes that the descriptor's range check turned off
  u64 smem_bytes;
  u64 scratch_bytes;
  u64 lds_read_bytes;
  u64 lds_write_bytes;
  u64 lds_cycles;             // cycles the accesses take with their bank conflicts
  u64 lds_conflict_cycles;    // part of them beyond what a conflict-free access takes
  u64 peak_vector_requests;   // most vector memory requests a wave had in flight
  u64 peak_vector_bytes;      // most bytes of loads a wave had in flight
  u64 peak_other_requests;    // LDS and scalar requests
};

}  // namespace aiter_moe::emulator
