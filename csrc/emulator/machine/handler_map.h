// SPDX-License-Identifier: MIT
// All handler tables as one map from mnemonic to handler, made on first use, and the handler of
// instructions nobody executes.
#pragma once

#include "emulator/exec/matrix.h"
#include "emulator/exec/scalar.h"
#include "emulator/exec/vector.h"
#include "emulator/machine/text.h"
#include "emulator/memory/handlers.h"

namespace aiter_moe::emulator {

inline void report_unknown(Wave& w, const Instruction& i) {
  w.fault(FaultKind::unknown_instruction, i, 0, 0,
          i.opcode == nullptr ? "no such instruction in the opcode table"
                              : "the emulator does not execute this instruction");
}

class HandlerMap {
 public:
  void add(const HandlerTable& table) {
    for (int i = 0; i < table.count; ++i) slots_[slot_of(table.entries[i].mnemonic)] =
        &table.entries[i];
  }

  Instruction::Handler find(const char* mnemonic) const {
    const HandlerEntry* entry = slots_[slot_of(mnemonic)];
    return entry == nullptr ? &report_unknown : entry->run;
  }

 private:
  static constexpr u32 capacity = 4096;  // a power of two, more than twice the mnemonics there are

  // The slot that holds the mnemonic, or the free one where it belongs (FNV-1a, linear probing).
  u32 slot_of(const char* mnemonic) const {
    u32 hash = 0x811C9DC5;
    for (const char* c = mnemonic; *c != 0; ++c) hash = (hash ^ static_cast<u8>(*c)) * 0x01000193;
    u32 slot = hash % capacity;
    while (slots_[slot] != nullptr && !same_text(slots_[slot]->mnemonic, mnemonic)) {
      slot = (slot + 1) % capacity;
    }
    return slot;
  }

  const HandlerEntry* slots_[capacity];
};

inline Instruction::Handler find_handler(const Opcode& opcode) {
  static HandlerMap map;
  static u32 once;  // 0 untouched, 1 being filled, 2 filled
  u32 untouched = 0;
  if (__atomic_compare_exchange_n(&once, &untouched, 1, false, __ATOMIC_ACQUIRE,
                                  __ATOMIC_ACQUIRE)) {
    const HandlerTable tables[] = {vector_handlers, scalar_handlers, matrix_handlers,
                                   memory_handlers};
    for (const HandlerTable& table : tables) map.add(table);
    __atomic_store_n(&once, 2, __ATOMIC_RELEASE);
  }
  while (__atomic_load_n(&once, __ATOMIC_ACQUIRE) != 2) host_yield();
  return map.find(opcode.name);
}

}  // namespace aiter_moe::emulator
