// SPDX-License-Identifier: MIT
// What the emulator's shared library offers beside the HIP calls of hip_api.h: options, faults,
// counters and the executed instructions of the last launch. Mirrored by
// aiter_moe/targets/emulator_report.py. All calls may come from any thread; a launch runs to its end
// before hipModuleLaunchKernel returns, and "last" means the last one of the process.
#pragma once

#include "common/export.h"
#include "emulator/counters.h"
#include "emulator/fault.h"

namespace aiter_moe::emulator {

struct InstructionHits {
  u32 pc;
  u32 kind;        // Class
  u64 hits;
  char text[128];  // disassembled, mnemonic first
};

}  // namespace aiter_moe::emulator

// Options: "arch" (942, 950: what hipSetDevice does, by name; of the calling thread), "seed" (order
// of waves), "checks" (mask of bit(FaultKind); default all), "threads" (0: all CPUs),
// "instruction_limit" (per wave). Returns 0, or -1 for an unknown option or value.
AITER_MOE_EXPORT int aiter_moe_emulator_set(const char* option, long value);

// Makes the registered range that begins at `base` one that kernels may only read, so that a store
// to it is a fault. Returns 0, or -1 where none begins there.
AITER_MOE_EXPORT int aiter_moe_emulator_read_only(const void* base);

// Ends the launch under way early, as if its waves had ended; called while another thread is in
// hipModuleLaunchKernel. A launch that starts afterwards does not notice.
AITER_MOE_EXPORT void aiter_moe_emulator_stop();

// Copies the distinct faults of the last launch, at most `capacity`; returns how many there are.
AITER_MOE_EXPORT long aiter_moe_emulator_faults(aiter_moe::emulator::Fault* out, long capacity);

AITER_MOE_EXPORT void aiter_moe_emulator_counters(aiter_moe::emulator::Counters* out);

// Every instruction of the last launched kernel in address order, with how often it ran.
AITER_MOE_EXPORT long aiter_moe_emulator_instructions(
    aiter_moe::emulator::InstructionHits* out, long capacity);

// CPU time that the waves of the last launch took, over all threads.
AITER_MOE_EXPORT double aiter_moe_emulator_seconds();

// Lists a code object, or, with `arch` 942 or 950 instead of 0, bare words: a line an instruction,
// its byte offset in hexadecimal and its text. Returns the length of the listing, of which `out`
// gets the first `capacity` characters; -1 with the reason in `out` for what is no code object.
AITER_MOE_EXPORT long aiter_moe_emulator_disassemble(
    const unsigned char* data, unsigned long bytes, unsigned int arch, char* out, long capacity);

// Sizes of Fault, Counters, InstructionHits, for the mirrors to check.
AITER_MOE_EXPORT long aiter_moe_emulator_struct_size(int which);
