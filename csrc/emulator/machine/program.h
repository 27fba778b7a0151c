// SPDX-License-Identifier: MIT
// What handlers ask of the program they are part of: addresses of instructions in the loaded
// image, and the architecture.
#pragma once

#include "emulator/code_object.h"
#include "emulator/exec/architecture.h"
#include "emulator/exec/scalar_flow.h"
#include "emulator/workgroup.h"

namespace aiter_moe::emulator {

inline u32 architecture(const Workgroup& group) { return group.launch->arch; }

// Past the last instruction: the address behind it.
inline u64 address_of(const Workgroup& group, u32 index) {
  const Program& program = *group.launch->program;
  const Instruction& i = program.code[smaller(index, program.count - 1)];
  return reinterpret_cast<u64>(program.text) + i.pc + (index < program.count ? 0 : i.bytes);
}

// Instructions are in the order of their addresses.
inline u32 index_of(const Workgroup& group, u64 address) {
  const Program& program = *group.launch->program;
  const u64 pc = address - reinterpret_cast<u64>(program.text);
  u32 low = 0, high = program.count;
  while (low < high) {
    const u32 middle = (low + high) / 2;
    if (program.code[middle].pc < pc) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < program.count && program.code[low].pc == pc ? low : nowhere;
}

}  // namespace aiter_moe::emulator
