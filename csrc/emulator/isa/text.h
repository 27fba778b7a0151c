// SPDX-License-Identifier: MIT
// Instructions as assembly text. Stub.
#pragma once
#include "emulator/isa/opcode.h"
namespace aiter_moe::emulator {
inline void format_instruction(const Instruction& i, char* out, int capacity) {
  const char* name = i.opcode == nullptr ? "unknown" : i.opcode->name;
  int n = 0;
  for (; name[n] != 0 && n < capacity - 1; ++n) out[n] = name[n];
  if (capacity > 0) out[n] = 0;
}
}
