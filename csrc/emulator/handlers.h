// SPDX-License-Identifier: MIT
// How handlers are found: each file of exec/ and memory/ lists mnemonic -> handler, and the tables
// are joined once (machine). A mnemonic of the opcode table without a handler decodes, and is
// reported as unknown when it would run.
#pragma once

#include "emulator/isa/instruction.h"

namespace aiter_moe::emulator {

struct HandlerEntry {
  const char* mnemonic;
  Instruction::Handler run;
};

// Tables, each defined in the header named; a table has `count` entries.
struct HandlerTable {
  const HandlerEntry* entries;
  int count;
};

template <int n>
constexpr HandlerTable table_of(const HandlerEntry (&entries)[n]) {
  return {entries, n};
}

}  // namespace aiter_moe::emulator
