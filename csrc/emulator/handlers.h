// SPDX-License-Identifier: MIT
// How handlers are found: tables in exec/ and memory/ list mnemonic -> handler, and are joined
// once (machine/handler_map.h). A mnemonic of the opcode table without a handler decodes, and is
// reported as unknown when it would run.
#pragma once

#include "emulator/isa/instruction.h"

namespace aiter_moe::emulator {

struct HandlerEntry {
  const char* mnemonic;
  Instruction::Handler run;
};

// What one part of the instruction set is executed by.
struct HandlerTable {
  const HandlerEntry* entries;
  int count;
};

template <int n>
constexpr HandlerTable table_of(const HandlerEntry (&entries)[n]) {
  return {entries, n};
}

}  // namespace aiter_moe::emulator
